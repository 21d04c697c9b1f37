"""Amounts of a North Star in words: with as many digits as their interval allows, never more."""

from math import floor, isfinite, log10
from typing import Final

MINUS: Final = "−"
_MOST_DECIMALS: Final = 6
_SCALES: Final = ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


def step_for(width: float | None, value: float | None = None) -> float:
    """The step (a power of ten) that amounts are rounded to: about two digits of the interval's width are told."""
    size = abs(width) / 3 if width else abs(value) / 100 if value else 1.0
    return float(10.0 ** (floor(log10(size)) - 1)) if isfinite(size) and size > 0 else 1.0


def amount(value: float | None, step: float, *, sign: bool = True) -> str:
    """A rounded amount: `+1,260,000`, `−0.041`, `0`; `–` for none."""
    if value is None:
        return "–"
    rounded = round(value / step) * step
    decimals = min(_MOST_DECIMALS, max(0, -floor(log10(step))))
    text = f"{rounded:{'+' if sign else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        return "0"
    return text.replace("-", MINUS)


def with_interval(value: float | None, lower: float | None, upper: float | None) -> str:
    """An amount with its interval beside a bar, in one scale and with the same digits: `+1.26M  (+0.74M to +1.83M)`."""
    if value is None:
        return "not estimable"
    known = lower is not None and upper is not None and lower != upper
    scale, suffix = _scale(max(abs(end) for end in (value, lower or 0.0, upper or 0.0)))
    step = step_for(upper - lower if lower is not None and upper is not None else None, value) / scale
    shown = amount(value / scale, step) + suffix
    if not known or lower is None or upper is None:
        return shown
    ends = f"{amount(lower / scale, step)}{suffix} to {amount(upper / scale, step)}{suffix}"
    return f"{shown}  ({ends})"


def _scale(size: float) -> tuple[float, str]:
    return next(((scale, suffix) for least, scale, suffix in _SCALES if size >= least), (1.0, ""))
