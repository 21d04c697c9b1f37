"""What the terminal shows of a result: one line per metric and variant, a reason where there is no number."""

import io
from typing import Any

from rich.console import Console

from app.cli.report import decision_lines, percent, result_table

ROW: dict[str, Any] = {
    "metric_key": "orders",
    "role": "primary",
    "variant_key": "new",
    "segment": None,
    "lift": 0.031,
    "ci_lower": 0.012,
    "ci_upper": 0.05,
    "p_value": 0.00123,
    "chance_to_win": 0.998,
    "reason": None,
}


def shown(rows: list[dict[str, Any]]) -> str:
    written = io.StringIO()
    Console(width=160, file=written).print(result_table({"rows": rows}))
    return written.getvalue()


def test_a_fraction_is_shown_as_a_signed_percentage_and_nothing_as_a_dash() -> None:
    assert (percent(0.031), percent(-0.5), percent(0.998, sign=False), percent(None)) == (
        "+3.10%", "-50.00%", "99.80%", "–",
    )  # fmt: skip


def test_a_line_has_lift_interval_p_value_and_chance_to_win() -> None:
    text = shown([ROW])
    for cell in ("orders", "new", "+3.10%", "+1.20% … +5.00%", "0.0012", "99.80%"):
        assert cell in text


def test_segments_are_left_to_the_page() -> None:
    assert "DE" not in shown([ROW, {**ROW, "segment": "DE", "metric_key": "DE"}])


def test_a_number_that_cannot_be_had_is_a_dash_with_its_reason() -> None:
    without = dict.fromkeys(("lift", "ci_lower", "ci_upper", "p_value", "chance_to_win"))
    text = shown([{**ROW, **without, "reason": "zero_variance"}])
    assert "zero_variance" in text and "–" in text and "nan" not in text.lower()


def test_the_recommendation_is_said_and_which_interval_decides_if_it_is_another() -> None:
    ended = {"decision_interval": "fixed", "recommendation": {"action": "roll_back"}}
    assert decision_lines(ended) == ["Recommended: roll back."]
    running = {"decision_interval": "group_sequential", "recommendation": {"action": "keep_running"}}
    assert decision_lines(running) == [
        "Recommended: keep running.",
        "The group-sequential interval decides, not the one below.",
    ]
    assert decision_lines({"decision_interval": "fixed"}) == [], "results of earlier versions recommend nothing"
