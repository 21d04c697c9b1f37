"""Numbers as the terminal shows them; a dash where there is none."""

_NOTHING = "–"


def percent(value: float | None, *, sign: bool = True) -> str:
    """A fraction as a percentage; a dash where there is no number."""
    if value is None:
        return _NOTHING
    return f"{value:+.2%}" if sign else f"{value:.2%}"


def percent_interval(lower: float | None, upper: float | None, *, sign: bool = True) -> str:
    """Both ends of an interval."""
    return _NOTHING if lower is None or upper is None else f"{percent(lower, sign=sign)} … {percent(upper, sign=sign)}"


def chance(value: float | None) -> str:
    """A probability, which never rounds to certainty."""
    if value is None:
        return _NOTHING
    if value > 0.9999:
        return ">99.99%"
    return "<0.01%" if value < 0.0001 else f"{value:.2%}"


def small(value: float | None) -> str:
    """A small fraction as a percentage with two significant digits."""
    if value is None:
        return _NOTHING
    if 0 < value < 1e-6:
        return "<0.0001%"
    return f"{float(f'{value * 100:.2g}'):.6f}".rstrip("0").rstrip(".") + "%"
