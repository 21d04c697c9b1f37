"""Which segments to launch in first, and for how long, so that an effect would show (METHODS D3).

The history of a series answers it before the launch. One is imagined in each set of segments at dates when nothing
happened, and estimated as a real one would be: what is found there is error, and an effect has to stand out from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Final, Literal, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import launch, launch_overview, series_values
from experiments.definitions import Grain, SeriesSpec
from experiments.definitions.elements import Definition
from experiments.errors import FieldError, InvalidDefinition, NotReady
from experiments.evidence.launch.design import SDID_DONORS
from experiments.evidence.launch.segments import Scale, Segments, chosen_segments, rows_of, sizes
from experiments.result import Document
from experiments.series import spec_of
from experiments.series_table import PERIOD, SeriesTable
from experiments.tables import Series
from experiments.types import finite
from stats.launch.geo_design import GeoDesign, added, candidate_sets, geo_design, misfits
from stats.launch.geo_design import Segments as Places
from stats.moments import Floats

MOST_COMPARED: Final = 40
"""Segments that a set is compared with, the largest ones: the effort grows by their square."""
MOST_EFFORT: Final = 3_000_000
"""Sets x durations x segments squared x periods that take about a second and a half."""
MOST_FOUND: Final = 10
"""Sets that a search answers with."""
USUAL_SIZES: Final = (1, 2, 3)
PER_DAY: Final[dict[Grain, float]] = {"hour": 24.0, "day": 1.0, "week": 1 / 7}


class RolloutQuestion(Definition):
    """Sets of segments to judge (`candidates`), or how to look for some, and for how many days each would run.

    Searched are sets of `sizes` that hold `included_segments`. `excluded_segments` are neither launched in nor compared
    with. An effect counts as detectable where an interval of `level` leaves out zero with probability `power`.
    """

    days: list[int] = Field(min_length=1, max_length=6, description="How long the launch would be measured")
    candidates: list[list[str]] = Field(default_factory=list, max_length=20)
    sizes: list[int] = Field(default_factory=list, max_length=5, description="Default: 1, 2 and 3 segments")
    included_segments: list[str] = Field(default_factory=list, max_length=100)
    excluded_segments: list[str] = Field(default_factory=list, max_length=1000)
    history: int = Field(default=180, ge=20, le=1100, description="The newest periods to judge by")
    level: float = Field(default=0.95, ge=0.5, le=0.999)
    power: float = Field(default=0.8, ge=0.5, le=0.99)

    @model_validator(mode="after")
    def _days_are_days(self) -> Self:
        if len(set(self.days)) != len(self.days) or not all(1 <= days <= 365 for days in self.days):
            raise ValueError("days: from 1 to 365, each once")
        return self

    @model_validator(mode="after")
    def _sets_are_named_or_searched(self) -> Self:
        if self.candidates and (self.sizes or self.included_segments):
            raise ValueError("candidates: `sizes` and `included_segments` are for a search; name sets, or search")
        if not all(1 <= size <= 100 for size in self.sizes):
            raise ValueError("sizes: from 1 to 100 segments")
        if not all(named and len(set(named)) == len(named) for named in self.candidates):
            raise ValueError("candidates: a set has at least one segment, and each once")
        if len(set(self.included_segments)) != len(self.included_segments):
            raise ValueError("included_segments: each once")
        asked = {name for named in (*self.candidates, self.included_segments) for name in named}
        if both := sorted(asked & set(self.excluded_segments)):
            raise ValueError(f"excluded_segments: {', '.join(both)} cannot be launched in and left out")
        return self


class RolloutOption(Document):
    """What a launch in these segments could show in so many days.

    `detectable_rise` and `detectable_drop` are the smallest lifts that would be found, as fractions; `adds` is what the
    rise would have added to the segments in the newest periods of the series, in its units (totals only). `misfit` is
    0 where the other segments follow these and 1 where they know nothing of them. `spread`, `bias` are the root mean
    square and the mean of what was found at `placebo_runs` dates when nothing was launched.
    """

    segments: list[str]
    days: int
    periods: int
    share: float = Field(description="Of the whole series")
    misfit: float | None
    detectable_rise: float | None
    detectable_drop: float | None
    adds: float | None
    spread: float | None
    bias: float | None
    placebo_runs: int
    reason: str | None


class RolloutDesign(Document):
    """Sets of segments by durations: named ones in their order, found ones with the smallest detectable effect first.

    `launches_in_history` are launches measured on this series with a step among the periods: what they did is taken
    for the way segments wander, so effects seem harder to detect than they are.
    """

    series_key: str
    grain: Grain
    scale: Scale
    method: Literal["synthetic_did"] = "synthetic_did"
    level: float
    power: float
    first_period: AwareDatetime
    last_period: AwareDatetime
    periods: int
    compared_segments: int
    left_out: list[str] = Field(description="Segments that take no part: excluded, small, or without values to use")
    searched: int | None = Field(description="Sets that a search looked at; those that donors follow best are shown")
    launches_in_history: list[str]
    options: list[RolloutOption]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What a design is judged by."""

    spec: SeriesSpec
    table: SeriesTable
    launches: tuple[str, ...]


async def history_of(session: AsyncSession, *, series: Series, known_at: datetime, periods: int) -> History:
    """The newest periods of a series. Raises `NotReady` for one without segments, values, or a past of its own."""
    spec = spec_of(series)
    if spec.source != "pushed":
        _not_ready(f"The series `{spec.key}` is computed from facts by every analysis", "Push a series of its values.")
    if spec.dimension in ("", "arm"):
        _not_ready(f"The series `{spec.key}` has no segments to choose from", "Push it by country, city or tenant.")
    newest = await series_values.values_as_of(session, series=series, known_at=known_at, limit=1)
    if not newest:
        _not_ready(f"The series `{spec.key}` has no values", "Send its values, of more than ten periods.")
    since = newest[0][0].at - PERIOD[spec.grain] * periods
    table = await series_values.table_of(session, series=series, known_at=known_at, since=since)
    begin, end = (table.periods[0], table.periods[-1]) if table.periods else (since, since)
    launches = tuple(
        row.key
        for row in await launch_overview.measured_on(session, series_key=spec.key)
        if any(begin < step.at <= end for step in launch.spec_of(row).rollout)
    )
    return History(spec, table, launches)


def rollout_design(history: History, asked: RolloutQuestion) -> RolloutDesign:
    """What each set could show, in a few seconds of computing at most.

    Raises `InvalidDefinition` for segments that cannot be used and for more than can be computed at once, `NotReady`
    for too few segments.
    """
    spec, table = history.spec, history.table
    columns = list(range(max(len(table.periods) - asked.history, 0), len(table.periods)))
    names, values, counts = rows_of(table, columns)
    everywhere = np.ones(len(columns), dtype=np.bool_)
    coverage = np.zeros(values.shape)
    excluded = asked.excluded_segments
    used = chosen_segments(names, values, counts, coverage, everywhere, ~everywhere, excluded)
    _check_names(asked, names, used)
    size = sizes(used, spec.aggregation, everywhere) * np.abs(used.mean)
    complete = np.isfinite(used.values).all(axis=1)
    if np.count_nonzero(complete) <= SDID_DONORS:
        _not_ready(
            f"{np.count_nonzero(complete)} segments of `{spec.key}` have a value in each of the {len(columns)} periods",
            f"{SDID_DONORS + 1} at least are needed: send the missing values, or ask for less `history`.",
        )
    share = size / size.sum()
    kept = _largest(used, share, {name for named in (*asked.candidates, asked.included_segments) for name in named})
    used, share = used.only(kept), share[kept]
    y = np.log(used.values) if used.scale == "log" else used.values / np.abs(used.mean)[:, None]
    durations = [max(ceil(days * PER_DAY[spec.grain]), 1) for days in asked.days]
    room = MOST_EFFORT // (len(durations) * y.shape[0] * y.size)
    place = {name: row for row, name in enumerate(used.names)}
    sets: Sequence[Places] = [tuple(sorted(place[name] for name in names)) for names in asked.candidates]
    if max(len(sets), 1) > room:
        _refuse_effort(len(durations), y.shape, room)
    searched: int | None = None
    if not sets:
        sets, searched = _found(asked, place, y, share, min(room, MOST_FOUND))
    design = geo_design(y, share, sets, durations, level=asked.level, power=asked.power, least_donors=SDID_DONORS)
    order = range(len(sets)) if searched is None else np.argsort(design.detectable[:, -1], kind="stable").tolist()
    return RolloutDesign(
        series_key=spec.key,
        grain=spec.grain,
        scale=used.scale,
        level=asked.level,
        power=asked.power,
        first_period=table.periods[columns[0]],
        last_period=table.periods[-1],
        periods=len(columns),
        compared_segments=int(np.count_nonzero(np.isfinite(y).all(axis=1))),
        left_out=sorted(set(names) - set(used.names)),
        searched=searched,
        launches_in_history=list(history.launches),
        options=[
            _option(design, row, column, days, used, share, spec)
            for row in order
            for column, days in enumerate(asked.days)
        ],
    )


def _found(
    asked: RolloutQuestion, place: dict[str, int], y: Floats, share: Floats, most: int
) -> tuple[list[Places], int]:
    """The sets that the other segments follow best, of every size the same number, and how many were looked at."""
    whole = np.flatnonzero(np.isfinite(y).all(axis=1))
    row_of = {int(row): i for i, row in enumerate(whole)}
    forced = [row_of[place[name]] for name in asked.included_segments]
    sizes = asked.sizes or [size for size in USUAL_SIZES if size >= len(forced)]
    sizes = [size for size in dict.fromkeys(sizes) if size <= len(whole) - SDID_DONORS]
    sets = candidate_sets(y[whole], sizes, forced=forced)
    if not sets:
        raise InvalidDefinition(
            f"No set of {' or '.join(map(str, asked.sizes or USUAL_SIZES))} segments can be made",
            remedy=f"{len(whole)} segments have no gaps; {SDID_DONORS} of them at least must stay without the launch.",
            errors=[FieldError("/sizes", "no such set leaves enough segments to compare with")],
        )
    found = [tuple(int(whole[row]) for row in units) for units in sets]
    misfit = misfits(y, share, found, least_donors=SDID_DONORS)
    ranks = np.empty(len(found))
    length = np.array([len(units) for units in found])
    for size in np.unique(length):
        ranks[length == size] = np.argsort(np.argsort(misfit[length == size], kind="stable"), kind="stable")
    best = np.lexsort((misfit, ranks))[:most]
    return [found[i] for i in best], len(found)


def _option(
    design: GeoDesign, row: int, column: int, days: int, used: Segments, share: Floats, spec: SeriesSpec
) -> RolloutOption:
    units, periods = design.candidates[row], int(design.durations[column])
    effect = float(design.detectable[row, column])
    known = np.isfinite(effect)
    rise, drop = (np.expm1(effect), -np.expm1(-effect)) if used.scale == "log" else (effect, effect)
    totals = known and spec.aggregation == "total"
    return RolloutOption(
        segments=[used.names[unit] for unit in units],
        days=days,
        periods=periods,
        share=float(share[list(units)].sum()),
        misfit=finite(design.misfit[row]),
        detectable_rise=finite(rise),
        detectable_drop=finite(drop),
        adds=finite(added(np.abs(used.values), units, periods=periods, lift=float(rise))) if totals else None,
        spread=finite(design.spread[row, column]),
        bias=finite(design.bias[row, column]),
        placebo_runs=int(design.runs[row, column]),
        reason=str(design.reason[row, column]) or None,
    )


def _largest(used: Segments, share: Floats, named: set[str]) -> NDArray[np.bool_]:
    """(N,) the segments that are asked about, and the largest of the others."""
    kept = np.array([name in named for name in used.names], dtype=np.bool_)
    order = np.argsort(-np.where(kept, -np.inf, share), kind="stable")
    kept[order[: min(MOST_COMPARED, int(np.count_nonzero(~kept)))]] = True
    return kept


def _check_names(asked: RolloutQuestion, known: Sequence[str], used: Segments) -> None:
    """Segments that are asked about must have values that can be used. Raises `InvalidDefinition`."""
    fields = [(f"/candidates/{i}", named) for i, named in enumerate(asked.candidates)]
    fields.append(("/included_segments", asked.included_segments))
    gaps = {name for name, row in zip(used.names, used.values, strict=True) if not np.isfinite(row).all()}
    faults = []
    for pointer, named in fields:
        for name in named:
            if name not in known:
                faults.append(FieldError(pointer, f"`{name}` has no value in this history"))
            elif name not in used.names:
                faults.append(FieldError(pointer, f"`{name}` {_why_left_out(used, name)}"))
            elif name in gaps and pointer == "/included_segments":
                faults.append(FieldError(pointer, f"`{name}` lacks values in some periods"))
    if faults:
        raise InvalidDefinition(
            "Segments are named whose history says nothing",
            remedy="Name segments as the series has them, with a value in every period.",
            errors=faults,
        )


def _why_left_out(used: Segments, name: str) -> str:
    left = used.left_out
    if name in left.all_zero:
        return "is nothing but zeros"
    if name in left.not_positive:
        return "has values of zero or below, and most others have not"
    if name in left.near_zero:
        return "has a mean too close to zero to speak of a percentage"
    return "has values in less than half of the periods"


def _refuse_effort(durations: int, shape: tuple[int, ...], room: int) -> NoReturn:
    segments, periods = shape
    raise InvalidDefinition(
        f"This is more than can be computed at once: with {segments} segments, {periods} periods and {durations} "
        f"durations there is room for {room} sets",
        remedy="Ask for fewer sets or durations, a shorter `history`, or leave out segments by `excluded_segments`.",
        errors=[FieldError("/candidates", f"at most {room}")],
    )


def _not_ready(detail: str, remedy: str) -> NoReturn:
    raise NotReady(detail, remedy=remedy)
