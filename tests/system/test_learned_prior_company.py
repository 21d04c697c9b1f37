"""Learned priors on synthetic companies whose true lifts are written down: shrinkage on experiments held out."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from stats.bayes.population import FEWEST_EXPERIMENTS, population
from stats.company import generate
from tests.system.company_coverage import BROKEN, START, documents, experiments_of, true_lifts

COMPANIES, USERS, SPLITS = 6, 20_000, 10


@dataclass(frozen=True, slots=True)
class Effect:
    """The best measured variant of one experiment: what was measured and what is true, on the log scale."""

    company: int
    experiment_key: str
    metric_key: str
    log_lift: float
    standard_error: float
    truth: float


def past_of(number: int) -> Iterator[Effect]:
    """What the experiments of one company measured, as `experiments.effect_history` would read it."""
    company = generate(START.date(), seed=1000 + number, users=USERS)
    records = [record for record in experiments_of(company) if record.spec.get("purpose") != "aa"]
    truth = true_lifts(company)
    for document in documents(company, records):
        if document["experiment_key"] == BROKEN:
            continue
        best: dict[str, dict[str, float | str]] = {}
        for row in document["rows"]:
            if row["segment"] is None and row["lift"] is not None and row["standard_error"]:
                known = best.get(row["metric_key"])
                if known is None or row["standard_error"] < known["standard_error"]:
                    best[row["metric_key"]] = row
        for key, row in best.items():
            lift = float(row["lift"])
            yield Effect(
                company=number,
                experiment_key=document["experiment_key"],
                metric_key=key,
                log_lift=float(np.log1p(lift)),
                standard_error=float(row["standard_error"]) / (1 + lift),
                truth=float(np.log1p(truth[document["experiment_key"], str(row["variant_key"]), key])),
            )


@pytest.fixture(scope="module")
def past() -> dict[str, list[Effect]]:
    """By metric, the effects of all companies."""
    found: dict[str, list[Effect]] = defaultdict(list)
    for number in range(COMPANIES):
        for effect in past_of(number):
            found[effect.metric_key].append(effect)
    return {key: effects for key, effects in found.items() if len(effects) >= 2 * FEWEST_EXPERIMENTS}


def columns(effects: list[Effect]) -> np.ndarray:
    """Measured, its error, and truth: (3, K)."""
    return np.array([(each.log_lift, each.standard_error, each.truth) for each in effects]).T


@pytest.mark.simulation
@pytest.mark.timeout(1800)
def test_a_learned_prior_halves_the_squared_error_of_held_out_experiments(past: dict[str, list[Effect]]) -> None:
    """Half of the experiments teach, the other half, which the prior never saw in any company, is judged."""
    rng = np.random.default_rng(0)
    shrunk = raw = 0.0
    for effects in past.values():
        keys = sorted({each.experiment_key for each in effects})
        if len(keys) < 4:
            continue
        for _ in range(SPLITS):
            teaching = set(rng.permutation(keys)[: len(keys) // 2].tolist())
            x, s, _ = columns([each for each in effects if each.experiment_key in teaching])
            learned = population(x, s).predictive
            assert learned is not None
            x, s, truth = columns([each for each in effects if each.experiment_key not in teaching])
            shrunk += float(((learned.given(x, s).moments()[0] - truth) ** 2).sum())
            raw += float(((x - truth) ** 2).sum())
    assert shrunk / raw < 0.5, f"squared error {shrunk / raw:.3f} of that of raw estimates"


@pytest.mark.simulation
@pytest.mark.timeout(1800)
def test_leaving_one_out_shrinks_and_covers_within_one_company(past: dict[str, list[Effect]]) -> None:
    """As the service does it: every experiment under the prior that the others of its company teach."""
    shrunk = raw = 0.0
    covered: list[bool] = []
    for effects in past.values():
        for number in range(COMPANIES):
            mine = [each for each in effects if each.company == number]
            if len(mine) < FEWEST_EXPERIMENTS:
                continue
            x, s, truth = columns(mine)
            found = population(x, s)
            assert found.without is not None
            shrunk += float(((found.shrunk_mean - truth) ** 2).sum())
            raw += float(((x - truth) ** 2).sum())
            below = found.without.given(x, s).cdf(truth[:, None])[:, 0]
            covered += ((below > 0.025) & (below < 0.975)).tolist()
    assert shrunk / raw < 0.5, f"squared error {shrunk / raw:.3f} of that of raw estimates"
    assert np.mean(covered) > 0.9, f"coverage {np.mean(covered):.3f} over {len(covered)} experiments"
