"""The ledger by NUTS: its density, the same answers as the collapsed engine's, and what it refuses (METHODS F6)."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.ledger import DEFINITION, LedgerQuestion, ledger_fit
from stats.bayes.models.ledger_density import SCALARS, ledger_density
from stats.bayes.models.ledger_layout import layout_of, persistence, unfolded
from stats.bayes.sampling.contract import Sampling
from stats.ledger import collapsed
from stats.ledger.contract import LedgerData, LedgerFit, LedgerPriors
from stats.ledger.series_covariance import covariance, series
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.ledger import PRIORS, make_ledger, simulate

SCALES = ("noise", "level_step", "tau")
pytestmark = pytest.mark.xdist_group("pymc")


def small(seed: int, *, holdout: bool = True) -> LedgerData:
    return make_ledger(np.random.default_rng(seed), weeks=30, experiments=6, blind=2, threshold=0.5, holdout=holdout)[0]


def written_out(z: np.ndarray, data: LedgerData, priors: LedgerPriors) -> float:
    """Priors by scipy, experiments one by one, and the series as one multivariate normal with all of its covariance."""
    layout = layout_of(data, priors)
    found = unfolded(z[None], data, priors, layout)
    scalars = {name: float(values[0]) for name, values in found.scalars.items()}
    total = 0.0
    for k, name in enumerate(SCALARS):
        prior = getattr(priors, name)
        if name in ("tau", "scatter", "noise", "level_step", "slope_step"):
            above = unfolded((z + 1e-6 * np.eye(z.size)[k])[None], data, priors, layout).scalars[name][0]
            total += sps.halfnorm(scale=prior).logpdf(scalars[name]) + np.log((above - scalars[name]) / 1e-6)
        else:
            total += sps.norm.logpdf(z[k])
    tails = found.precision[0]
    total += (sps.gamma(priors.nu / 2, scale=2 / priors.nu).logpdf(tails) + np.log(tails)).sum()
    idle = np.ones(z.size, dtype=bool)
    idle[: len(SCALARS)] = idle[layout.tail] = False
    total += sps.norm.logpdf(z[idle]).sum()
    wide = scalars["tau"] ** 2 / tails + data.error**2 + data.bias_sd**2
    total += sps.norm(scalars["mean"], np.sqrt(wide)).logpdf(data.estimate).sum()
    weights = np.stack([persistence(data, found, layout.begun, week)[0] for week in range(data.log_values.size)])
    weights[np.arange(data.log_values.size)[:, None] < layout.begun] = 0.0
    ready = series(data, priors)
    shapes = ready.fixed[ready.known]
    whole = covariance(ready, *(scalars[name] for name in ("noise", "level_step", "slope_step"))) + shapes @ shapes.T
    left = (ready.value - weights @ found.theta[0])[ready.known]
    total += sps.multivariate_normal(np.zeros(left.size), whole).logpdf(left)
    for week, held, estimate, error in zip(
        data.holdout_week, data.held_out, data.holdout_estimate, data.holdout_error, strict=True
    ):
        total += sps.norm(weights[week] * held @ found.theta[0], error).logpdf(estimate)
    return float(total)


def test_the_density_is_that_of_priors_experiments_and_one_multivariate_normal() -> None:
    """The level begins anywhere here, and within 1 in the covariance written out; an unknown week is 1 wide."""
    data, rng = small(1), np.random.default_rng(2)
    assert data.held_out.size and np.isnan(data.log_values).any()
    question = LedgerQuestion(data)
    points = 0.7 * rng.standard_normal((4, layout_of(data, PRIORS).size))
    gaps = [ledger_density(z, **question.data())[0] - written_out(z, data, PRIORS) for z in points]
    assert np.ptp(gaps) < 2e-3


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), normal=st.booleans(), holdout=st.booleans())
def test_the_gradient_is_that_of_the_density(seed: int, normal: bool, holdout: bool) -> None:
    rng = np.random.default_rng(seed)
    question = LedgerQuestion(small(seed, holdout=holdout), replace(PRIORS, nu=np.inf) if normal else PRIORS)
    data = question.data()
    z = 1.2 * rng.standard_normal(question.size)
    _, gradient = ledger_density(z, **data)
    for _ in range(8):
        direction = rng.standard_normal(z.size) / np.sqrt(z.size)
        above, below = (ledger_density(z + sign * 1e-5 * direction, **data)[0] for sign in (1, -1))
        assert gradient @ direction == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-4)


def test_parameters_that_nothing_refers_to_touch_nothing() -> None:
    data = small(3)
    used, question = layout_of(data, PRIORS).size, LedgerQuestion(data)
    z = np.random.default_rng(4).standard_normal(question.size)
    padded, gradient = ledger_density(z, **question.data())
    bare, bare_gradient = ledger_density(z[:used], **question.data())
    assert padded == pytest.approx(bare - 0.5 * (z[used:] ** 2).sum(), abs=1e-9)
    np.testing.assert_allclose(gradient, np.append(bare_gradient, -z[used:]), atol=1e-9)


def quantities(found: LedgerFit) -> dict[str, np.ndarray]:
    """What the engines have to agree on, (S,) each."""
    year = slice(-13, None), slice(-65, -52)
    base = found.level[:, year[0]].mean(axis=1) - found.level[:, year[1]].mean(axis=1)
    return {
        "launches": (found.path[:, -1] * found.theta).sum(axis=1),
        "base": base,
        "effects": found.delta.sum(axis=1),
        "first launch": found.theta[:, 0],
        "slope": found.slope[:, -1],
        "season": found.season[:, 30],
        **{name: found.scalars[name] for name in ("kappa", "noise", "level_step", "tau", "remaining")},
    }


def assert_engines_agree(one: LedgerFit, other: LedgerFit, other_size: float) -> None:
    """Quantiles lie at their own chances among the other's draws, within 4 errors of both.

    Tails of scales are allowed 0.04 more: from seed to seed importance sampling puts the 5 % quantile of the level's
    steps where NUTS has 3 to 10 %.
    """
    sampled = quantities(other)
    for name, draws in quantities(one).items():
        for chance in (0.05, 0.5, 0.95):
            error = np.sqrt(chance * (1 - chance) * (1 / one.diagnostics["ess"] + 1 / other_size))
            below = (sampled[name] <= np.quantile(draws, chance)).mean()
            slack = 0.04 if name in SCALES else 0.0
            assert abs(below - chance) < 4 * error + slack, f"{name}: its {chance} quantile is at {below}"


def answered(program_of: ProgramOf, data: LedgerData, priors: LedgerPriors, seed: int) -> tuple[ModelFit, LedgerFit]:
    found = fit(LedgerQuestion(data, priors), program_of, Sampling(), seed=seed)
    assert found.status == "ok", found.reason
    return found, ledger_fit(found, data, priors, seed)


def test_both_engines_find_the_same_ledger_and_it_adds_up(program_of: ProgramOf) -> None:
    data, truth = make_ledger(np.random.default_rng(5), experiments=20, blind=2, holdout=True)
    found, ledger = answered(program_of, data, PRIORS, 1)
    assert found.diagnostics is not None and found.diagnostics.divergences == 0
    assert_engines_agree(collapsed.fit(data, PRIORS, seed=2), ledger, found.diagnostics.ess_bulk / 2)
    whole = ledger.level + ledger.season + ledger.outside.sum(axis=2) + ledger.noise
    whole = whole + np.einsum("stj,sj->st", ledger.path, ledger.theta)
    known = np.isfinite(data.log_values)
    assert np.abs(whole - data.log_values)[:, known].max() < 1e-9
    assert found.hyper["kappa"][1] < truth["kappa"] < found.hyper["kappa"][2]
    # Persistence that was measured comes from its posterior, not again from its measurement.
    assert ledger.scalars["remaining:0"].size == ledger.scalars["kappa"].size
    np.testing.assert_allclose(ledger.scalars["remaining:0"], found.draws["remaining:0"])


@pytest.mark.simulation
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("seed", "holdout", "nu"), [(11, False, 4.0), (12, True, 4.0), (13, False, np.inf)])
def test_both_engines_find_the_same_ledger_of_sixty_experiments(
    program_of: ProgramOf, seed: int, holdout: bool, nu: float
) -> None:
    priors = replace(PRIORS, nu=nu)
    data, _ = make_ledger(np.random.default_rng(seed), holdout=holdout, priors=priors)
    found, ledger = answered(program_of, data, priors, seed)
    assert found.diagnostics is not None and found.diagnostics.divergences == 0
    assert_engines_agree(collapsed.fit(data, priors, seed=seed), ledger, found.diagnostics.ess_bulk / 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"log_values": np.full(30, np.nan)}, "values in 0 weeks"),
        ({"log_values": np.where(np.arange(30) < 7, 10.0, np.nan)}, "values in 7 weeks"),
        ({"estimate": np.zeros(1000), "error": np.ones(1000), "bias_sd": np.zeros(1000)}, "more than the model's 1000"),
    ],
)  # fmt: skip
def test_ledgers_that_it_cannot_sample_are_refused_with_a_reason(change: dict[str, np.ndarray], words: str) -> None:
    question = LedgerQuestion(replace(small(6), **change))
    refused = fit(question, lambda definition, size: pytest.fail("asked"), Sampling(), seed=1)
    assert refused.status == "not_estimable" and words in refused.reason
    with pytest.raises(ValueError, match="there is no ledger"):
        ledger_fit(refused, question.ledger, PRIORS, 1)


def test_questions_travel_between_processes() -> None:
    question = LedgerQuestion(small(7))
    again = pickle.loads(pickle.dumps(question))
    for name, values in question.data().items():
        np.testing.assert_array_equal(again.data()[name], values)


@settings(max_examples=4, deadline=None)
@given(shift=st.floats(-20, 20))
def test_the_unit_of_the_north_star_is_nothing_to_it(shift: float) -> None:
    data = small(8)
    moved = LedgerQuestion(replace(data, log_values=data.log_values + shift)).data()
    for name, values in LedgerQuestion(data).data().items():
        np.testing.assert_allclose(moved[name], values, atol=1e-9)


@pytest.mark.simulation
@pytest.mark.timeout(3600)
def test_simulation_based_calibration(program_of: ProgramOf) -> None:
    """With persistence, some of it measured, t4 effects, biased evidence, shared and blind launches, holdouts."""
    from tests.bayes.calibration import calibrate

    found = calibrate(simulate, program_of(DEFINITION, 128), 200, seed=71)
    assert min(found.p_values(10).values()) > 0.001
    assert all(abs(share - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 200) for share in found.coverage().values())
    assert found.divergent <= 10
