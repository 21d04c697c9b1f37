"""Does the ledger's 95 % cover 95 %? Companies drawn from its own model, and from ones that it does not know (F6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import kstest

from stats.ledger import backtest, collapsed
from stats.ledger.contract import Array, LedgerPriors
from stats.ledger.lines import contrast
from tests.stats.ledger.companies import TYPICAL, Story, company

type Tell = Callable[[str, object], None]
pytestmark = pytest.mark.simulation
PRIORS = LedgerPriors()
AFTER = np.arange(91, 104)
BEFORE = AFTER - 52
SCALARS = ("mean", "tau", "kappa", "scatter", "remaining", "weeks", "noise", "level_step", "slope_step")
LINES = ("launches", "season", "outside", "base", "noise")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where truths lie in their posteriors, and the launch total of the last 13 weeks: true, claimed, posterior."""

    ranks: dict[str, float]
    true: float
    claimed: float
    claimed_error: float
    mean: float


@pytest.fixture
def tell(record_property: Tell) -> Tell:
    """Write a row of the table into the test's report."""
    return record_property


def outcomes(story: Story, seeds: Sequence[int], priors: LedgerPriors = PRIORS) -> list[Outcome]:
    """One for each company whose series is long enough."""
    found = []
    for seed in seeds:
        data, truth = company(seed, story)
        if data.source.size == 0 or not collapsed.long_enough(data):
            continue
        fit = collapsed.fit(data, priors, seed=seed, draws=600)
        got = contrast(fit, AFTER, BEFORE).log
        total = (fit.path[:, AFTER].mean(axis=1) * fit.theta).sum(axis=1)
        true = truth.launched[AFTER].mean(axis=0).sum()
        parts = {
            "launches": truth.launched.sum(axis=1),
            "season": truth.season,
            "outside": truth.outside.sum(axis=1),
            "base": truth.level,
            "noise": truth.noise,
        }
        change = {name: float((part[AFTER] - part[BEFORE]).mean()) for name, part in parts.items()}
        measured = data.source >= 0
        weight = data.coverage[AFTER].mean(axis=0)[measured]
        ranks = {name: float((fit.scalars[name] < truth.scalars[name]).mean()) for name in SCALARS}
        ranks |= {f"line {name}": float((got[name] < change[name]).mean()) for name in LINES}
        found.append(
            Outcome(
                ranks=ranks | {"total": float((total < true).mean())},
                true=float(true),
                claimed=float(weight @ data.estimate[data.source[measured]]),
                claimed_error=float(np.sqrt(weight**2 @ data.error[data.source[measured]] ** 2)),
                mean=float(total.mean()),
            )
        )
    return found


def ranks(found: list[Outcome], name: str) -> Array:
    return np.array([outcome.ranks[name] for outcome in found])


def covered(found: list[Outcome], name: str, level: float = 0.95) -> float:
    return float((np.abs(ranks(found, name) - 0.5) <= level / 2).mean())


def row(found: list[Outcome]) -> str:
    """As METHODS prints it: true, claimed and its coverage, ledger and its error, its coverage, kappa's coverage."""
    true, claimed, error, mean = (
        np.array([getattr(outcome, part) for outcome in found]) for part in ("true", "claimed", "claimed_error", "mean")
    )
    naive = (np.abs(claimed - true) < 1.96 * error).mean()
    levels = "/".join(f"{covered(found, 'total', level):.2f}" for level in (0.5, 0.8, 0.9, 0.95))
    wrong = [float(np.sqrt(((guess - true) ** 2).mean())) for guess in (mean, claimed)]
    return (
        f"n={len(found):<4} true {true.mean():6.3f} claimed {claimed.mean():6.3f} ({naive:.2f}) "
        f"ledger {mean.mean():6.3f} rmse {wrong[0]:.3f} ({wrong[1]:.3f}) covers {levels} "
        f"kappa {covered(found, 'kappa'):.2f}"
    )


def least(nominal: float, count: int) -> float:
    """Three Monte-Carlo standard errors below (METHODS I1)."""
    return nominal - 3 * float(np.sqrt(nominal * (1 - nominal) / count))


def test_companies_drawn_from_the_model_are_covered_and_ranks_are_uniform(tell: Tell):
    found = outcomes(Story(), range(1000, 1120))
    tell("from the priors", row(found))
    for name in found[0].ranks:
        tell(name, f"80 % {covered(found, name, 0.8):.3f} 95 % {covered(found, name):.3f}")
        assert covered(found, name) >= least(0.92, len(found)), name
        assert kstest(ranks(found, name), "uniform").pvalue > 0.001, name


def test_everything_at_once_is_covered(tell: Tell):
    """Blind launches, grade bias, measured persistence and a holdout."""
    story = Story(blind=3, biased=True, measured_persistence=True, holdout_error=0.01)
    found = outcomes(story, range(2000, 2040))
    tell("everything", row(found))
    assert covered(found, "total") >= least(0.95, len(found))
    assert covered(found, "kappa") >= least(0.95, len(found))


@pytest.mark.parametrize(
    ("name", "story"),
    [
        ("typical", Story(scalars=TYPICAL)),
        ("typical with a holdout", Story(scalars=TYPICAL, holdout_error=0.01)),
        ("hidden launches", Story(scalars=TYPICAL, hidden=6)),
        ("cannibalisation", Story(scalars=TYPICAL, lost_to_others=0.3)),
        ("t3 effects", Story(scalars=TYPICAL, fat_tails=3.0)),
        ("outage", Story(scalars=TYPICAL, outage=0.15)),
        ("effects decay to a half", Story(scalars=TYPICAL | {"remaining": 0.5})),
    ],
)
def test_the_launch_total_holds_under_stress(name, story, tell: Tell):
    found = outcomes(story, range(3000, 3040))
    tell(name, row(found))
    assert covered(found, "total") >= least(0.92, len(found))


def test_decay_that_the_ledger_is_not_told_of_is_booked_as_launches(tell: Tell):
    """The one stress that breaks it (METHODS F6): persistence belongs in the model."""
    story = Story(scalars={"remaining": 0.5}, told_of_decay=False)
    found = outcomes(story, range(7500, 7540))
    tell("decay, not told", row(found))
    assert np.mean([outcome.mean - outcome.true for outcome in found]) > 0.02
    assert covered(found, "total") < 0.85
    assert np.mean([outcome.mean < outcome.claimed for outcome in found]) > 0.8


def test_a_normal_population_covers_effects_with_fat_tails_no_better(tell: Tell):
    story = Story(scalars=TYPICAL, fat_tails=3.0)
    normal = outcomes(story, range(3000, 3040), replace(PRIORS, nu=np.inf))
    tell("t3 effects, normal fitted", row(normal))
    assert covered(normal, "total") >= least(0.90, len(normal))


def test_what_came_lies_in_the_prediction_as_often_as_it_says():
    quantiles = []
    for seed in range(8000, 8040):
        data, _ = company(seed, Story())
        found = backtest.backtest(data, PRIORS, seed=seed)
        if not found.reason:
            quantiles.append(found.quantile)
    assert kstest(quantiles, "uniform").pvalue > 0.001
    assert np.mean(np.abs(np.array(quantiles) - 0.5) <= 0.4) >= least(0.8, len(quantiles))
