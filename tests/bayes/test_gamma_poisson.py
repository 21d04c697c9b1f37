"""Poisson counts: sampled against exact and against rows, checks, and data that are refused (METHODS C2)."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.fit import PredictiveCheck
from stats.bayes.models.gamma_poisson import DEFINITION, TOLERATED, GammaPoissonQuestion
from stats.bayes.models.lattice_fit import exact
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Sampling
from tests.bayes.agreement import assert_moments, assert_same, sampled
from tests.bayes.calibration import calibrate
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.gamma_poisson import BASELINE, PRIOR, Rows, make_rows, question_of, row_level, simulate
from tests.bayes.stories.negative_binomial import drawn_counts

pytestmark = pytest.mark.xdist_group("pymc")

STUDENT = Prior.default(Family.STUDENT_T4)


def asked(units: list[float], total: list[float], ratio: float = 1.0, prior: Prior = PRIOR) -> GammaPoissonQuestion:
    """Arms whose variance is `ratio` times their mean."""
    n, s = np.array(units), np.array(total)
    return GammaPoissonQuestion(n, s, ratio * s / n * (n - 1), prior)


def dispersion_of(question: GammaPoissonQuestion) -> list[PredictiveCheck]:
    return [check for check in exact(question).checks if check.statistic == "variance over mean"]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (asked([100.0, 100.0], [10.0, -1.0]), "an arm has fewer than no events"),
        (asked([100.0, 0.5], [10.0, 0.0]), "an arm has no units"),
        (asked([100.0, 100.0], [10.0, 5.0], ratio=-1.0), "missing or negative"),
        (asked([100.0, 100.0], [10.0, 0.0], prior=Prior.flat()), "its lift could be anything"),
    ],
)
def test_data_that_no_rates_produce_are_refused(question: GammaPoissonQuestion, reason: str) -> None:
    with pytest.raises(ImpossibleData, match=reason):
        question.data()


@pytest.mark.parametrize(
    ("units", "ratio", "passes"),
    [
        (1e6, 1.0, True),
        (1e6, 1.1, True),  # a million units know that this is not Poisson; intervals 5 % too short do no harm
        (1e6, 1.3, False),
        (1e6, 0.7, False),
        (400.0, 1.3, False),
        (20.0, 1.3, True),  # twenty Poisson counts look like this often enough
    ],
)
def test_counts_that_vary_more_or_less_than_poisson_fail_their_check(units: float, ratio: float, passes: bool) -> None:
    checks = dispersion_of(asked([units, units], [2 * units, 2 * units], ratio))
    assert [check.passed for check in checks] == [passes, passes]
    assert checks[0].observed == pytest.approx(ratio)


def test_the_check_of_dispersion_passes_poisson_rows_and_fails_uneven_ones() -> None:
    rng = np.random.default_rng(3)
    even, arm = make_rows(rng, 500), np.repeat([0, 1], 500)
    uneven = Rows(arm, drawn_counts(rng, np.full(1000, 1.6), 0.5))
    assert all(check.passed for check in dispersion_of(question_of(even)))
    assert not any(check.passed for check in dispersion_of(question_of(uneven)))
    assert uneven.count.var() / uneven.count.mean() > TOLERATED


def test_a_chi_square_stands_for_the_dispersion_of_poisson_counts() -> None:
    # The law of the replications against counts, at its upper 2.5 %: nearly right even for 60 events of 200 units.
    rng = np.random.default_rng(4)
    for mean, units in ((0.3, 200), (5.0, 60)):
        rows = rng.poisson(mean, (2000, units))
        ratio = rows.var(axis=1, ddof=1) / rows.mean(axis=1)
        freedom = (units - 1) / (1 - 1 / rows.sum(axis=1))
        quantile = np.quantile(rng.chisquare(freedom[:, None], (2000, 400)) / freedom[:, None], 0.975, axis=1)
        assert (ratio > quantile).mean() < 0.05


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.integers(2, 200))
def test_rows_reduce_to_sums_and_pad_to_their_class(seed: int, arms: int, users: int) -> None:
    rng = np.random.default_rng(seed)
    rows = make_rows(rng, users, arms=arms)
    order = rng.permutation(len(rows.arm))
    question, shuffled = question_of(rows), question_of(Rows(rows.arm[order], rows.count[order]))
    np.testing.assert_array_equal(question.total, shuffled.total)
    np.testing.assert_allclose(question.squares, shuffled.squares, rtol=1e-9, atol=1e-9)
    data = question.data()
    assert data["units"].sum() == len(rows.arm) and data["total"].sum() == rows.count.sum()
    assert len(data["units"]) == DEFINITION.size_for(arms)


@pytest.mark.simulation
@pytest.mark.parametrize(
    "question",
    [
        asked([500.0, 400.0, 450.0], [700.0, 650.0, 640.0]),
        asked([30.0, 40.0], [5.0, 0.0], prior=Prior.default()),
        asked([1e7, 1e7], [1e7, 1.001e7], prior=STUDENT),
        asked([500.0, 40.0], [700.0, 90.0], prior=Prior.flat()),
    ],
)
def test_sampling_equals_the_exact_answer(question: GammaPoissonQuestion, program_of: ProgramOf) -> None:
    draws = program_of(DEFINITION, question.size).sample(question.data(), Sampling(), seed=5)
    expected = exact(question).effects
    assert draws.divergences == 0 and expected is not None
    for effect, (mean, sd) in enumerate(zip(expected.log_mean, expected.log_sd, strict=True)):
        assert_moments(question.monitored(draws)[f"log_lift[{effect + 1}]"], mean, sd)


@pytest.mark.simulation
@pytest.mark.parametrize("prior", [PRIOR, STUDENT])
def test_sums_say_what_rows_say(prior: Prior, program_of: ProgramOf) -> None:
    rows = make_rows(np.random.default_rng(6), 200)
    question = question_of(rows, prior)
    draws = program_of(DEFINITION, 3).sample(question.data(), Sampling(), seed=7)
    of_rows = sampled(row_level(rows, prior, BASELINE), ("mean",), seed=8)["mean"]
    for name, values in question.monitored(draws).items():
        arm = int(name[-2])
        lift = np.log(of_rows[..., arm] / of_rows[..., 0])
        assert_same(values, of_rows[..., arm] if name.startswith("mean") else lift, name)


@pytest.mark.simulation
def test_ranks_of_the_truth_are_uniform(program_of: ProgramOf) -> None:
    found = calibrate(simulate, program_of(DEFINITION, 3), 1000, seed=7)
    assert min(found.p_values().values()) > 0.001
    assert all(abs(share - 0.9) < 0.03 for share in found.coverage().values())
