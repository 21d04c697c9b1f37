"""How numbers and times are written on pages. Every lift goes through `app.charts.numbers`."""

import math
import re
from datetime import UTC, date, datetime

from markupsafe import Markup, escape

from app.charts.numbers import PERCENT, digits_for, percent
from experiments.result import Row

MINUS, NOTHING = "−", "–"
_HYPHEN = re.compile(r"(?<![\w.\-])-(?=\d)")
TINY = 1e-5


def number(value: float | None, digits: int = 3) -> str:
    """A level with thousands separators and at least `digits` significant digits: `12,345`, `2.06`, `–` for none."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or value == 0:  # counts are exact
        return f"{value:,.0f}".replace("-", MINUS)
    rounded = float(f"{value:.{digits}g}")  # 0.9999 is written as 1.00, not 1.000
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{value:,.{min(decimals, 8)}f}"
    if "." in text and abs(value) >= 1000:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", MINUS)


def change(value: float | None) -> str:
    """A relative change: `+3.1 %`."""
    return percent(value)


def between(lower: float | None, upper: float | None) -> str:
    """An interval of lifts: `+1.1 % to +5.0 %`; with two significant digits at least."""
    if lower is None or upper is None:
        return NOTHING
    digits = digits_for(upper - lower)
    return f"{percent(lower, digits)} to {percent(upper, digits)}"


def levels(lower: float | None, upper: float | None) -> str:
    """An interval of levels: `3,900 to 4,120`."""
    return NOTHING if lower is None or upper is None else f"{number(lower, 4)} to {number(upper, 4)}"


def gain(value: float | None) -> str:
    """An absolute difference at any size, with its sign: `+12,300`, `−0.0412`."""
    return f"+{number(value)}" if value is not None and value > 0 else number(value)


def differences(lower: float | None, upper: float | None) -> str:
    """An interval of absolute differences: `−12.5 to +80`."""
    return NOTHING if lower is None or upper is None else f"{gain(lower)} to {gain(upper)}"


def lift_of(row: Row) -> str:
    """A row's lift with the decimals of its interval."""
    width = None if row.ci_lower is None or row.ci_upper is None else row.ci_upper - row.ci_lower
    return percent(row.lift, digits_for(width))


def probability(value: float | None) -> str:
    """A probability as a percentage that never claims certainty: `99.6 %`, `> 99.9 %`."""
    if value is None:
        return NOTHING
    if value > 0.999:
        return f"> 99.9{PERCENT}"
    if value < 0.001:
        return f"< 0.1{PERCENT}"
    return f"{value * 100:.1f}{PERCENT}"


def share(value: float | None) -> str:
    """A share without a sign: `50 %`."""
    if value is None:
        return NOTHING
    if 0 < abs(value) < TINY:
        return f"< {TINY * 100:.3g}{PERCENT}"
    return f"{value * 100:.3g}{PERCENT}"


def measured_share(value: float, lower: float, upper: float) -> tuple[str, str]:
    """A share and its interval, with two significant digits of its width at least: `54.3 %`, `52.1 % to 56.5 %`."""
    value_text, low, high = (
        f"{100 * number:.{digits_for(upper - lower)}f}{PERCENT}" for number in (value, lower, upper)
    )
    return value_text, f"{low} to {high}"


def points(value: float | None) -> str:
    """A difference of shares, in percentage points with its sign: `+0.61 points`."""
    return NOTHING if value is None else f"{gain(100 * value)}\u00a0points"


def spread(value: float | None) -> str:
    """A standard error or deviation of lifts, with the decimals that lifts have: `1.5 %`."""
    return NOTHING if value is None else f"{value * 100:.{1 if value >= 0.001 else 3}f}{PERCENT}"


def unbroken(text: str) -> str:
    """A sentence whose percentages do not break before the sign, and whose minus signs are such."""
    return _HYPHEN.sub(MINUS, text.replace(" %", PERCENT))


def p_value(value: float | None) -> str:
    """A p-value: `0.0026`, `< 0.0001`."""
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.01 else f"{value:.3f}"


def p_equals(value: float | None, letter: str = "p") -> str:
    """A p-value with its sign of comparison: `p = 0.0026`, `p < 0.0001`, `–`."""
    text = p_value(value)
    if text == NOTHING:
        return NOTHING
    return f"{letter} {text}" if text.startswith("<") else f"{letter} = {text}"


def sentence(text: str) -> str:
    """A message as a sentence of its own: it begins with a capital and ends with a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".?!" else ".")


def coded(text: str) -> Markup:
    """A sentence whose parts in backticks are set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is just a character
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def day(value: datetime | date | str | None) -> str:
    """A day in UTC: `7 Sep 2026`."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = value.astimezone(UTC)
    return f"{value.day} {value:%b %Y}"


def moment(value: datetime | str | None) -> str:
    """A time in UTC to the minute: `7 Sep 2026, 14:05 UTC`."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return f"{day(value)}, {value.astimezone(UTC):%H:%M} UTC"


def days(start: datetime | None, end: datetime | None) -> str:
    """How long: `12 days`, `less than a day`."""
    if start is None or end is None:
        return NOTHING
    whole = (end - start).days
    return "less than a day" if whole < 1 else "1 day" if whole == 1 else f"{whole:,} days"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 metric`, `3 metrics`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
