"""From series to panels: which segments, periods and cells count, and on which scale."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.definitions import Confounder, Eligible
from experiments.evidence.launch.data import LaunchData
from experiments.plan import LaunchPlan
from experiments.series_table import SeriesTable
from tests.experiments.launch_cases import (
    COUNTRIES,
    at,
    countries,
    data_of,
    measurement,
    plan_of,
    series,
    since,
    step,
    table,
)

DE, FR = COUNTRIES.index("de"), COUNTRIES.index("fr")


def german(**extra: Any) -> LaunchPlan:
    return plan_of(step(40, 1, segments=["de"]), **extra)


def of(plan: LaunchPlan, values: np.ndarray[Any, np.dtype[np.float64]], until: float = 60) -> LaunchData:
    return data_of(plan, {"revenue": table(values)}, until)


def test_a_period_in_which_coverage_changes_is_partial() -> None:
    data = of(plan_of(step(40.25, 0.4, segments=["de"]), step(42, 1, segments=["de"])), countries(60))
    path = data.panel.coverage[DE]
    assert path[39:43] == pytest.approx([0, 0.3, 0.4, 1])
    assert data.panel.coverage[FR].max() == 0
    assert data.treated == ("de",)


def test_only_eligible_segments_get_what_everybody_gets() -> None:
    eligible = Eligible(dimension="country", segments=["de", "fr"])
    data = of(plan_of(step(40, 1, "all_at_once"), eligible=eligible), countries(60))
    assert data.treated == ("de", "fr")
    assert len(data.untreated) == 8


def test_what_follows_the_end_of_the_data_or_of_the_measurement_is_not_used() -> None:
    plan = plan_of(step(40, 1, segments=["de"]), measured=measurement(options={"measure_for_days": 7}))
    assert of(plan, countries(80), until=80).after == 7
    assert of(plan, countries(80), until=44.5).after == 4


def test_history_is_cut_where_the_options_say() -> None:
    plan = plan_of(step(40, 1, segments=["de"]), measured=measurement(options={"history_days": 14}))
    assert of(plan, countries(60)).starts[0] == at(26)


def test_nothing_after_the_announcement_is_before_the_launch() -> None:
    data = of(german(announced_at=at(35.5)), countries(60))
    assert np.flatnonzero(data.panel.excluded[DE]).tolist() == [35, 36, 37, 38, 39]
    assert not data.panel.excluded[FR].any()
    assert data.before == 35


def test_segments_that_something_else_hit_are_left_out_for_that_time() -> None:
    storm = Confounder(name="storm", began_at=at(45), ended_at=at(48), segments=["fr"])
    data = of(german(confounders=[storm]), countries(60))
    assert np.flatnonzero(data.panel.excluded[FR]).tolist() == [45, 46, 47]
    assert data.confounders_left_out == ("storm",)


@pytest.mark.parametrize(
    ("confounder", "apart"),
    [
        (Confounder(name="sale", began_at=at(45), ended_at=at(48)), False),
        (Confounder(name="sale", segments=["fr"]), False),
        (Confounder(name="sale", began_at=at(30), segments=["de"]), False),
        (Confounder(name="sale", began_at=at(10), ended_at=at(20)), True),
        (Confounder(name="sale", began_at=at(70)), True),
        (Confounder(name="sale", began_at=at(-900)), True),
    ],
    ids=["everybody", "no time", "all of the treated", "over before", "not yet", "always there"],
)
def test_what_hit_everything_at_the_time_cannot_be_told_from_the_launch(confounder: Confounder, apart: bool) -> None:
    plan = german(confounders=[confounder], measured=measurement(options={"history_days": 40}))
    data = of(plan, countries(60))
    assert (data.confounders_not_separable == ()) is apart
    assert not data.panel.excluded.any()


def test_logarithms_are_taken_of_positive_values_only() -> None:
    values = countries(60)
    assert of(german(), values).scale == "log"
    values[DE, 20] = 0
    data = of(german(), values)
    assert data.scale == "level"
    before = np.nanmean(values[DE, :40])
    assert data.panel.y[DE] == pytest.approx(values[DE] / before)
    assert data.size == pytest.approx(before)


def test_a_few_untreated_segments_with_zeros_do_not_cost_the_logarithm() -> None:
    values = countries(60)
    values[0, 5], values[1] = 0, 0
    data = of(german(), values)
    assert data.scale == "log"
    assert (data.left_out.not_positive, data.left_out.all_zero) == (("at",), ("be",))
    assert data.untreated == COUNTRIES[2:3] + COUNTRIES[4:]


def test_an_outcome_around_zero_has_no_relative_effect() -> None:
    values = countries(60) + 0.0
    values[DE] -= values[DE].mean()
    assert of(german(), values).reason == "baseline_near_zero"


@pytest.mark.parametrize(
    ("until", "begin", "reason"),
    [(40, 0, "no_period_after_launch"), (40.5, 0, "no_period_after_launch"), (60, 38, "too_little_history")],
)
def test_too_few_periods_are_a_named_reason(until: float, begin: int, reason: str) -> None:
    plan = german()
    tables = {"revenue": table(countries(60)[:, begin:], begin=begin)}
    assert data_of(plan, tables, until).reason == reason


def test_a_series_without_values_and_a_launch_that_reaches_nobody_are_named() -> None:
    plan = german()
    empty = SeriesTable((), (), np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)))
    assert data_of(plan, {"revenue": empty}, 60).reason == "no_data"
    assert of(plan_of(step(40, 1, segments=["us"])), countries(60)).reason == "no_coverage"


def test_missing_values_stay_missing() -> None:
    values = countries(60)
    values[DE, 30:33] = np.nan
    data = of(german(), values)
    assert np.isnan(data.actual[30:33]).all()
    assert data.gaps == pytest.approx(3 / 60)
    assert np.isfinite(np.delete(data.actual, [30, 31, 32])).all()


def test_treated_segments_as_one_add_up_or_are_weighted_by_units() -> None:
    values = countries(60)
    plan = plan_of(step(40, 1, segments=["de", "fr"]))
    assert of(plan, values).actual == pytest.approx(values[DE] + values[FR])
    means = plan_of(
        step(40, 1, segments=["de", "fr"]), measured=measurement(series(aggregation="mean", direction="increase"))
    )
    counted = table(values)
    counted.n[:] = np.arange(1, 11)[:, None]
    data = data_of(means, {"revenue": counted}, 60)
    assert data.actual == pytest.approx((values[DE] * (DE + 1) + values[FR] * (FR + 1)) / (DE + FR + 2))


def test_controls_and_regressors_are_aligned_and_left_out_where_they_have_gaps() -> None:
    other, weather, ads = (
        series("other", ""),
        series("weather", "", role="regressor"),
        series("ads", "", role="regressor"),
    )
    asked = measurement(series(), controls=[other], regressors=[weather, ads])
    values, rng = countries(60), np.random.default_rng(3)
    ads_values = rng.normal(5, 1, (1, 60))
    ads_values[0, 10:25] = np.nan
    tables = {
        "revenue": table(values),
        "other": table(values[FR : FR + 1] * 3, [""]),
        "weather": table(rng.normal(20, 5, (1, 100)), [""], begin=-20),
        "ads": table(ads_values, [""]),
    }
    data = data_of(plan_of(step(40, 1, segments=["de"]), measured=asked), tables, 60)
    assert data.regressors == ("weather",)
    assert data.series.regressors[:, 0] == pytest.approx(tables["weather"].values[0, 20:80])
    assert data.donors[0] == "other"
    assert data.series.donors[:, 0] == pytest.approx(np.log(3 * values[FR]))
    assert data.outside_left_out == ("ads",)


@given(order=st.permutations(range(10)))
@settings(max_examples=10, deadline=None)
def test_the_order_in_which_segments_were_sent_changes_nothing(order: list[int]) -> None:
    values = countries(60, effect=since(40, 0.1, DE))
    shuffled = table(values[order], [COUNTRIES[i] for i in order])
    one, other = of(german(), values), data_of(german(), {"revenue": shuffled}, 60)
    assert one.panel.units == other.panel.units
    assert np.array_equal(one.panel.y, other.panel.y)
    assert np.array_equal(one.series.donors, other.series.donors)
