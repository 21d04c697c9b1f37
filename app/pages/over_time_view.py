"""How each comparison came to be what it is: look by look, and against its bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.charts.forest import ROLES
from app.charts.looks import lift_over_time, look_values
from app.charts.sequential import monitor_chart
from app.charts.theme import Spec
from app.pages import formats
from app.pages.naming import Names
from experiments.result import ExperimentResult, Look, Row, SequentialMonitor

MAX_COMPARISONS: Final = 12
FEW_LOOKS: Final = 2
_STOPPED: Final = {
    "efficacy": "An efficacy bound was crossed",
    "harm": "The bound for harm was crossed",
    "futility": "The futility bound was crossed",
}
_SPENDING: Final = {
    "obrien_fleming": "O'Brien-Fleming",
    "pocock": "Pocock",
    "power": "power-family",
    "hwang_shih_de_cani": "Hwang-Shih-DeCani",
}


@dataclass(frozen=True, slots=True)
class MonitorView:
    """A group-sequential course with its picture and what it says in one or two sentences."""

    monitor: SequentialMonitor
    chart: Spec
    sentence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric and arm with its pictures; `looks` and `monitor` are None where there is nothing."""

    name: str
    row: Row
    looks: Spec | None
    look_rows: Sequence[Look]
    monitor: MonitorView | None


def comparisons(document: ExperimentResult, ordered: Sequence[Row], names: Names) -> list[Comparison]:
    """Comparisons that have a course, in the order of roles; `ordered` breaks ties."""
    monitors = {(item.metric_key, item.variant_key): item for item in document.sequential}
    found: list[Comparison] = []
    for row in sorted((row for row in ordered if row.role != "monitor"), key=lambda row: ROLES.index(row.role)):
        key = (row.metric_key, row.variant_key)
        looks = [look for look in document.looks if (look.metric_key, look.variant_key) == key]
        drawable = look_values(looks, metric_key=row.metric_key, variant_key=row.variant_key)
        monitor = monitors.get(key)
        if len(drawable) < FEW_LOOKS and monitor is None:
            continue
        found.append(
            Comparison(
                name=names.comparison(row.metric_key, row.variant_key),
                row=row,
                looks=lift_over_time(
                    looks, metric_key=row.metric_key, variant_key=row.variant_key, metric_name=row.metric_name
                )
                if len(drawable) >= FEW_LOOKS
                else None,
                look_rows=looks,
                monitor=monitor_view(monitor, row) if monitor and monitor.looks else None,
            )
        )
    return found[:MAX_COMPARISONS]


def monitor_view(monitor: SequentialMonitor, row: Row) -> MonitorView:
    """The picture of a course, and where it stands."""
    return MonitorView(
        monitor=monitor,
        chart=monitor_chart(monitor, direction=row.direction, metric_name=row.metric_name),
        sentence=course_sentence(monitor, row.ci_level),
    )


def course_sentence(monitor: SequentialMonitor, level: float) -> str:
    """How many looks were taken, what stopped it, and the estimate that accounts for stopping."""
    taken = [look for look in monitor.looks if look.z is not None]
    spending = _SPENDING.get(monitor.spending, monitor.spending)
    said = f"{spending} spending: {len(taken)} of {len(monitor.looks)} looks taken"
    if taken:
        said += f", {formats.share(min(taken[-1].information_fraction, 1.0))} of the planned information"
    if monitor.stopped_for is None:
        said += "; no bound was crossed." if taken else "."
    else:
        when = f" on {formats.day(monitor.stopped_at)}" if monitor.stopped_at else ""
        said += f". {_STOPPED[monitor.stopped_for]}{when}."
    if monitor.estimate is not None:
        said += (
            f" Accounting for the stop, the median-unbiased lift is {formats.change(monitor.estimate)} "
            f"({formats.share(level)} interval {formats.between(monitor.ci_lower, monitor.ci_upper)}, "
            f"{formats.p_equals(monitor.p_value)})."
        )
    return said
