"""Uneven counts: the sampled model against quadrature and against rows, its checks, what it refuses (METHODS C2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings

from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.negative_binomial import DEFINITION, TABLED, NegativeBinomialQuestion, from_counts
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Draws, Sampling
from tests.bayes.agreement import assert_moments, assert_same, sampled
from tests.bayes.calibration import calibrate
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.gamma_poisson import Rows
from tests.bayes.stories.negative_binomial import (
    BASELINE,
    PRIOR,
    drawn_counts,
    make_rows,
    question_of,
    row_level,
    simulate,
)

pytestmark = pytest.mark.xdist_group("pymc")

ROWS = make_rows(np.random.default_rng(1), 300)
QUESTION = question_of(ROWS)


def near_the_truth(question: NegativeBinomialQuestion, mean: float, dispersion: float) -> ModelFit:
    """A summary of draws that sit on these parameters: what checks say does not hang on a sampler."""
    arms = len(question.units)
    rng = np.random.default_rng(2)
    wobble = np.exp(0.01 * rng.standard_normal((2, 500, arms)))
    draws = Draws({"mean": mean * wobble, "dispersion": np.repeat(dispersion * wobble[..., :1], arms, axis=-1)}, 0)
    return question.summarise(draws, 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tail_units": np.array([0.0, 0.0, 3.0])}, "does not add up to the units"),
        ({"total": QUESTION.total + 1}, "does not add up to the events"),
        ({"total": QUESTION.total - 1}, "does not add up to the events"),
        ({"total": np.zeros(3)}, "no arm has any events"),
        ({"frequency": QUESTION.frequency[:, :20]}, "incomplete"),
        ({"squares": np.array([1.0, np.nan, 1.0])}, "missing or negative"),
        ({"units": np.array([0.0, 300.0, 300.0])}, "an arm has no units"),
    ],
)
def test_tables_that_are_not_of_counts_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImpossibleData, match=reason):
        replace(QUESTION, **changes).data()


def test_checks_pass_the_models_own_counts_and_fail_others() -> None:
    rng = np.random.default_rng(5)
    own = from_counts([drawn_counts(rng, np.full(3000, 2.0), 1.3) for _ in range(2)], PRIOR)
    assert all(check.passed for check in near_the_truth(own, 2.0, 1.3).checks)
    # Nobody, or everybody about equally: too many zeros for the dispersion of the rest.
    inflated = from_counts([rng.poisson(4.0, 3000) * (rng.random(3000) < 0.5) for _ in range(2)], PRIOR)
    failed = {check.statistic for check in near_the_truth(inflated, 2.0, 1.3).checks if not check.passed}
    assert "share of zeros" in failed
    # A few enormous users: the tail of a lognormal, not of a gamma.
    heavy = from_counts([rng.poisson(np.exp(rng.normal(-0.8, 1.7, 3000))) for _ in range(2)], PRIOR)
    failed = {
        check.statistic for check in near_the_truth(heavy, float(heavy.total[0] / 3000), 3.0).checks if not check.passed
    }
    assert "variance" in failed


def test_a_gamma_variable_stands_for_the_variance_of_replicated_counts() -> None:
    rng = np.random.default_rng(6)
    mean, dispersion, units = 2.0, 1.0, 2000
    question = from_counts([drawn_counts(rng, np.full(units, mean), dispersion) for _ in range(2)], PRIOR)
    means, dispersions = np.full((4000, 2), mean), np.full((4000, 2), dispersion)
    check = next(c for c in question.checks(means, dispersions, rng) if c.statistic == "variance")
    variances = drawn_counts(rng, np.full((1000, units), mean), dispersion).var(axis=1, ddof=1)
    assert check.expected == pytest.approx(variances.mean(), rel=0.01)
    assert check.p_value == pytest.approx((variances > check.observed).mean(), abs=0.06)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(2, 200), st.floats(0.1, 60), st.floats(0.05, 5))
def test_a_table_keeps_all_that_the_likelihood_needs(
    seed: int, arms: int, users: int, mean: float, dispersion: float
) -> None:
    rng = np.random.default_rng(seed)
    counts = [drawn_counts(rng, np.full(users, mean), dispersion) for _ in range(arms)]
    counts[0][0] += 1  # somebody did something
    question = from_counts(counts, PRIOR)
    data = question.data()
    assert all(np.isfinite(value).all() for value in data.values())
    assert len(data["units"]) == DEFINITION.size_for(arms)
    assert (data["width"] > 0).all()
    # Units with more than j events, summed over j: the events below the table's end. The rest stands for itself.
    tail = data["large_units"] * (data["large"] - TABLED)
    assert data["above"].sum() + tail.sum() == pytest.approx(sum(c.sum() for c in counts), rel=1e-9)
    values, number = question.large()
    for arm, count in enumerate(counts):
        large = count[count >= TABLED]
        assert number[arm].sum() == pytest.approx(len(large))
        if len(large):
            assert (number[arm] * values[arm]).sum() / len(large) == pytest.approx(large.mean())
            spread = (number[arm] * (values[arm] - large.mean()) ** 2).sum() / len(large)
            assert spread == pytest.approx(large.var(), rel=1e-6, abs=1e-4 * large.mean())


def by_quadrature(rows: Rows) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Mean and sd of both log lifts, and of the log dispersion, of three arms: four parameters on a grid.

    Given the control's log mean and the dispersion, the arms are independent.
    """
    arms = rows.by_arm()
    x = np.log(arms[0].mean()) + np.linspace(-0.5, 0.5, 81)
    lifts = np.linspace(-0.9, 0.9, 361)
    spreads = np.linspace(-0.4, 0.9, 41)
    evidence = np.empty((len(spreads), len(x)))
    moments = np.empty((2, 2, len(spreads), len(x)))

    def log_likelihood(counts: np.ndarray, log_mean: np.ndarray, size: float) -> np.ndarray:
        terms = (sc.gammaln(counts + size) - sc.gammaln(size)).sum()
        odds = np.exp(log_mean) / size
        total = float(counts.sum())
        return terms + total * np.log(odds) - (total + len(counts) * size) * np.log1p(odds)

    for i, spread in enumerate(spreads):
        size = float(np.exp(-spread))
        evidence[i] = log_likelihood(arms[0], x, size) + sps.norm.logpdf(x, *BASELINE) + sps.norm.logpdf(spread, 0, 1.5)
        for arm in (1, 2):
            at = log_likelihood(arms[arm], x[:, None] + lifts, size) + sps.norm.logpdf(lifts, PRIOR.mean, PRIOR.scale)
            weight = np.exp(at - at.max(axis=1, keepdims=True))
            mass = weight.sum(axis=1)
            evidence[i] += at.max(axis=1) + np.log(mass)
            moments[arm - 1, :, i] = weight @ lifts / mass, weight @ lifts**2 / mass
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    first, second = (moments * weight).sum(axis=(2, 3)).T
    mean = float(weight.sum(axis=1) @ spreads)
    return first, np.sqrt(second - first**2), mean, float(np.sqrt(weight.sum(axis=1) @ (spreads - mean) ** 2))


@pytest.mark.simulation
def test_sampling_equals_quadrature(program_of: ProgramOf) -> None:
    draws = program_of(DEFINITION, 3).sample(QUESTION.data(), Sampling(), seed=5)
    mean, sd, spread, spread_sd = by_quadrature(ROWS)
    monitored = QUESTION.monitored(draws)
    assert draws.divergences == 0
    for effect in (0, 1):
        assert_moments(monitored[f"log_lift[{effect + 1}]"], mean[effect], sd[effect])
    assert_moments(np.log(monitored["dispersion"]), spread, spread_sd)


@pytest.mark.simulation
@pytest.mark.parametrize(("shared", "mean"), [(True, 1.0), (False, 1.0), (True, 12.0)])
def test_tables_say_what_rows_say(shared: bool, mean: float, program_of: ProgramOf) -> None:
    rows = make_rows(np.random.default_rng(6), 200)
    rows = Rows(rows.arm, drawn_counts(np.random.default_rng(7), mean * rows.count.mean(), np.full(len(rows.arm), 1.3)))
    question = question_of(rows, PRIOR, shared_dispersion=shared)
    draws = program_of(DEFINITION, 3).sample(question.data(), Sampling(), seed=7)
    of_rows = sampled(row_level(rows, PRIOR, BASELINE, shared_dispersion=shared), ("mean", "dispersion"), seed=8)
    means, dispersions = of_rows["mean"], of_rows["dispersion"]
    for name, values in question.monitored(draws).items():
        if name.startswith("dispersion"):
            other = dispersions.reshape(*values.shape, -1)[..., 0 if shared else int(name[-2])]
        else:
            arm = int(name[-2])
            other = means[..., arm] if name.startswith("mean") else np.log(means[..., arm] / means[..., 0])
        assert_same(values, other, name)


@pytest.mark.simulation
@pytest.mark.parametrize("shared", [True, False])
def test_ranks_of_the_truth_are_uniform(shared: bool, program_of: ProgramOf) -> None:
    found = calibrate(lambda rng: simulate(rng, shared_dispersion=shared), program_of(DEFINITION, 3), 300, seed=9)
    assert min(found.p_values().values()) > 0.001
    assert all(abs(share - 0.9) < 0.055 for share in found.coverage().values())


@pytest.mark.simulation
def test_a_prior_without_opinion_leaves_the_ratio_of_means(program_of: ProgramOf) -> None:
    question = question_of(make_rows(np.random.default_rng(8), 4000), Prior.flat(), None)
    effects = question.summarise(program_of(DEFINITION, 3).sample(question.data(), Sampling(), seed=5), 5).effects
    assert effects is not None
    observed = np.log(question.total[1:] * question.units[0] / question.total[0] / question.units[1:])
    np.testing.assert_array_less(np.abs(effects.log_mean - observed), 0.1 * effects.log_sd)
