"""The pictures of programmes, holdouts and learned links."""

import re
from typing import Any

import numpy as np
import pytest
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from app.charts.interval_rows import IntervalRow, interval_rows
from app.charts.links import ellipse, link_scatter, team_slopes
from app.charts.programme import MOST_ROWS, cumulative_chart, effects_forest, shown_effects, wins_chart
from app.charts.theme import PALETTE
from experiments.result import LinkPoint
from tests.app import programme_documents as documents
from tests.app.charts.drawn import Drawn

PROGRAMME, LINK = documents.programme(), documents.links().links[0]
SHIPPED = [each for each in PROGRAMME.effects if each.shipped]
ROWS = [
    IntervalRow("Ours", "+4.0 %", 0.04, (0.02, 0.06), (0.01, 0.07), True),
    IntervalRow("Theirs", "+6.0 %", 0.06, None, None, False),
    IntervalRow("Nobody's", "not estimable", None, None, None, False),
]
SPECS = Drawn(
    {
        "cumulative": lambda: cumulative_chart(PROGRAMME.cumulative, PROGRAMME.data_as_of, metric_name="Hours"),
        "forest": lambda: effects_forest(
            SHIPPED, mean=0.002, description="Experiments that shipped, claimed and believed"
        ),
        "wins": lambda: wins_chart(PROGRAMME.effects, wins=13, metric_name="Hours"),
        "rows": lambda: interval_rows(ROWS, description="Totals of what shipped by method"),
        "scatter": lambda: link_scatter(LINK, input_name="Active listeners", north_star_name="Hours"),
        "teams": lambda: team_slopes(
            LINK.slope_by_team, slope=1.1, lower=0.9, upper=1.3, input_name="Active listeners"
        ),
    }
)
LEAST_MARKS = {"cumulative": 21, "forest": 42, "wins": 12, "rows": 2, "scatter": 57, "teams": 8}


def svg(spec: dict[str, Any], width: int = 320) -> str:
    return str(vl_convert.vegalite_to_svg({**spec, "width": width}))


@pytest.mark.parametrize("name", SPECS)
def test_every_picture_has_its_marks_in_the_colours_of_the_page(name: str) -> None:
    picture = svg({**SPECS[name], "params": [{"name": key, "value": "#123456"} for key in PALETTE]})
    assert len(re.findall(r'role="graphics-symbol"', picture)) >= LEAST_MARKS[name]
    assert set(re.findall(r"#[0-9a-f]{6}", picture)) <= {"#123456"}
    assert "NaN" not in picture and "Infinity" not in picture
    assert len(SPECS[name]["description"]) > 20


def test_a_claim_far_from_everything_believed_becomes_an_arrow() -> None:
    wild = SHIPPED[0].model_copy(update={"claimed": 3.0})
    picture = svg(effects_forest([wild, *SHIPPED[1:]], mean=None, description="One wild claim among them"))
    assert "▸" in picture and "◂" not in picture


def test_of_many_experiments_those_farthest_from_nothing_are_drawn_in_order() -> None:
    shown = shown_effects(PROGRAMME.effects)
    assert len(shown) == MOST_ROWS
    assert [each.shrunk for each in shown] == sorted((each.shrunk for each in shown), reverse=True)
    left_out = [abs(each.shrunk) for each in PROGRAMME.effects if each not in shown]
    assert max(left_out) <= min(abs(each.shrunk) for each in shown)


@settings(max_examples=15, deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(1e-4, 1.0), st.floats(1e-4, 1.0))
def test_an_ellipse_is_the_contour_of_its_errors(lean: float, own: float, guide: float) -> None:
    point = LinkPoint(
        experiment_key="a",
        name="A",
        input_log_lift=0.1,
        input_standard_error=own,
        north_star_log_lift=-0.2,
        north_star_standard_error=guide,
        error_correlation=lean,
    )
    corners = np.array(ellipse(point)) - (0.1, -0.2)
    u, v = corners[:, 0] / own, corners[:, 1] / guide
    # Of two correlated standard normals, u^2 and (v - lean u)^2 / (1 - lean^2) add up to the same everywhere.
    assert np.allclose(u**2 * (1 - lean**2) + (v - lean * u) ** 2, 2 * np.log(2) * (1 - lean**2), atol=1e-9)
    assert np.abs(u).max() <= np.sqrt(2 * np.log(2)) + 1e-9
