"""Which segments to launch in, and for how long, so that an effect of some size would show (METHODS D3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import NDArray

from stats.launch.contract import Panel
from stats.launch.donors import LEAST_DONORS, LEAST_HISTORY, Comparison
from stats.launch.placebo import KEPT, independent_runs
from stats.launch.reasons import LaunchReason
from stats.launch.synthetic_control import WEIGHTS, SyntheticMethod, synthetic
from stats.moments import Bools, Floats, Ints

type Segments = tuple[int, ...]

INTERVALS = 3
"""Dates at which the interval of an imagined launch is made: each costs as many estimates as there are donors."""


@dataclass(frozen=True, slots=True, eq=False)
class GeoDesign:
    """What C sets of treated segments could show in K durations, judged by history alone.

    `detectable` (C, K) is the smallest effect on the scale of `y` that would be found with the power asked for.
    `spread` (C, K) is the root mean square of the effects found in windows of history in which nothing was launched,
    `bias` (C, K) their mean, `runs` (C, K) their number. `misfit` (C,) is the root mean squared gap over the whole
    history, over that of all other segments weighted equally: near 0 donors follow the set, at 1 they know nothing of
    it. `reason` (C, K) says why numbers are nan, "" where they are not.
    """

    candidates: tuple[Segments, ...]
    durations: Ints
    detectable: Floats
    spread: Floats
    bias: Floats
    runs: Ints
    misfit: Floats
    reason: NDArray[np.str_]


def candidate_sets(
    y: Floats, sizes: Sequence[int], *, forced: Sequence[int] = (), excluded: Sequence[int] = ()
) -> tuple[Segments, ...]:
    """Sets of segments that move alike, one per size and segment that leads it, without repetition.

    `y` (N, T), complete histories. A set holds `forced`, a leading segment, and the segments that correlate most with
    it, up to one of `sizes`; never `excluded`, and never every segment. Sizes too small for `forced` give no set.
    """
    count = len(y)
    free = [unit for unit in range(count) if unit not in {*forced, *excluded} and np.ptp(y[unit]) > 0]
    alike = np.full((count, count), -np.inf)
    alike[np.ix_(free, free)] = np.atleast_2d(np.corrcoef(y[free])) if free else 0.0
    found: dict[Segments, None] = {}
    for size in sizes:
        room = size - len(forced)
        if room == 0 and forced:
            found[tuple(sorted(forced))] = None
        elif 0 < room <= len(free) and size < count:
            for lead in free:
                others = [unit for unit in np.argsort(-alike[lead], kind="stable") if unit in free and unit != lead]
                found[tuple(sorted((*forced, lead, *map(int, others[: room - 1]))))] = None
    return tuple(found)


def misfits(y: Floats, weight: Floats, candidates: Sequence[Segments], *, least_donors: int = LEAST_DONORS) -> Floats:
    """(C,) `GeoDesign.misfit` of sets, nan where there is none: cheap, to choose which sets to judge in full."""
    complete = np.isfinite(y).all(axis=1)
    found = np.full(len(candidates), np.nan)
    for row, units in enumerate(candidates):
        treated = _members(len(y), units)
        if not _problem(treated, complete, least_donors):
            found[row] = _misfit(_everything(y, weight, treated, complete))
    return found


def geo_design(
    y: Floats,
    weight: Floats,
    candidates: Sequence[Segments],
    durations: Sequence[int],
    *,
    method: SyntheticMethod = "synthetic_did",
    level: float = 0.95,
    power: float = 0.8,
    most: int = 12,
    least_donors: int = LEAST_DONORS,
) -> GeoDesign:
    """The smallest effect that each set of segments would show in each duration.

    `y` (N, T) is history without any launch, on the scale that launches are estimated on; `weight` (N,) the segments'
    sizes. A launch is imagined at up to `most` dates of the second half of the history, ten periods before it at least,
    and estimated as a real one would be; segments with gaps serve neither as treated nor as donors. Sets that leave
    fewer than `least_donors` of these have a reason and no numbers.

    An effect is detectable if it exceeds half the launch's interval of `level`, the median over three of the dates, by
    as much as errors stay below with probability `power`. Errors are the effects found, Student's t with as many
    degrees of freedom as there would be dates if none shared a period. Intervals differ from
    date to date: where 0.8 was asked for, simulations found 0.71 to 0.79.
    """
    complete = np.isfinite(y).all(axis=1)
    shape = (len(candidates), len(durations))
    detectable, spread, bias = (np.full(shape, np.nan) for _ in range(3))
    runs, misfit = np.zeros(shape, dtype=np.int64), np.full(len(candidates), np.nan)
    reason = np.full(shape, "", dtype="U32")
    for row, units in enumerate(candidates):
        treated = _members(len(y), units)
        problem = _problem(treated, complete, least_donors)
        if problem:
            reason[row] = problem
            continue
        everything = _everything(y, weight, treated, complete)
        misfit[row] = _misfit(everything)
        for column, duration in enumerate(durations):
            starts = _starts(y.shape[1], duration, most)
            if starts.size == 0:
                reason[row, column] = LaunchReason.TOO_LITTLE_HISTORY
                continue
            effects = np.array([_found(everything, int(start), duration, method) for start in starts])
            shared = np.maximum(duration - np.abs(starts[:, None] - starts), 0) / duration
            freedom, size = independent_runs(shared), float(np.sqrt(np.mean(effects**2)))
            dates = starts[np.unique(np.linspace(0, starts.size - 1, INTERVALS).astype(int))]
            halves = [
                _half_interval(y[complete], weight[complete], treated[complete], int(start), duration, method, level)
                for start in dates
            ]
            detectable[row, column] = np.median(halves) + float(sc.stdtrit(freedom, power)) * size
            spread[row, column], bias[row, column], runs[row, column] = size, effects.mean(), effects.size
    lengths = np.array(durations, dtype=np.int64)
    return GeoDesign(tuple(candidates), lengths, detectable, spread, bias, runs, misfit, reason)


def added(levels: Floats, units: Segments, *, periods: int, lift: float) -> float:
    """What a relative lift would have added to these segments in the last periods of `levels` (N, T), in their units.

    Times the cost of one unit it is what a campaign of that effect costs.
    """
    return float(lift * levels[list(units), levels.shape[1] - periods :].sum())


def _members(count: int, units: Segments) -> Bools:
    treated = np.zeros(count, dtype=np.bool_)
    treated[list(units)] = True
    return treated


def _problem(treated: Bools, complete: Bools, least_donors: int) -> str:
    if not complete[treated].all():
        return LaunchReason.GAPS_IN_SERIES
    if not treated.any():
        return LaunchReason.TOO_FEW_TREATED_UNITS
    return LaunchReason.TOO_FEW_COMPARISON_UNITS if np.count_nonzero(complete & ~treated) < least_donors else ""


def _starts(periods: int, duration: int, most: int) -> Ints:
    """Dates at which a launch is imagined; none where the history is too short."""
    earliest, last = max(LEAST_HISTORY, int(np.ceil(KEPT * periods))), periods - duration
    if duration < 1 or last < earliest:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.linspace(earliest, last, min(most, last - earliest + 1)).astype(np.int64))


def _everything(y: Floats, weight: Floats, treated: Bools, complete: Bools) -> Comparison:
    """The set's average beside its donors over the whole history."""
    share = weight[treated] / weight[treated].sum()
    return Comparison(share @ y[treated], y[complete & ~treated], y.shape[1], np.empty(0), 1 / float(share @ share))


def _half_interval(
    y: Floats, weight: Floats, treated: Bools, start: int, duration: int, method: SyntheticMethod, level: float
) -> float:
    """Half the interval that a launch of this set at `start` would have had."""
    coverage = np.zeros((len(y), start + duration))
    coverage[treated, start:] = 1.0
    units = tuple(map(str, range(len(y))))
    panel = Panel(units, y[:, : start + duration], coverage, np.zeros_like(coverage, dtype=np.bool_), weight)
    estimated = synthetic(panel, method, level=level).estimated
    return (estimated.upper - estimated.lower) / 2


def _found(everything: Comparison, start: int, duration: int, method: SyntheticMethod) -> float:
    """The effect of nothing, launched at `start`."""
    end, coverage = start + duration, np.ones(duration)
    case = Comparison(everything.outcome[:end], everything.donors[:, :end], start, coverage, treated=everything.treated)
    return float(WEIGHTS[method](case).gaps(case)[start:].mean())


def _misfit(everything: Comparison) -> float:
    """Gaps of the weighted donors about their mean, over those of all donors weighted equally."""
    gaps = everything.outcome - WEIGHTS["synthetic_control"](everything).unit @ everything.donors
    plain = everything.outcome - everything.donors.mean(axis=0)
    return float(gaps.std() / plain.std()) if plain.std() > 0 else float("nan")
