"""What a series would have been without the launch, forecast from its own past and from donors (METHODS D4).

Brodersen, Gallusser, Koehler, Remy & Scott 2015 ("Inferring causal impact using Bayesian structural time-series
models"): the model is fitted on the periods before the launch alone, donors and outside influences carry the common
movements over, and the effect is what happened less the forecast. Donors share one normal prior whose width is
integrated out (ridge); the sampled version with a horseshoe is `stats.bayes.models.launch_series`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stats.bayes.mixture import Mixture
from stats.launch.contract import Estimated, NotEstimable, PlaceboRuns, Series, at_full_coverage, nothing
from stats.launch.earlier_dates import no_runs, placebo_dates, placebo_runs
from stats.launch.series_design import (
    NOISE,
    STEP,
    Design,
    Part,
    design,
    history_scales,
    hyper,
)
from stats.launch.state_space import (
    Array,
    Filtered,
    Indices,
    Posterior,
    equal_tails,
    filtered,
    posterior,
    ratios,
    smoothed,
    two_sided,
)

_INFLUENCES: Final = np.geomspace(0.02, 1.0, 5)
"""Standard deviations of influences' coefficients that are held possible alike, in swings of the series."""


def bsts(series: Series, *, level: float = 0.95, trend: bool = True, steps: float = STEP) -> Estimated:
    """The effect of a launch as what happened less the forecast from before it, at full coverage (METHODS D4).

    `y = level + trend + season + donors + regressors + noise` before the launch, with the priors of `series_design`.
    `trend=False` leaves the straight line out, and `steps`, the prior scale of the level's steps in changes of the
    series, can be made narrow: the paper's own software does both.

    The standard deviations of the level's steps, of the noise and of the donors' coefficients are integrated over a
    grid, so that forecast and effect are mixtures of normals. `covariance` holds the level's drift since the launch,
    the coefficients and the noise. `fitted` is smoothed before the launch and the forecast from then on. Assumes that
    the launch moved no donor and no regressor, and that they move the outcome afterwards as they did before.
    """
    try:
        ready = design(series, donors=True, trend=trend)
    except NotEstimable as problem:
        return nothing("bsts", problem.code, periods=series.y.size)
    ratio = ratios(ready.begin)
    seen = _seen(ready, ratio, [ready.begin])
    found = _fit(ready, seen, ratio, 0, ready.begin, steps)
    forecast = _Forecast(ready, seen, found, ratio, 0, ready.begin)
    outcome = ready.outcome[ready.treated]
    path, covariance = forecast.moments(ready.treated)
    by_period = (outcome - path) * ready.unit
    covariance = covariance * ready.unit**2
    coverage = series.coverage[ready.treated]
    effect, error = at_full_coverage(by_period, covariance, coverage)
    mixture = forecast.effect(ready.treated, coverage / (coverage @ coverage))
    lower, upper = equal_tails(mixture, level)
    return Estimated(
        method="bsts",
        effect=effect,
        standard_error=error,
        lower=lower * ready.unit,
        upper=upper * ready.unit,
        p_value=two_sided(mixture),
        interval_kind="posterior",
        periods=ready.treated,
        by_period=by_period,
        covariance=covariance,
        fitted=ready.centre + ready.unit * forecast.fitted(),
        hyper=hyper(found, ready, level),
        notes=ready.notes,
    )


def bsts_in_time(
    series: Series, *, horizon: int, most: int = 24, trend: bool = True, steps: float = STEP
) -> PlaceboRuns:
    """The same estimator at up to `most` earlier dates, each fitted on the periods before its date alone.

    A run is judged by the `horizon` periods after its date, with the launch's coverage path moved there. All come from
    one pass of the filter. Scores are absolute effects in standard errors.
    """
    try:
        ready = design(series, donors=True, trend=trend)
    except NotEstimable:
        return no_runs()
    placed = placebo_dates(ready, series.coverage, horizon, most)
    if not placed.dates:
        return no_runs()
    ratio = ratios(ready.begin)
    begins = [*placed.dates, ready.begin]
    seen = _seen(ready, ratio, begins)
    effect, error = np.empty(len(begins)), np.empty(len(begins))
    for number, begin in enumerate(begins):
        after = ready.treated
        if begin < ready.begin:
            after = begin + np.flatnonzero(
                ready.usable[begin : begin + placed.horizon] & (placed.path[: placed.horizon] > 0)
            )
        coverage = placed.path[after - begin]
        found = _fit(ready, seen, ratio, number, begin, steps)
        forecast = _Forecast(ready, seen, found, ratio, number, begin)
        mean, sd = forecast.effect(after, coverage / (coverage @ coverage)).moments()
        effect[number], error[number] = float(mean), float(sd)
    return placebo_runs(placed, effect * ready.unit, error * ready.unit)


def _seen(ready: Design, ratio: Array, begins: list[int]) -> Filtered:
    return filtered(np.column_stack([ready.columns.values, ready.outcome]), ready.usable, ratio, begins)


def _fit(ready: Design, seen: Filtered, ratio: Array, number: int, begin: int, steps: float) -> Posterior:
    """What is known before `begin`, the filter's stop `number`, over all widths of the donors' prior by evidence."""
    widths = _INFLUENCES if (ready.columns.part == Part.INFLUENCE).any() else np.ones(1)
    scale = history_scales(ready, begin)
    own = slice(number, number + 1)
    found = posterior(
        np.repeat(seen.cross[own], widths.size, axis=0),
        np.repeat(seen.log_determinant[own], widths.size, axis=0),
        np.repeat(seen.count[own], widths.size),
        ratio,
        precision=np.stack([ready.columns.precision(ready.usable, begin, scale, influence=w) for w in widths]),
        noise=np.full(widths.size, NOISE * scale.change),
        step=np.full(widths.size, steps * scale.change),
    )
    share = np.exp(found.log_evidence - found.log_evidence.max())
    return found.together(share / share.sum())


class _Forecast:
    """The outcome after `begin`, as forecast at the filter's stop `number` by every part of a posterior."""

    def __init__(self, ready: Design, seen: Filtered, found: Posterior, ratio: Array, number: int, begin: int) -> None:
        self.ready, self.found, self.ratio, self.begin = ready, found, ratio, begin
        self.level = seen.level[number][found.place]
        self.variance = seen.variance[number][found.place]

    def paths(self, periods: Indices, mean: Array) -> Array:
        """Means (Q, S, P) of the parts: the last level, and what is linear less its own share of that level."""
        explained = self.ready.columns.values[periods]
        start = self.level[:, None, -1] - np.einsum("qk,qsk->qs", self.level[:, :-1], mean)
        return np.asarray(start[..., None] + mean @ explained.T)

    def moments(self, periods: Indices) -> tuple[Array, Array]:
        """Mean (P,) and covariance (P, P) over all parts."""
        found, weight = self.found, self.found.weight
        coefficients, spread = found.all()
        paths = self.paths(periods, coefficients)
        mean = np.einsum("qs,qsp->p", weight, paths)
        around = (np.sqrt(weight)[..., None] * (paths - mean)).reshape(-1, periods.size)
        since = periods - self.begin + 1.0
        covariance = around.T @ around
        covariance += np.einsum("qs,q->", weight * found.noise**2, self.variance)
        covariance += (weight * found.step**2).sum() * np.minimum(since[:, None], since)
        covariance += (weight * found.noise**2).sum() * np.eye(periods.size)
        for place in np.unique(found.place):
            chosen = found.place == place
            moved = self.ready.columns.values[periods] - self.level[chosen][0, :-1]
            covariance += moved @ np.einsum("qs,qskj->kj", weight[chosen], spread[chosen]) @ moved.T
        return mean, np.asarray(covariance)

    def effect(self, periods: Indices, share: Array) -> Mixture:
        """The average of outcomes less forecasts, weighted by `share` (P,)."""
        found = self.found
        since = periods - self.begin + 1.0
        moved = self.ready.columns.values[periods].T @ share - share.sum() * self.level[:, :-1]
        mean, variance = found.of(moved)
        mean = self.ready.outcome[periods] @ share - share.sum() * self.level[:, None, -1] - mean
        variance = variance + found.noise**2 * (self.variance[:, None] * share.sum() ** 2 + share @ share)
        variance += found.step**2 * (share @ np.minimum(since[:, None], since) @ share)
        return Mixture(found.weight.ravel(), mean.ravel(), np.sqrt(variance.ravel()))

    def fitted(self) -> Array:
        """(T,) the smoothed fit before the launch, the forecast after it."""
        ready, begin, found = self.ready, self.begin, self.found
        mean, _ = found.all()
        coefficients = np.einsum("qs,qsk->qk", found.weight, mean)
        columns = np.column_stack([ready.columns.values, ready.outcome])[:begin]
        before = columns[:, :-1] @ coefficients.sum(axis=0)
        for place in np.unique(found.place):
            chosen = found.place == place
            levels = smoothed(columns, ready.usable[:begin], float(self.ratio[place]))
            before = before + found.weight[chosen].sum() * levels[:, -1] - levels[:, :-1] @ coefficients[chosen].sum(0)
        after = np.einsum("qs,qsp->p", found.weight, self.paths(np.arange(begin, ready.outcome.size), mean))
        return np.where(ready.explained, np.append(before, after), np.nan)
