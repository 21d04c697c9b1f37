"""A series as its page shows it: segments by size, what is missing, and what was restated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Final

from app.charts.series_lines import MOST_LINES, MOST_PERIODS, NAMED, series_lines
from app.charts.theme import Spec
from experiments.definitions import SeriesSpec
from experiments.series_table import SeriesTable

RECENT: Final = 28
SPARK: Final = 60
MOST_SEGMENTS: Final = 200
MOST_ROWS: Final = 60


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """One segment: its newest value, how many periods have none, and the last ones for a small picture.

    `swatch` is the number of its colour in the picture, None where it is one of the faint lines.
    """

    name: str
    last: float | None
    last_at: datetime | None
    missing: int
    history: Sequence[float | None]
    swatch: int | None


@dataclass(frozen=True, slots=True)
class SeriesView:
    """`rows` are the newest periods with the values of the largest segments, for those who cannot see the picture."""

    chart: Spec | None
    summary: str
    segments: Sequence[SegmentLine]
    hidden_segments: int
    columns: Sequence[str]
    rows: Sequence[tuple[datetime, Sequence[float | None]]]
    periods: Sequence[datetime]
    restated: int


def series_view(spec: SeriesSpec, table: SeriesTable) -> SeriesView:
    """The largest segments first, by the sum of their newest values."""
    whole = spec.name if not spec.dimension else "no name"
    lines = {name or whole: values for name, values in zip(table.segments, table.values.tolist(), strict=True)}
    ordered = dict(sorted(lines.items(), key=lambda item: (-_size(item[1]), item[0])))
    shown = min(len(ordered), MOST_LINES)
    summary = f"{spec.name} by {spec.grain}" + (f" and {spec.dimension}" if spec.dimension else "") + "."
    if shown < len(ordered):
        summary += f" The {shown} largest of {len(ordered)}."
    if len(table.periods) > MOST_PERIODS:
        summary += f" The newest {MOST_PERIODS} periods of {len(table.periods):,}."
    largest = list(islice(ordered, NAMED * 2))
    places = range(len(table.periods) - 1, max(-1, len(table.periods) - 1 - MOST_ROWS), -1)
    return SeriesView(
        chart=series_lines(table.periods, ordered, name=spec.name, unit=spec.unit, grain=spec.grain)
        if table.periods
        else None,
        summary=summary,
        segments=[
            _line(name, values, table.periods, place + 1 if place < NAMED else None)
            for place, (name, values) in enumerate(islice(ordered.items(), MOST_SEGMENTS))
        ],
        hidden_segments=max(0, len(ordered) - MOST_SEGMENTS),
        columns=largest,
        rows=[(table.periods[place], [_known(ordered[name][place]) for name in largest]) for place in places],
        periods=table.periods,
        restated=table.restated,
    )


def _line(name: str, values: Sequence[float], periods: Sequence[datetime], swatch: int | None) -> SegmentLine:
    newest = next((place for place in range(len(values) - 1, -1, -1) if isfinite(values[place])), None)
    return SegmentLine(
        name=name,
        last=None if newest is None else values[newest],
        last_at=None if newest is None else periods[newest],
        missing=sum(not isfinite(value) for value in values),
        history=[_known(value) for value in values[-SPARK:]],
        swatch=swatch,
    )


def _size(values: Sequence[float]) -> float:
    return sum(value for value in values[-RECENT:] if isfinite(value))


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
