"""Rates: the sampled model against the exact answer and against rows, its checks, and data it refuses (METHODS C2)."""

from __future__ import annotations

import pickle
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from stats.bayes.models.arm_lattice import arm_lattice
from stats.bayes.models.beta_binomial import DEFINITION, BetaBinomialQuestion
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.fit import fit
from stats.bayes.models.lattice_fit import Curve, exact
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Sampling
from tests.bayes.agreement import assert_moments, assert_same, sampled
from tests.bayes.calibration import calibrate
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories import gamma_poisson
from tests.bayes.stories.beta_binomial import BASELINE, PRIOR, Rows, make_rows, question_of, row_level, simulate

pytestmark = pytest.mark.xdist_group("pymc")


def asked(units: list[float], successes: list[float], prior: Prior = PRIOR) -> BetaBinomialQuestion:
    return BetaBinomialQuestion(np.array(units), np.array(successes), prior)


@pytest.mark.parametrize(
    ("units", "successes", "reason"),
    [
        ([100.0, 100.0], [10.0, 101.0], "an arm has more conversions than units"),
        ([100.0, 0.0], [10.0, 0.0], "an arm has no units"),
        ([100.0, 100.0], [-1.0, 5.0], "an arm has fewer than no conversions"),
        ([100.0, np.nan], [1.0, 5.0], "a number of units or conversions is missing"),
        ([100.0], [1.0], "there are no two arms to compare"),
    ],
)
def test_data_that_no_rates_produce_are_refused(units: list[float], successes: list[float], reason: str) -> None:
    with pytest.raises(ImpossibleData, match=reason):
        asked(units, successes).data()


def test_too_many_arms_and_flat_priors_without_conversions_are_refused() -> None:
    with pytest.raises(ImpossibleData, match="at most 16 arms"):
        asked([100.0] * 17, [10.0] * 17).data()
    with pytest.raises(ImpossibleData, match="its lift could be anything"):
        asked([100.0, 100.0], [10.0, 0.0], Prior.flat()).data()


def test_a_prior_far_from_the_data_fails_the_check_of_conversions() -> None:
    far, near = asked([1e4, 1e4], [1000.0, 2000.0], Prior.default()), asked([1e4, 1e4], [1000.0, 1100.0])
    assert [check.passed for check in exact(far).checks] == [False, False]
    assert [check.passed for check in exact(near).checks] == [True, True]
    sensitivity = exact(far).prior_sensitivity
    assert sensitivity is not None and sensitivity > 0.05


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.integers(1, 400))
def test_rows_reduce_to_counts_in_any_order_and_pad_to_their_class(seed: int, arms: int, users: int) -> None:
    rng = np.random.default_rng(seed)
    rows = make_rows(rng, users, arms=arms)
    order = rng.permutation(len(rows.arm))
    question, shuffled = question_of(rows), question_of(Rows(rows.arm[order], rows.converted[order]))
    data, other = question.data(), shuffled.data()
    assert {name: value.tolist() for name, value in data.items()} == {k: v.tolist() for k, v in other.items()}
    assert data["units"].sum() == len(rows.arm) and data["successes"].sum() == rows.converted.sum()
    assert len(data["units"]) == question.size == DEFINITION.size_for(arms)
    assert (data["width"] > 0).all() and data["real"].sum() == arms and data["treated"].sum() == arms - 1
    assert pickle.loads(pickle.dumps(question)).units.tolist() == question.units.tolist()


@pytest.mark.simulation
@pytest.mark.parametrize(
    "question",
    [
        asked([900.0, 1000.0, 1100.0], [90.0, 125.0, 100.0], Prior.default()),
        asked([12.0, 15.0], [0.0, 4.0]),
        asked([300.0, 280.0], [290.0, 280.0]),
        asked([1e7, 1e7], [1e6, 1.002e6], gamma_poisson.PRIOR),
        replace(asked([1e4, 1e4], [1000.0, 2000.0], Prior.default(Family.STUDENT_T4)), direction="decrease"),
    ],
)
def test_sampling_equals_the_exact_answer(question: BetaBinomialQuestion, program_of: ProgramOf) -> None:
    draws = program_of(DEFINITION, question.size).sample(question.data(), Sampling(), seed=5)
    found, expected = question.summarise(draws, 5).effects, exact(question)
    assert draws.divergences == 0 and found is not None and expected.effects is not None
    for effect, (mean, sd) in enumerate(zip(expected.effects.log_mean, expected.effects.log_sd, strict=True)):
        assert_moments(question.monitored(draws)[f"log_lift[{effect + 1}]"], mean, sd)
    np.testing.assert_allclose(found.chance_to_win, expected.effects.chance_to_win, atol=0.04)
    for name in ("expected_loss", "expected_loss_of_not_shipping"):
        difference = getattr(found, name) - getattr(expected.effects, name)
        np.testing.assert_array_less(np.abs(difference), 0.1 * expected.effects.log_sd, err_msg=name)
    lattice = arm_lattice(question)
    for effect, ends in enumerate(np.log1p(np.stack([found.hdi_lower, found.hdi_upper], axis=1))):
        assert np.diff(Curve(*lattice.lift(effect)).cdf(ends))[0] == pytest.approx(0.95, abs=0.015)


@pytest.mark.simulation
@pytest.mark.parametrize("prior", [Prior.default(), PRIOR, gamma_poisson.PRIOR])
def test_counts_say_what_rows_say(prior: Prior, program_of: ProgramOf) -> None:
    rows = make_rows(np.random.default_rng(6), 250)
    question = question_of(rows, prior)
    draws = program_of(DEFINITION, 3).sample(question.data(), Sampling(), seed=7)
    of_rows = sampled(row_level(rows, prior, BASELINE), ("mean",), seed=8)["mean"]
    for name, values in question.monitored(draws).items():
        arm = int(name[-2])
        rate = np.log(of_rows[..., arm])
        other = of_rows[..., arm] if name.startswith("mean") else rate - np.log(of_rows[..., 0])
        assert_same(values, other, name)


@pytest.mark.simulation
def test_a_larger_class_gives_the_same_posterior(program_of: ProgramOf) -> None:
    question = asked([900.0, 1000.0, 1100.0], [90.0, 125.0, 100.0])
    data = question.data()
    filler = {"width": 1.0}
    wide = {
        name: value
        if name in ("baseline", "lift_prior")
        else np.concatenate([value, np.full(5, filler.get(name, 0.0))])
        for name, value in data.items()
    }
    draws = program_of(DEFINITION, 3).sample(data, Sampling(), seed=1)
    padded = program_of(DEFINITION, 8).sample(wide, Sampling(), seed=2)
    for name, values in question.monitored(draws).items():
        assert_same(values, question.monitored(padded)[name], name)


@pytest.mark.simulation
def test_the_service_asks_and_is_answered(program_of: ProgramOf) -> None:
    found = fit(asked([900.0, 1000.0], [90.0, 125.0]), program_of, Sampling(), seed=3)
    assert found.status == "ok" and found.diagnostics is not None and found.diagnostics.ess_bulk > 1000
    refused = fit(asked([900.0, 1000.0], [90.0, 1250.0]), program_of, Sampling(), seed=3)
    assert (refused.status, refused.effects) == ("not_estimable", None)


@pytest.mark.simulation
def test_ranks_of_the_truth_are_uniform(program_of: ProgramOf) -> None:
    found = calibrate(simulate, program_of(DEFINITION, 3), 1000, seed=7)
    assert min(found.p_values().values()) > 0.001
    assert all(abs(share - 0.9) < 0.03 for share in found.coverage().values())
