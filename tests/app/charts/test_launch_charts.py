"""The pictures of measured launches and of series."""

import re
from datetime import timedelta
from typing import Any

import pytest
import vl_convert

from app.charts.launch_forest import donors_chart, drawn_donors, methods_domain, methods_forest, methods_values
from app.charts.launch_periods import MOST_DRAWN, LaunchEvent, coverage_chart, drawn, gap_chart, path_chart
from app.charts.launch_trust import (
    MOST_EVENT_TIMES,
    MOST_PLACEBOS,
    drawn_events,
    event_chart,
    parting_chart,
    placebo_chart,
    placebo_values,
)
from app.charts.series_lines import MOST_LINES, series_lines
from app.charts.theme import PALETTE
from experiments.result import DonorUse, EventPoint, TrendSensitivity
from tests.app.documents import START
from tests.app.launch_documents import FIRST, estimate, measured, periods, placebos_in_space, placebos_in_time

RICH = measured()
EVENTS = [LaunchEvent(1, FIRST - timedelta(days=3), "announced", "Announced"), LaunchEvent(2, FIRST, "step", "DE")]
DAYS = [START + timedelta(days=day) for day in range(20)]
SERIES = {
    f"country {place}": [float("nan") if day == 7 else 10.0 + place + day for day in range(20)] for place in range(6)
}
PARTING = RICH.sensitivity or TrendSensitivity(points=[], breakdown=None)
SPECS: dict[str, dict[str, Any]] = {
    "path": path_chart(RICH, EVENTS),
    "effect": gap_chart(RICH, EVENTS, "effect", title="Effect a day"),
    "cumulative": gap_chart(RICH, [], "cumulative", title="Added up"),
    "coverage": coverage_chart(RICH, EVENTS),
    "methods": methods_forest(RICH.estimates, {}, tone="good", series_name="Revenue"),
    "donors": donors_chart(RICH.donors, lift=0.041, series_name="Revenue"),
    "placebos_in_time": placebo_chart(placebos_in_time(), series_name="Revenue"),
    "placebos_in_space": placebo_chart(placebos_in_space(), series_name="Revenue"),
    "events": event_chart(RICH.event_study, grain="day", series_name="Revenue"),
    "parting": parting_chart(PARTING, series_name="Revenue"),
    "series": series_lines(DAYS, SERIES, name="Revenue", unit="€", grain="day"),
}
LEAST_MARKS = {
    "path": 2,
    "effect": 101,
    "cumulative": 1,
    "coverage": 2,
    "methods": 5,
    "donors": 3,
    "placebos_in_time": 18,
    "placebos_in_space": 9,
    "events": 56,
    "parting": 6,
    "series": 6,
}


def svg(spec: dict[str, Any], width: int = 640) -> str:
    return str(vl_convert.vegalite_to_svg({**spec, "width": width}))


@pytest.mark.parametrize("name", SPECS)
def test_every_picture_of_a_launch_has_its_marks_in_the_colours_of_the_page(name: str) -> None:
    spec = SPECS[name]
    picture = svg({**spec, "params": [{"name": key, "value": "#123456"} for key in PALETTE]}, width=320)
    marks = re.findall(r'<path aria-label="[^"]*" role="graphics-symbol"', picture)
    assert len(marks) >= LEAST_MARKS[name], len(marks)
    assert set(re.findall(r"#[0-9a-f]{6}", picture)) <= {"#123456"}
    assert "NaN" not in picture
    assert "Infinity" not in picture
    assert len(spec["description"]) > 20


def test_a_day_without_a_value_is_a_gap_and_not_a_line_across_it() -> None:
    line = [layer for layer in SPECS["path"]["layer"] if layer["encoding"].get("detail", {}).get("field") == "run"]
    values = SPECS["path"]["datasets"][line[0]["data"]["name"]]
    assert len({value["run"] for value in values if value["actual"] is not None}) == 2


def test_a_long_history_leaves_the_launch_visible() -> None:
    known = periods(0.04)
    long = [known[0].model_copy(update={"at": FIRST - timedelta(days=day)}) for day in range(1000, 60, -1)]
    shown = drawn(measured(periods=[*long, *known]))
    since = sum(point.coverage > 0 for point in shown)
    assert since == 42
    assert len(shown) == since + 3 * since


def test_a_year_of_hours_is_thinned_and_not_sent_whole() -> None:
    hour = periods(0.04)[-1]
    year = [hour.model_copy(update={"at": FIRST + timedelta(hours=place)}) for place in range(8760)]
    shown = drawn(measured(periods=year, grain="hour"))
    assert MOST_DRAWN / 2 < len(shown) <= MOST_DRAWN
    assert drawn(measured(periods=[])) == []


def test_the_leading_method_is_drawn_in_full_and_wild_ones_do_not_flatten_it() -> None:
    values = methods_values([estimate("did", 0.04, leads=True), estimate("structural", 0.5, 40.0)], {})
    low, high = methods_domain(values)
    assert low < 0.01
    assert high < 0.5


def test_placebos_are_dots_that_do_not_cover_each_other() -> None:
    values = placebo_values(placebos_in_time(runs=90))
    assert len({(value["lift"], value["high"]) for value in values}) == 90
    assert len(placebo_values(placebos_in_time(runs=2 * MOST_PLACEBOS))) == MOST_PLACEBOS


def test_an_event_study_shows_as_much_before_the_launch_as_since() -> None:
    def point(time: int) -> EventPoint:
        return EventPoint(time=time, lift=0.0, ci_lower=-0.1, ci_upper=0.1, cells=1)

    shown = [found.time for found in drawn_events([point(time) for time in range(-900, 30)])]
    assert (shown[0], shown[-1]) == (-30, 29)
    assert len(drawn_events([point(time) for time in range(-900, 900)])) <= MOST_EVENT_TIMES


def test_donors_that_were_left_out_have_no_row() -> None:
    assert [donor.segment for donor in drawn_donors(RICH.donors)] == ["AT", "CH", "BE"]
    assert "weight" in svg(
        donors_chart([DonorUse(segment="AT", weight=1.0, lift_without=None)], lift=None, series_name="R")
    )


def test_a_series_of_many_segments_names_the_first_and_keeps_the_rest_faint() -> None:
    many = {f"s{place}": [1.0] * 20 for place in range(60)}
    spec = series_lines(DAYS, many, name="Revenue", unit="", grain="day")
    values = next(iter(spec["datasets"].values()))
    assert len({value["segment"] for value in values}) == MOST_LINES
