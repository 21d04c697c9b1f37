"""An experiment as one line: its verdict and the one number that says most about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.charts.numbers import Tone, direction_of
from experiments.definitions import MetricSpec
from experiments.overview import Glance
from experiments.tables import Decision, Experiment, ResultRow


@dataclass(frozen=True, slots=True)
class Line:
    """`row` is the primary comparison that is shown, `others` how many there are beside it."""

    experiment: Experiment
    verdict: str | None
    decision: Decision | None
    row: ResultRow | None
    metric_name: str
    tone: Tone
    others: int


def lines(glances: Sequence[Glance], metrics: Mapping[str, MetricSpec]) -> list[Line]:
    """One line per experiment, in the same order."""
    return [_line(glance, metrics) for glance in glances]


def reach(shown: Sequence[Line]) -> float:
    """Half-width of the axis that all mini intervals of a list share, so that lines compare at a glance."""
    ends = sorted(
        max(abs(line.row.ci_lower), abs(line.row.ci_upper))
        for line in shown
        if line.row is not None and line.row.ci_lower is not None and line.row.ci_upper is not None
    )
    return ends[int(0.8 * (len(ends) - 1))] * 1.1 if ends else 0.1


def _line(glance: Glance, metrics: Mapping[str, MetricSpec]) -> Line:
    wanted = {"better": "good", "worse": "bad"}.get(glance.verdict or "")
    tones = {row.id: row_tone(row, _direction(glance, row)) for row in glance.primary}
    telling = [row for row in glance.primary if tones[row.id] == wanted]
    chosen = max(telling, key=lambda row: abs(row.lift or 0.0)) if telling else next(iter(glance.primary), None)
    name = ""
    if chosen is not None:
        name = metrics[chosen.metric_key].name if chosen.metric_key in metrics else chosen.metric_key
    return Line(
        experiment=glance.experiment,
        verdict=glance.verdict,
        decision=glance.decision,
        row=chosen,
        metric_name=name,
        tone=tones[chosen.id] if chosen is not None else "neutral",
        others=max(0, len(glance.primary) - 1),
    )


def _direction(glance: Glance, row: ResultRow) -> str:
    """Which way the metric should go, as planned."""
    planned = (glance.experiment.plan or {}).get("metrics", [])
    return next((item["direction"] for item in planned if item["metric_key"] == row.metric_key), "increase")


def row_tone(row: ResultRow, direction: str) -> Tone:
    """As `numbers.tone` for the flat row that lists have; rows of the first schema go by their fixed interval."""
    if row.family is not None:
        sign = direction_of(row, direction) if row.significant else 0
        return "good" if sign > 0 else "bad" if sign < 0 else "neutral"
    if row.ci_lower is None or row.ci_upper is None or row.ci_lower <= 0 <= row.ci_upper:
        return "neutral"
    return "good" if (row.ci_lower > 0) == (direction == "increase") else "bad"
