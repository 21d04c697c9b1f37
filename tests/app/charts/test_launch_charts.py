"""The pictures of measured launches and of series."""

import math
import re
from datetime import timedelta
from typing import Any

import pytest
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from app.charts.launch_forest import (
    donors_chart,
    drawn_donors,
    goes_on,
    methods_domain,
    methods_forest,
    methods_values,
)
from app.charts.launch_periods import (
    MOST_DRAWN,
    LaunchEvent,
    coverage_chart,
    cut_bands,
    drawn,
    gap_chart,
    path_chart,
)
from app.charts.launch_trust import (
    MOST_EVENT_TIMES,
    MOST_PLACEBOS,
    drawn_events,
    event_chart,
    event_picture,
    parting_chart,
    placebo_chart,
    placebo_values,
)
from app.charts.series_lines import MOST_LINES, series_lines
from app.charts.theme import PALETTE
from experiments.result import DonorUse, EventPoint, LaunchEstimate, TrendSensitivity
from tests.app.charts.drawn import Drawn
from tests.app.documents import START
from tests.app.launch_documents import FIRST, estimate, measured, periods, placebos_in_space, placebos_in_time

RICH = measured()
EVENTS = [LaunchEvent(1, FIRST - timedelta(days=3), "announced", "Announced"), LaunchEvent(2, FIRST, "step", "DE")]
DAYS = [START + timedelta(days=day) for day in range(20)]
SERIES = {
    f"country {place}": [float("nan") if day == 7 else 10.0 + place + day for day in range(20)] for place in range(6)
}
PARTING = RICH.sensitivity or TrendSensitivity(points=[], breakdown=None)
SPECS = Drawn(
    {
        "path": lambda: path_chart(RICH, EVENTS),
        "effect": lambda: gap_chart(RICH, EVENTS, "effect", title="Effect a day"),
        "cumulative": lambda: gap_chart(RICH, [], "cumulative", title="Added up"),
        "coverage": lambda: coverage_chart(RICH, EVENTS),
        "methods": lambda: methods_forest(RICH.estimates, {}, tone="good", series_name="Revenue"),
        "donors": lambda: donors_chart(RICH.donors, lift=0.041, series_name="Revenue"),
        "placebos_in_time": lambda: placebo_chart(placebos_in_time(), series_name="Revenue"),
        "placebos_in_space": lambda: placebo_chart(placebos_in_space(), series_name="Revenue"),
        "events": lambda: event_chart(event_picture(RICH.event_study), grain="day", series_name="Revenue"),
        "parting": lambda: parting_chart(PARTING, series_name="Revenue"),
        "series": lambda: series_lines(DAYS, SERIES, name="Revenue", unit="€", grain="day"),
    }
)
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


def test_an_interval_that_goes_on_beyond_the_picture_has_an_arrow_at_that_end() -> None:
    def arrows(*found: LaunchEstimate) -> str:
        return re.sub("[^◂▸]", "", svg(methods_forest(found, {}, tone="good", series_name="Revenue"), width=320))

    lead = estimate("did", 0.04, leads=True)
    assert arrows(lead, estimate("structural", 0.05, 0.04)) == ""
    assert arrows(lead, estimate("structural", 0.05, 3.0)) == "◂▸"
    assert arrows(lead, estimate("bsts", 2.0, 0.1)) == "▸"
    assert [goes_on([lead]), goes_on([lead, estimate("bsts", 2.0, 0.1)])] == [False, True]


def test_numbers_of_a_row_are_whole_on_a_phone_and_the_name_makes_room() -> None:
    spec = methods_forest(
        [estimate("did", 0.101, 0.103, leads=True)],
        {"did": "A name as long as it can be"},
        tone="good",
        series_name="R",
    )
    said = [text.replace("\u00a0", " ") for text in re.findall(r">([^<>]+)</text>", svg(spec, width=310))]
    assert "+10.1 %  (−0.2 to +20.4)" in said
    assert any(text.startswith("A name as long") and text.endswith("…") for text in said)


def event(time: int, half: float, band: float) -> EventPoint:
    return EventPoint(
        time=time,
        lift=0.1,
        ci_lower=0.1 - half,
        ci_upper=0.1 + half,
        band_lower=0.1 - band,
        band_upper=0.1 + band,
        cells=1,
    )


def test_times_of_which_nothing_is_known_do_not_flatten_the_others() -> None:
    calm = [event(time, 0.05, 0.08) for time in range(-5, 10)]
    alone = event_picture(calm)
    picture = event_picture([*calm, event(10, 0.3, 0.5), event(11, 0.06, 8e8), event(12, 3.0, 4e16)])
    assert (alone.cut, alone.bare) == (0, 0)
    assert alone.low < 0.02
    assert alone.high > 0.18
    assert (picture.cut, picture.bare) == (1, 2)
    assert picture.high - picture.low < 2 * (alone.high - alone.low)
    last = {value["time"]: value["lower"] for value in picture.values[-3:]}
    assert last[10] is not None
    assert last[11] is not None
    assert last[12] is None
    assert max(value["edge"] for value in picture.bands) == 10.5
    assert all(picture.low <= value["lower"] <= value["upper"] <= picture.high for value in picture.bands)


@given(st.lists(st.tuples(*[st.floats(-1, 1e17)] * 3), min_size=1, max_size=20))
@settings(max_examples=40)
def test_whatever_the_intervals_are_the_picture_holds_zero_and_is_finite(
    ends: list[tuple[float, float, float]],
) -> None:
    points = [
        EventPoint(time=time, lift=sorted(each)[1], ci_lower=min(each), ci_upper=max(each), cells=1)
        for time, each in enumerate(ends)
    ]
    picture = event_picture(points)
    assert picture.low < 0 < picture.high
    assert math.isfinite(picture.high - picture.low)
    assert picture.cut + picture.bare <= len(points)


def test_a_time_without_a_band_is_a_gap_in_it() -> None:
    points = [event(time, 0.05, 0.08) for time in range(6)]
    points[3] = points[3].model_copy(update={"band_lower": None, "band_upper": None})
    bands = event_picture(points).bands
    assert {value["edge"]: value["run"] for value in bands} == {
        -0.5: 0, 0.5: 0, 1.5: 0, 2.5: 0, 3.5: 1, 4.5: 1, 5.5: 1
    }  # fmt: skip


def test_one_wild_day_is_cut_and_counted() -> None:
    known = periods(0.04)
    wild = known[-5].model_copy(update={"effect_lower": -1e9, "effect_upper": 1e9})
    assert (cut_bands(RICH), cut_bands(measured(periods=[*known, wild]))) == (0, 1)


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
