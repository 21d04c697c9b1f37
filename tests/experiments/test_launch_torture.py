"""Attempts to get a wrong number, or a sure one, out of launches that do not carry it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from experiments.definitions import Confounder, RolloutStep
from experiments.result import MeasuredLaunch
from tests.experiments.launch_cases import (
    COUNTRIES,
    WHOLE,
    Floats,
    at,
    check_of,
    countries,
    data_of,
    lead,
    measured,
    measurement,
    plan_of,
    series,
    since,
    step,
    table,
)
from tests.experiments.launches_by_design import DE, EFFECT, concurrent, switched, whole


def of_germany(change: Callable[[Floats], None] = lambda y: None, *, effect: float = EFFECT) -> MeasuredLaunch:
    """Seven countries over 52 days, of which one has the launch from day 42 on, after `change`."""
    values = countries(52, effect=since(42, effect, DE), segments=7)
    change(values)
    return measured(*concurrent(values=values))


def unmeasured(found: MeasuredLaunch, reason: str) -> None:
    """Grade U: the prior with the reason, and no other number."""
    answer = lead(found)
    assert (found.grade.grade, answer.method, answer.reason) == ("U", "prior", reason)
    assert all(row.lift is None for row in found.estimates if row is not answer)


def row(found: MeasuredLaunch, method: str) -> tuple[bool, str | None]:
    return next((each.estimable, each.reason) for each in found.estimates if each.method == method)


def test_no_mix_of_donors_can_reach_a_country_of_another_size() -> None:
    def enlarge(y: Floats) -> None:
        y[DE] *= 100

    found = of_germany(enlarge)
    assert row(found, "synthetic_control") == (False, "poor_donor_fit")
    assert abs((lead(found).log_effect or 0) - EFFECT) < 3 * (lead(found).total_standard_error or 0)


@pytest.mark.parametrize(("coverage", "reason"), [(1e-6, "too_noisy"), (1e-300, "no_coverage")])
@pytest.mark.parametrize("by_country", [True, False])
def test_a_change_that_nobody_to_speak_of_had_was_not_measured(coverage: float, reason: str, by_country: bool) -> None:
    values = countries(52, segments=7)
    tried = step(42, coverage, segments=["de"] if by_country else [])
    plan = plan_of(tried) if by_country else plan_of(tried, measured=WHOLE)
    unmeasured(measured(plan, {"revenue": table(values) if by_country else whole(values)}, 52), reason)


def test_another_launch_at_the_time_is_something_else_that_happened() -> None:
    def beside(began: float, *segments: str) -> MeasuredLaunch:
        other = Confounder(name="launch new-prices", began_at=at(began), segments=list(segments))
        plan, tables, until = concurrent()
        asked = plan.measurements[0].model_copy(update={"beside": [other]})
        return measured(plan.model_copy(update={"measurements": [asked]}), tables, until)

    for same in (beside(40, "de"), beside(42), beside(45)):
        assert same.grade.reasons == ["confounded"]
        assert "new-prices" in check_of(same, "confounders").detail
    later, elsewhere = beside(47, "de"), beside(42, "fr")
    assert (later.periods_after, later.grade.grade) == (5, "C")
    assert (elsewhere.periods_after, elsewhere.grade.grade) == (10, "C")
    assert "fr" not in {donor.segment for donor in elsewhere.donors}


def test_a_country_that_stopped_sending_values_is_one_with_gaps() -> None:
    def stop(y: Floats) -> None:
        y[DE, 42:] = np.nan

    found = of_germany(stop)
    unmeasured(found, "gaps_in_series")
    assert (check_of(found, "gaps").status, check_of(found, "post_period").status) == ("fail", "fail")
    assert "de" in check_of(found, "gaps").detail


@pytest.mark.parametrize("day", [42, 45, 51])
def test_one_odd_day_is_no_effect_of_ten(day: int) -> None:
    def misplace_the_point(y: Floats) -> None:
        y[DE, day] *= 100

    found = of_germany(misplace_the_point)
    assert (found.grade.grade, found.grade.reasons) == ("D", ["one_period_decides"])
    assert f"{at(day):%Y-%m-%d}" in check_of(found, "single_periods").detail


def test_an_effect_that_grows_every_day_is_made_by_no_single_one() -> None:
    def grow(y: Floats) -> None:
        y[DE, 42:] *= np.exp(0.05 * np.arange(1, 11))

    assert of_germany(grow, effect=0).grade.grade == "C"


def test_gaps_that_leave_few_donors_leave_the_lead_to_who_needs_no_complete_ones() -> None:
    def lose(y: Floats) -> None:
        y[[0, 1, 2, 4], [5, 10, 15, 20]] = np.nan

    assert lead(of_germany(lose)).method == "did"


def test_of_more_hours_than_can_be_worked_with_those_nearest_to_the_launch_are_used() -> None:
    hours = np.random.default_rng(3).normal(100, 5, (1, 5000))
    at_3000 = RolloutStep(at=at(3000, "hour"), coverage=1, mechanism="all_at_once")
    plan = plan_of(at_3000, measured=measurement(series(dimension="", grain="hour"), options={"measure_for_days": 90}))
    data = data_of(plan, {"revenue": table(hours, [""], grain="hour")}, 5000 / 24)
    assert (data.before, data.after, data.window.cut) == (1500, 800, True)


def test_a_misspelt_country_is_named() -> None:
    plan, tables, until = concurrent()
    misspelt = plan.model_copy(update={"rollout": [step(42, 1, segments=["de", "France"])]})
    found = measured(misspelt, tables, until)
    assert "France" in check_of(found, "unknown_segments").detail
    assert found.treated == ["de"]


def test_facts_that_are_in_no_country_are_counted() -> None:
    plan, tables, until = concurrent()
    found = measured(plan, {"revenue": replace(tables["revenue"], unplaced=12)}, until)
    assert check_of(found, "unplaced_facts").detail.startswith("12 facts without a country")


def test_something_else_ended_after_it_began() -> None:
    with pytest.raises(ValueError, match="ended_at"):
        Confounder(name="sale", began_at=at(45), ended_at=at(43))


def of_no_noise(rollout: dict[int, tuple[tuple[str, ...], float]], lift: float) -> tuple[MeasuredLaunch, float]:
    """Seven countries of unequal size that move alike, and what the launch brought them in total; days -> a step."""
    values = countries(60, segments=7, noise=1e-7)
    covered = np.zeros(values.shape)
    for day, (names, share) in rollout.items():
        covered[[COUNTRIES.index(name) for name in names], day:] = share
    with_it = values * (1 + lift) ** covered
    steps = [step(day, share, segments=names) for day, (names, share) in rollout.items()]
    return measured(plan_of(*steps), {"revenue": table(with_it)}, 60), float((with_it - values).sum())


@pytest.mark.parametrize(
    "rollout",
    [
        {45: (("at", "de"), 1.0)},
        {45: (("at", "de"), 0.5), 52: (("at", "de"), 1.0)},
        {40: (("at",), 1.0), 50: (("be", "de"), 1.0)},
    ],
    ids=["at once", "by halves", "one after the other"],
)
@pytest.mark.parametrize("lift", [0.3, -0.3])
def test_without_noise_the_lift_and_the_total_are_those_that_were_put_in(
    rollout: dict[int, tuple[tuple[str, ...], float]], lift: float
) -> None:
    found, total = of_no_noise(rollout, lift)
    answer = lead(found)
    assert answer.lift == pytest.approx(lift, abs=1e-6)
    assert answer.cumulative == pytest.approx(total, rel=1e-6)
    assert answer.difference == pytest.approx(total / found.periods_after, rel=1e-6)


def test_a_switchback_whose_states_outlast_it_says_nothing() -> None:
    plan, tables, until = switched()
    options = plan.measurements[0].options.model_copy(update={"carry_over_periods": 100})
    lasting = plan.measurements[0].model_copy(update={"options": options})
    found = measured(plan.model_copy(update={"measurements": [lasting]}), tables, until)
    assert row(found, "switchback") == (False, "too_few_blocks")
