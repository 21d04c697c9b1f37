"""Charts are pure functions of result documents and never draw nothing."""

import re
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import pytest
import vl_convert

from app.charts.ages import age_chart, age_values
from app.charts.chances import best_of_many
from app.charts.exposures import exposures_chart
from app.charts.forest import ROLES, domain, forest, forest_values
from app.charts.inline import mini_interval, sparkline
from app.charts.looks import lift_over_time
from app.charts.losses import loss_over_time, loss_values
from app.charts.north_star import LaunchMark, north_star_curve
from app.charts.numbers import decision_bounds, finding, percent, tone
from app.charts.past_effects import bounds, next_effect, past_effects_chart
from app.charts.planning import power_chart, smallest_chart
from app.charts.posterior import density_values, posterior
from app.charts.pulled import Pulled, pulled_domain, pulled_forest, pulled_values
from app.charts.segments import segments
from app.charts.sensitivity import sensitivity_forest
from app.charts.sequential import crossing, monitor_chart, monitor_values
from app.charts.split import split_chart, split_values
from app.charts.split_parts import part_values, parts_chart
from app.charts.theme import PALETTE
from app.charts.waiting import waiting_chart
from app.pages.beliefs_view import PRIORS
from experiments.definitions import PlanMetric, Variant
from experiments.planning import sample_size
from experiments.result import BaselineResult, MetricBaseline
from tests.app.charts.drawn import Drawn
from tests.app.complete_beliefs import alternatives, believed_looks, best, learned_prior, waiting
from tests.app.complete_document import age_curve, complete, judged, monitor
from tests.app.documents import START, result, row, series

NAMES = {"control": "Control", "treatment": "One page"}
DOCUMENT = result()
COMPLETE = complete()
PRIOR = learned_prior()
PLANNED = sample_size(
    variants=[Variant(key="a", weight=0.5, is_control=True), Variant(key="b", weight=0.5)],
    metrics=[
        PlanMetric(metric_key="orders", role="primary", mde=0.03),
        PlanMetric(metric_key="refund_rate", role="guardrail", non_inferiority_margin=0.05),
    ],
    baselines=BaselineResult(
        analysis_id="0190f0c4-0000-7000-8000-000000000003",
        unit_type="user",
        data_as_of=START,
        metrics=[
            MetricBaseline(metric_key="orders", n=50_000, mean=2.0, sd=2.4, cuped_r_squared=0.3),
            MetricBaseline(metric_key="refund_rate", n=50_000, mean=0.05, sd=0.08, cuped_r_squared=0.0),
        ],
        cumulative_units=[1200 + 900 * day for day in range(28)],
        code_version="0.1.0",
    ),
)
SPECS = Drawn(
    {
        "forest": lambda: forest(DOCUMENT.rows, NAMES),
        "complete_forest": lambda: forest(COMPLETE.rows, NAMES, "group_sequential"),
        "monitor": lambda: monitor_chart(monitor(), direction="increase", metric_name="Orders per user"),
        "ages": lambda: age_chart(age_curve(), metric_name="Orders per user"),
        "split": lambda: split_chart(DOCUMENT.exposures, NAMES),
        "split_parts": lambda: parts_chart(part_values(COMPLETE, NAMES)),
        "smallest": lambda: smallest_chart(PLANNED, {"orders": "Orders per user"}),
        "power": lambda: power_chart(PLANNED, {}),
        "looks": lambda: lift_over_time(
            DOCUMENT.looks, metric_key="orders", variant_key="treatment", metric_name="Orders per user"
        ),
        "posterior": lambda: posterior(DOCUMENT.densities[0], direction="increase", metric_name="Orders per user"),
        "segments": lambda: segments(DOCUMENT.segment_models[0], metric_name="Orders per user"),
        "losses": lambda: loss_over_time(believed_looks(), threshold=0.001, metric_name="Orders per user"),
        "losses_without_limit": lambda: loss_over_time(believed_looks(), threshold=None, metric_name="Orders per user"),
        "waiting": lambda: waiting_chart(waiting(), metric_name="Orders per user"),
        "best_of_many": lambda: best_of_many(best(), NAMES, metric_name="Orders per user"),
        "sensitivity": lambda: sensitivity_forest(alternatives(), PRIORS, metric_name="Orders per user"),
        "past_effects": lambda: past_effects_chart(PRIOR.effects, PRIOR.strata[0], {}, metric_name="Orders per user"),
        "posterior_alone": lambda: posterior(
            DOCUMENT.densities[0],
            direction="decrease",
            metric_name="Orders per user",
            interval=(0.009, 0.0288, 0.048),
            rope=(-0.01, 0.01),
            prior=False,
        ),
        "exposures": lambda: exposures_chart(DOCUMENT.exposures, NAMES),
        "north_star": lambda: north_star_curve(
            series().points,
            name="Weekly orders",
            unit="orders",
            target=(18_000.0, date(2026, 12, 31)),
            launches=[LaunchMark(1, "New checkout", datetime(2026, 6, 2, tzinfo=UTC)), LaunchMark(2, "Wallet", START)],
        ),
    }
)
LEAST_MARKS = {"forest": 4, "looks": 28, "posterior": 3, "segments": 7, "exposures": 2, "north_star": 30}
LEAST_MARKS |= {
    "losses": 28,
    "losses_without_limit": 28,
    "waiting": 2,
    "best_of_many": 3,
    "sensitivity": 6,
    "past_effects": 18,
    "posterior_alone": 5,
    "complete_forest": 12,
    "monitor": 15,
    "ages": 15,
    "split": 28,
    "split_parts": 3,
    "smallest": 2,
    "power": 2,
}


def svg(spec: dict[str, Any]) -> str:
    return str(vl_convert.vegalite_to_svg({**spec, "width": 640}))


@pytest.mark.parametrize("name", SPECS)
def test_every_chart_renders_to_svg_with_marks_and_finite_coordinates(name: str) -> None:
    picture = svg(SPECS[name])
    marks = re.findall(r'<path aria-label="[^"]*" role="graphics-symbol"', picture)
    assert len(marks) >= LEAST_MARKS[name], len(marks)
    assert "NaN" not in picture
    assert "Infinity" not in picture


@pytest.mark.parametrize("name", SPECS)
def test_every_chart_takes_its_colours_from_the_palette_so_that_pages_can_theme_it(name: str) -> None:
    dark = {**SPECS[name], "params": [{"name": key, "value": "#123456"} for key in PALETTE]}
    colours = set(re.findall(r"#[0-9a-f]{6}", svg(dark)))
    assert colours <= {"#123456"}, colours


@pytest.mark.parametrize("name", SPECS)
def test_every_chart_describes_itself(name: str) -> None:
    assert len(SPECS[name]["description"]) > 20


def test_the_forest_plot_shows_every_row_in_the_order_of_roles_and_says_what_is_not_estimable() -> None:
    values, height = forest_values(DOCUMENT.rows, NAMES)
    assert [value["label"] for value in values if value["kind"] == "header"] == [
        "SUCCESS (PRIMARY)",
        "GUARDRAILS",
        "SECONDARY",
        "MONITORS",
    ]
    assert len([value for value in values if value["kind"] != "header"]) == len(DOCUMENT.rows)
    assert values[-1]["kind"] == "missing"
    assert values[-1]["numbers"] == "not estimable"
    assert max(value["y"] for value in values) < height


def test_the_forest_plot_draws_the_margin_on_the_harmful_side_of_a_guardrail() -> None:
    values, _ = forest_values(
        [
            row("a", "A", role="guardrail", non_inferiority_margin=0.02),
            row("b", "B", role="guardrail", direction="decrease", non_inferiority_margin=0.02),
        ],
        NAMES,
    )
    assert [value["margin"] for value in values if value["kind"] == "effect"] == [-0.02, 0.02]


def test_a_significant_increase_of_a_metric_that_should_fall_is_bad() -> None:
    assert tone(row("a", "A", direction="decrease")) == "bad"
    assert tone(row("a", "A")) == "good"
    assert tone(row("a", "A", ci_lower=-0.01)) == "neutral"
    assert tone(row("a", "A", role="monitor")) == "neutral"
    assert set(ROLES) == {"primary", "guardrail", "secondary", "monitor"}


def test_one_very_wide_interval_does_not_flatten_the_others() -> None:
    rows = [row(f"m{i}", "M") for i in range(5)] + [row("wide", "W", ci_lower=-0.9, ci_upper=14.0)]
    low, high = domain(rows)
    assert high - low < 1


def test_a_forest_plot_of_nothing_estimable_still_renders() -> None:
    missing = [item for item in DOCUMENT.rows if not item.estimable]
    assert "not estimable" in svg(forest(missing, NAMES))


def test_percentages_have_a_true_minus_sign_and_no_signed_zero() -> None:
    assert percent(0.0312) == "+3.1\u00a0%"
    assert percent(-0.0312) == "−3.1\u00a0%"
    assert percent(-0.00001) == "0.0\u00a0%"
    assert percent(None) == "–"


def test_the_unfinished_week_of_the_curve_is_drawn_apart_from_the_complete_ones() -> None:
    points = series().points
    spec = SPECS["north_star"]
    dashed = [layer for layer in spec["layer"] if layer["mark"].get("strokeDash") == [4, 4]]
    assert len(dashed) == 1
    weeks = spec["datasets"][dashed[0]["data"]["name"]]
    assert [week["week"] for week in weeks] == [points[-2].week.isoformat(), points[-1].week.isoformat()]


def test_a_sparkline_leaves_gaps_where_weeks_are_unknown_and_needs_two_points() -> None:
    assert sparkline([1.0, None, 2.0, 3.0], label="x").count("M") == 2
    assert sparkline([None, 1.0], label="x") == ""


def test_a_mini_interval_escapes_its_label_and_marks_ends_that_leave_the_axis() -> None:
    picture = mini_interval(0.01, -0.2, 0.03, tone="neutral", label='"><script>', reach=0.1)
    assert "<script>" not in picture
    assert picture.count("mini-arrow") == 1
    assert mini_interval(None, None, None, tone="neutral", label="x", reach=0.1) == ""


def test_the_three_intervals_of_a_row_are_drawn_in_three_ways_that_need_no_colour() -> None:
    layers = SPECS["complete_forest"]["layer"]
    thick = [layer for layer in layers if layer["mark"].get("strokeWidth") == 8]
    thin = [layer for layer in layers if layer["encoding"].get("x", {}).get("field") == "adj_lower"]
    dashed = [layer for layer in layers if layer["mark"].get("strokeDash") == [3, 3]]
    brackets = {layer["mark"]["text"] for layer in layers if layer["mark"].get("text") in ("[", "]")}
    assert (len(thick), len(dashed), brackets) == (1, 1, {"[", "]"})
    assert {layer["mark"]["type"] for layer in thin} == {"rule", "tick"}


def test_a_metric_without_a_lift_shows_its_absolute_difference_in_the_forest() -> None:
    values, _ = forest_values(COMPLETE.rows, NAMES, "group_sequential")
    referrals = next(value for value in values if value["label"] == "Referrals per user")
    assert referrals["numbers"] == "no lift"
    assert referrals["absolute"] == "Difference +0.0004 invites (−0.0011 to +0.0019)"


def test_better_and_worse_are_said_after_correction_only() -> None:
    clear = {"ci_lower": 0.01, "decision_lower": 0.01, "decision_upper": 0.05}
    assert finding(judged("a", "A", significant=True, **clear)) == "better"
    assert finding(judged("a", "A", significant=False, **clear)) == ""
    assert finding(judged("a", "A", significant=None, **clear)) == ""
    assert finding(judged("a", "A", significant=True, direction="decrease")) == "worse"
    assert finding(judged("a", "A", significant=True, role="monitor")) == "moved"
    assert tone(judged("a", "A", significant=True, role="monitor")) == "neutral"


def test_a_rejection_without_a_simple_interval_clear_of_zero_is_still_a_finding() -> None:
    stepwise = judged("a", "A", significant=True, decision_lower=-0.001, decision_upper=0.06)
    assert tone(stepwise) == "good"


def test_documents_of_the_first_schema_are_judged_by_the_interval_that_decided() -> None:
    old = row("a", "A", always_valid_lower=-0.01)
    assert decision_bounds(old, "fixed") == (0.0105, 0.0498)
    assert (tone(old, "fixed"), tone(old, "always_valid")) == ("good", "neutral")


def test_a_course_marks_the_look_that_crossed_and_leaves_out_bounds_that_nothing_can_cross() -> None:
    values = monitor_values(monitor())
    assert crossing(monitor()) == 3
    assert [value["stops"] for value in values] == [False, False, False, True, False]
    assert (values[0]["upper"], values[0]["lower"]) == (None, None)
    assert crossing(monitor(stopped_for=None, stopped_at=None)) is None


@pytest.mark.parametrize("changes", [{"looks": []}, {"stopped_for": None, "stopped_at": None}])
def test_a_course_that_has_hardly_begun_still_renders(changes: dict[str, Any]) -> None:
    assert "NaN" not in svg(monitor_chart(monitor(**changes), direction="decrease", metric_name="Refunds"))


def test_a_curve_by_age_falls_back_on_differences_where_there_are_no_lifts() -> None:
    points = [p.model_copy(update={"lift": None, "lift_ci_lower": None}) for p in age_curve().points]
    assert [v["effect"] for v in age_values(age_curve(points=points))] == [p.difference for p in points]


def test_the_split_is_held_against_its_configuration_and_narrows_as_units_come() -> None:
    values = [value for value in split_values(DOCUMENT.exposures) if value["arm"] == 1]
    assert values[-1]["gap"] == pytest.approx(374 / 745 - 0.5)
    assert values[-1]["high"] < values[0]["high"]
    assert -values[-1]["low"] == values[-1]["high"]


def test_groups_of_units_are_held_against_their_share_the_furthest_off_first() -> None:
    broken = judged("orders", "Orders", segment="DE", segment_dimension="country", n_control=5000, n_treatment=4000)
    values = part_values(complete(rows=[broken, judged("orders", "Orders")]), NAMES)
    assert [value["label"] for value in values] == ["country = DE", "everybody exposed", "everybody analysed"]
    assert [value["outside"] for value in values] == [True, False, False]
    assert values[0]["gap"] == pytest.approx(4000 / 9000 - 0.5)
    assert "beyond chance" in values[0]["numbers"]


def test_losses_too_small_for_the_axis_lie_on_its_end_and_looks_without_beliefs_are_left_out() -> None:
    looks = believed_looks()
    assert len(loss_values(looks)) == len(looks) - 2
    spec = loss_over_time(
        [*looks[:-1], looks[-1].model_copy(update={"expected_loss": 0.0})], threshold=0.001, metric_name="A"
    )
    drawn = next(values for values in spec["datasets"].values() if "ship_drawn" in values[0])
    assert drawn[-1]["ship"] == 0
    assert 0 < drawn[-1]["ship_drawn"] <= min(value["ship_drawn"] for value in drawn)


def test_both_sides_of_a_posterior_meet_at_no_effect() -> None:
    density = DOCUMENT.densities[0].model_copy(
        update={"lift": [-0.01, 0.03], "posterior": [1.0, 3.0], "prior": [2.0, 2.0]}
    )
    values = density_values(density, direction="increase")
    assert [(v["lift"], v["good"], v["bad"]) for v in values] == [
        (-0.01, False, True),
        (0.0, True, True),
        (0.03, True, False),
    ]
    assert values[1]["posterior"] == pytest.approx(1.5)


def test_a_raw_effect_far_from_what_is_believed_is_an_arrow_and_does_not_flatten_the_rest() -> None:
    effects = [Pulled("a", 0.02, 0.0, 0.04, 0.01, -0.01, 0.03), Pulled("b", -0.6, -0.9, 0.4, 0.0, -0.02, 0.02)]
    low, high = pulled_domain(pulled_values(effects), None)
    assert -0.1 < low < high < 0.1
    spec = pulled_forest(effects, description="two effects, of which one is far")
    values = next(values for values in spec["datasets"].values() if len(values) == len(effects))
    assert [(v["edge"], v["raw_drawn"]) for v in values] == [(None, 0.02), (low, None)]


def test_the_next_effect_of_a_population_is_a_density_over_lifts() -> None:
    curve = next_effect(PRIOR.strata[0])
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))
    assert area == pytest.approx(1, abs=0.01)
    assert next_effect(PRIOR.strata[0].model_copy(update={"prior_mean": None})) == []
    assert bounds(None, 0.1) == (None, None, None)
