"""Lifts in words and colours, the same in every chart, table and list."""

from typing import Literal, Protocol

from experiments.result import DecisionInterval, Row

PERCENT = "\u00a0%"
"""The sign with a space before it that never breaks."""

type Tone = Literal["good", "bad", "neutral"]


class Judged(Protocol):
    """What a row says about its decision, in a document or in the table of all rows."""

    @property
    def lift(self) -> float | None: ...

    @property
    def difference(self) -> float | None: ...

    @property
    def role(self) -> str: ...

    @property
    def significant(self) -> bool | None: ...


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


def plain(value: float | None) -> str:
    """An absolute difference in words of a chart: `+0.0612`, `−1.5`, `–` when there is none."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:+,.3g}".replace("-", "−")


def corrected(row: Row) -> bool:
    """Whether the row is of a document that says what decides; those of the first schema leave it to the reader."""
    return row.family is not None


def decision_bounds(row: Row, interval: DecisionInterval) -> tuple[float, float] | None:
    """The interval of the lift that decides, None when there is none."""
    fixed = (row.ci_lower, row.ci_upper)
    lower, upper = fixed if interval == "fixed" else (row.always_valid_lower, row.always_valid_upper)
    if corrected(row):
        lower, upper = row.decision_lower, row.decision_upper
    return None if lower is None or upper is None else (lower, upper)


def moved(row: Row, interval: DecisionInterval = "fixed") -> int:
    """1 or -1 when a move is decided, towards what the plan wants or away from it; 0 while it is not.

    Decided is what survives the correction: a step-down method may reject where no simple interval excludes zero.
    """
    if corrected(row):
        return direction_of(row, row.direction) if row.significant else 0
    bounds = decision_bounds(row, interval)
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return 0
    return 1 if (bounds[0] > 0) == (row.direction == "increase") else -1


def direction_of(row: Judged, wanted: str) -> int:
    """1 where the row points as wanted, -1 where it points away, 0 where it points nowhere."""
    change = row.lift if row.lift is not None else row.difference
    if not change:
        return 0
    return 1 if (change > 0) == (wanted == "increase") else -1


def tone(row: Row, interval: DecisionInterval = "fixed") -> Tone:
    """`good` or `bad` when a move is decided, in the sense of the metric's direction; monitors are neither."""
    sign = 0 if row.role == "monitor" else moved(row, interval)
    return "good" if sign > 0 else "bad" if sign < 0 else "neutral"


def finding(row: Row, interval: DecisionInterval = "fixed") -> str:
    """The same as one word: `better`, `worse`, `moved` for monitors, empty while nothing is decided."""
    sign = moved(row, interval)
    if sign == 0:
        return ""
    return "moved" if row.role == "monitor" else "better" if sign > 0 else "worse"
