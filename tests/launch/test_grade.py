"""A grade is computed from recorded facts; its bias term is what placebos find beyond their errors (METHODS D7)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.launch.contract import PlaceboRuns
from stats.launch.grade import (
    FEWEST_RUNS,
    GradeFacts,
    evidence_grade,
    excess_of_placebos,
    placebos_find_effects,
)


def runs(*effects: float, error: float = 0.01, kind: Any = "time") -> PlaceboRuns:
    effect = np.array(effects)
    error_of = np.full(effect.size, error)
    return PlaceboRuns(kind, effect, error_of, np.arange(effect.size), np.abs(effect) / error_of, 1.0)


QUIET = runs(0.01, -0.01, 0.005, -0.008, 0.009, -0.004)
NOISY = runs(0.06, -0.05, 0.055, -0.048, 0.051, -0.057)
FACTS = GradeFacts(
    design="concurrent",
    effect=0.05,
    standard_error=0.02,
    planned_before=True,
    days_after=28.0,
    placebos_in_time=QUIET,
    pre_trend_passed=True,
    donor_fit_good=True,
)


@pytest.mark.parametrize(
    ("design", "letter"),
    [
        ("experiment", "A"),
        ("staged", "A"),
        ("switchback", "B"),
        ("random_order", "B"),
        ("staggered", "C"),
        ("concurrent", "C"),
        ("donors", "C"),
        ("before_after", "D"),
        ("none", "U"),
    ],
)
def test_a_design_without_blemish_has_its_own_letter(design: Any, letter: str) -> None:
    found = evidence_grade(replace(FACTS, design=design))
    assert found.letter == letter
    assert found.reasons == ()
    assert bool(found.raised_by) == (letter != "A")


@pytest.mark.parametrize(
    ("blemish", "reason"),
    [
        ({"planned_before": False}, "planned_afterwards"),
        ({"days_after": 6.0}, "less_than_a_week"),
        ({"clusters": 11}, "few_clusters"),
        ({"stopped_early": True}, "stopped_early"),
        ({"peeked": True}, "peeked"),
        ({"triggered_set_differs": True}, "triggered_set_differs"),
        ({"amended": True}, "amended"),
        ({"exposure_leak": True}, "exposure_leak"),
    ],
)
def test_what_weakens_a_randomised_comparison_makes_it_b(blemish: dict[str, Any], reason: str) -> None:
    found = evidence_grade(replace(FACTS, design="staged", **blemish))
    assert (found.letter, found.reasons) == ("B", (reason,))
    assert found.raised_by and "ramp_by_hash" not in found.raised_by, "it was"
    assert found.bias_sd == pytest.approx(0.25 * FACTS.standard_error)


@pytest.mark.parametrize(
    ("blemish", "reason"),
    [
        ({"pre_trend_passed": False}, "pre_trend_failed"),
        ({"placebos_in_time": None}, "too_few_placebos"),
        ({"placebos_in_time": NOISY}, "placebos_find_effects"),
        ({"donor_fit_good": False}, "poor_donor_fit"),
        ({"regressors_untouched": False}, "regressor_moved"),
        ({"too_many_gaps": True}, "too_many_gaps"),
        ({"one_period_decides": True}, "one_period_decides"),
        ({"confounded": True}, "confounded"),
    ],
)
def test_a_comparison_that_fails_a_test_is_no_better_than_before_and_after(
    blemish: dict[str, Any], reason: str
) -> None:
    found = evidence_grade(replace(FACTS, **blemish))
    assert (found.letter, found.reasons) == ("D", (reason,))
    assert found.bias_sd >= FACTS.standard_error
    assert found.raised_by


def test_failed_quality_gates_leave_no_measurement_whatever_the_design() -> None:
    found = evidence_grade(replace(FACTS, design="experiment", usable=False))
    assert (found.letter, found.reasons, found.bias_source) == ("U", ("not_usable",), "unknown")
    assert np.isnan(found.bias_sd)


def test_an_estimate_that_is_not_there_has_grade_u() -> None:
    assert evidence_grade(replace(FACTS, standard_error=float("nan"))).letter == "U"


def test_before_and_after_is_never_believed_to_less_than_its_own_error() -> None:
    quiet = evidence_grade(replace(FACTS, design="before_after"))
    assert (quiet.bias_sd, quiet.bias_source) == (FACTS.standard_error, "at_least_error")
    noisy = evidence_grade(replace(FACTS, design="before_after", placebos_in_time=NOISY))
    assert noisy.bias_sd == pytest.approx(excess_of_placebos(NOISY)[0])
    assert noisy.bias_source == "placebos_in_time"


def test_what_happened_at_the_same_time_may_have_had_the_whole_effect() -> None:
    found = evidence_grade(replace(FACTS, confounded=True))
    assert (found.letter, found.bias_sd, found.bias_source) == ("D", 0.05, "as_large_as_effect")
    small = evidence_grade(replace(FACTS, confounded=True, effect=0.001))
    assert (small.bias_sd, small.bias_source) == (FACTS.standard_error, "at_least_error")


def test_the_worse_of_both_kinds_of_placebos_counts() -> None:
    space = replace(NOISY, kind="space")
    found = evidence_grade(replace(FACTS, placebos_in_space=space, standard_error=0.1))
    assert (found.letter, found.bias_source) == ("C", "placebos_in_space")
    assert found.bias_sd == pytest.approx(excess_of_placebos(space)[0])
    assert found.runs == QUIET.effect.size + space.effect.size


def test_dates_that_share_their_periods_do_not_prove_a_bias_by_their_number() -> None:
    """Six runs at 1.8 standard errors: certain where each has data of its own, chance where all are the same weeks."""
    apart = runs(*[0.018, -0.018] * 3)
    facts = replace(FACTS, placebos_in_time=apart, standard_error=0.01)
    assert evidence_grade(facts).reasons == ("placebos_find_effects",)
    overlapping = replace(facts, placebos_in_time=replace(apart, horizon=12))
    assert evidence_grade(overlapping).letter == "C"
    assert evidence_grade(overlapping).bias_sd == evidence_grade(facts).bias_sd, "the interval holds it either way"


def test_placebos_without_a_bias_are_rarely_taken_for_one() -> None:
    """Weekly differences of twelve weeks of white noise, started every second week: nominal 5 %."""
    rng = np.random.default_rng(4)
    horizon, dates = 12, np.arange(30, 54, 2)
    noise = rng.standard_normal((2000, 120))
    found = 0
    for each in noise:
        effect = np.array([each[date : date + horizon].mean() for date in dates])
        error = np.full(dates.size, horizon**-0.5)
        batch = PlaceboRuns("time", effect, error, dates, np.abs(effect) / error, 1.0, horizon)
        found += placebos_find_effects(batch, 0.0)
    assert found / 2000 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_a_comparison_is_c_only_with_enough_placebos() -> None:
    few = runs(*([0.001] * (FEWEST_RUNS - 1)))
    assert evidence_grade(replace(FACTS, placebos_in_time=few)).reasons == ("too_few_placebos",)


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30),
    st.floats(1e-4, 0.2),
    st.floats(1.0, 5.0),
)
def test_the_bias_term_fills_what_standard_errors_do_not_explain_and_grows_with_the_placebos(
    effects: list[float], error: float, factor: float
) -> None:
    found, number = excess_of_placebos(runs(*effects, error=error))
    assert number == len(effects)
    square = float(np.mean(np.square(effects)))
    assert found**2 == pytest.approx(max(0.0, square - error**2), abs=1e-12)
    larger, _ = excess_of_placebos(runs(*(factor * effect for effect in effects), error=error))
    assert larger >= found - 1e-12


def test_runs_that_could_not_be_made_do_not_count() -> None:
    found, number = excess_of_placebos(runs(0.1, float("nan"), 0.1))
    assert (number, found) == (2, pytest.approx(np.sqrt(0.01 - 0.0001)))


def test_the_bias_of_placebos_with_a_known_bias_is_found() -> None:
    rng = np.random.default_rng(1)
    number = 4000
    error, bias = 0.02, 0.03
    effect = bias * rng.standard_normal(number) + error * rng.standard_normal(number)
    found, _ = excess_of_placebos(runs(*effect, error=error))
    # The mean of squares has relative error sqrt(2 / number); half of it goes through the square root.
    spread = (error**2 + bias**2) * np.sqrt(2 / number) / (2 * bias)
    assert found == pytest.approx(bias, abs=4 * spread)
