"""Any estimator of a panel run where nothing happened: earlier, or on units without the launch (METHODS D3, D7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from stats.launch.contract import Estimated, NotEstimable, Panel, PlaceboRuns
from stats.launch.donors import LEAST_HISTORY, Places
from stats.moments import Floats

type Estimator = Callable[[Panel], Estimated]

KEPT = 0.5
"""Share of the history that every placebo in time keeps before its date."""


def placebo_sets(donors: int, treated: int) -> Places:
    """(J, M) sets of donors that take the launch in turn: each donor leads one, joined by others drawn by lot.

    M is the number of treated units, at most half of the donors, so that there is something left to compare with. The
    lot is the same every time.
    """
    members = min(treated, max(donors // 2, 1))
    rng = np.random.default_rng(donors)
    others = np.stack([rng.permutation(donors - 1)[: members - 1] for _ in range(donors)])
    lead = np.arange(donors)[:, None]
    return np.concatenate([lead, others + (others >= lead)], axis=1)


def in_space(panel: Panel, estimate: Estimator) -> PlaceboRuns:
    """Every unit without the launch takes it in turn, units that really have it left out.

    Where several units have the launch, each unit takes it together with others drawn by lot, and they take the
    treated units' dates, coverage and sizes. `place` is the unit that leads. Scored by the ratio of root mean squared
    errors after and before where the estimator gives `fitted`, else by the absolute studentised effect. Source: Abadie,
    Diamond & Hainmueller (2010), section 3.4.
    """
    treated, never = np.flatnonzero(panel.treated), np.flatnonzero(~panel.treated)
    heavy = treated[np.argsort(-panel.weight[treated], kind="stable")]
    possible = never.size > 1 and treated.size > 0
    sets = placebo_sets(never.size, treated.size) if possible else np.empty((0, 1), dtype=np.intp)
    own = _attempt(estimate, panel)
    fits = own is not None and bool(np.isfinite(own.fitted).any())
    runs = [_transplanted(panel, never, heavy[: len(members)], members) for members in sets]
    return _runs("space", [(run, _attempt(estimate, run)) for run in runs], never, (panel, own), fits=fits)


def in_time(panel: Panel, estimate: Estimator, *, horizon: int, most: int = 12) -> PlaceboRuns:
    """The launch moved to up to `most` earlier dates, `horizon` periods measured after each, its real dates cut off.

    Units keep their order, coverage and announcements; each date keeps half of the history before it, ten periods at
    least. `place` is the date's period. Scored by the absolute studentised effect; periods overlap, so that runs are
    not independent.
    """
    start, begin = int(panel.first.min()), _begin(panel)
    ahead = start - begin
    last = begin - ahead - horizon
    earliest = max(LEAST_HISTORY, int(np.ceil(KEPT * begin)))
    if start >= panel.y.shape[1] or horizon < 1 or last < earliest:
        dates = np.empty(0, dtype=np.intp)
    else:
        dates = np.unique(np.linspace(earliest, last, min(most, last - earliest + 1)).astype(np.intp))
    runs = [_moved(panel, begin, int(date), ahead + horizon) for date in dates]
    own = (panel, _attempt(estimate, panel))
    found = _runs("time", [(run, _attempt(estimate, run)) for run in runs], dates + ahead, own, fits=False)
    return replace(found, horizon=max(horizon, 1))


def independent_runs(common: Floats) -> float:
    """How many independent runs tell as much of a variance as these (J, J), `common` the share that two have in common.

    Averages of independent parts correlate by that share (Satterthwaite 1946).
    """
    return len(common) ** 2 / float((common**2).sum())


def error_ratio(gaps: Floats, before: int) -> float:
    """Root mean squared gap after the launch over that before; nan where there is no gap before."""
    past = float(np.sqrt(np.mean(gaps[:before] ** 2)))
    return float(np.sqrt(np.mean(gaps[before:] ** 2)) / past) if past > 0 else float("nan")


def _begin(panel: Panel) -> int:
    """The period in which the launch was announced, or began if it never was; earlier exclusions have other causes."""
    touched = ((panel.coverage > 0) | panel.excluded)[panel.treated].any(axis=0)
    start = int(panel.first.min())
    return start - int(np.argmin(np.append(touched[:start][::-1], False)))


def _moved(panel: Panel, begin: int, date: int, length: int) -> Panel:
    """The panel up to `date + length`, with what began at `begin` beginning at `date`."""
    taken = np.minimum(np.arange(begin, begin + length), panel.y.shape[1] - 1)
    coverage, excluded = panel.coverage[:, : date + length].copy(), panel.excluded[:, : date + length].copy()
    coverage[:, date:] = panel.coverage[:, taken]
    excluded[:, date:] |= panel.excluded[:, taken]
    return replace(panel, y=panel.y[:, : date + length], coverage=coverage, excluded=excluded)


def _transplanted(panel: Panel, never: Places, givers: Places, members: Places) -> Panel:
    """The untreated units alone, `members` of them with dates, coverage and sizes of `givers`."""
    coverage, excluded = panel.coverage[never].copy(), panel.excluded[never].copy()
    weight = panel.weight[never].copy()
    coverage[members] = panel.coverage[givers]
    excluded[members] |= panel.excluded[givers]
    weight[members] = panel.weight[givers]
    total = weight.sum()
    units = tuple(panel.units[place] for place in never)
    return Panel(units, panel.y[never], coverage, excluded, weight / total if total > 0 else weight)


def _attempt(estimate: Estimator, panel: Panel) -> Estimated | None:
    try:
        estimated = estimate(panel)
    except NotEstimable:
        return None
    return None if estimated.reason else estimated


def _runs(
    kind: Literal["time", "space"],
    runs: Sequence[tuple[Panel, Estimated | None]],
    place: Places,
    own: tuple[Panel, Estimated | None],
    *,
    fits: bool,
) -> PlaceboRuns:
    found = [estimated for _, estimated in runs]
    return PlaceboRuns(
        kind=kind,
        effect=np.array([np.nan if each is None else each.effect for each in found], dtype=np.float64),
        standard_error=np.array([np.nan if each is None else each.standard_error for each in found], dtype=np.float64),
        place=place[: len(runs)],
        score=np.array([_score(panel, each, fits=fits) for panel, each in runs], dtype=np.float64),
        own_score=_score(*own, fits=fits),
    )


def _score(panel: Panel, estimated: Estimated | None, *, fits: bool) -> float:
    if estimated is None:
        return float("nan")
    if not fits:
        usable = estimated.standard_error > 0
        return abs(estimated.effect) / estimated.standard_error if usable else float("nan")
    treated = panel.treated
    weight = panel.weight[treated] / panel.weight[treated].sum()
    gap = weight @ panel.y[treated] - estimated.fitted
    past = np.arange(gap.size) < panel.first[treated].min()
    past &= np.isfinite(gap) & ~panel.excluded[treated].any(axis=0)
    before, after = gap[past], estimated.by_period
    return error_ratio(np.concatenate([before, after]), before.size) if before.size and after.size else float("nan")
