"""What inputs account for in an observed change of a North Star (METHODS E3, E4)."""

from collections.abc import Mapping

from app.charts.bars import Bar, bars
from app.charts.theme import Spec
from app.charts.units import with_interval
from experiments.result import Attribution


def attribution_chart(found: Attribution, names: Mapping[str, str], *, unit: str) -> Spec:
    """A bar per input with its interval, and the observed change below them. Accounting, not causes."""
    rows = [
        Bar(
            names.get(part.metric_key, part.name),
            with_interval(part.units, part.lower_80, part.upper_80),
            0.0,
            part.units,
            part.lower_80,
            part.upper_80,
            "series4",
        )
        for part in found.parts
    ]
    if found.change is not None:
        rows.append(
            Bar("Observed change", with_interval(found.change, None, None), 0.0, found.change, None, None, "muted")
        )
    return bars(
        rows,
        axis_title=f"Accounts for{f', {unit}' if unit else ''} (80 % intervals)",
        description=f"What {len(found.parts)} inputs account for in the change of the North Star",
    )
