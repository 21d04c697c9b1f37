"""Lifts in words and colours, the same in every chart, table and list."""

from typing import Literal

from experiments.result import DecisionInterval, Row

PERCENT = "\u00a0%"
"""The sign with a space before it that never breaks."""

type Tone = Literal["good", "bad", "neutral"]


def percent(value: float | None, digits: int = 1) -> str:
    """A lift in words of a chart: `+3.1 %`, `−0.4 %` (a true minus sign), `–` when there is none."""
    if value is None:
        return "–"
    text = f"{value * 100:+.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−") + PERCENT


def bare(value: float | None, digits: int = 1) -> str:
    """As `percent` without the sign, for the ends of an interval beside a number that has it."""
    return percent(value, digits).removesuffix(PERCENT)


def digits_for(width: float | None) -> int:
    """Decimals of a percentage, so that an interval this wide (as a fraction) shows two significant digits."""
    return 1 if width is None or width >= 0.01 else 2 if width >= 0.001 else 3


def digits_of(row: Row) -> int:
    """Decimals with which a row's lift and interval are written everywhere."""
    return digits_for(None if row.ci_lower is None or row.ci_upper is None else row.ci_upper - row.ci_lower)


def decision_bounds(row: Row, interval: DecisionInterval) -> tuple[float, float] | None:
    """The interval that decides, None when there is none."""
    fixed = (row.ci_lower, row.ci_upper)
    lower, upper = fixed if interval == "fixed" else (row.always_valid_lower, row.always_valid_upper)
    return None if lower is None or upper is None else (lower, upper)


def tone(row: Row, interval: DecisionInterval = "fixed") -> Tone:
    """`good` or `bad` when the deciding interval excludes no effect, in the sense of the metric's direction."""
    bounds = decision_bounds(row, interval)
    if bounds is None or row.role == "monitor" or bounds[0] <= 0 <= bounds[1]:
        return "neutral"
    return "good" if (bounds[0] > 0) == (row.direction == "increase") else "bad"
