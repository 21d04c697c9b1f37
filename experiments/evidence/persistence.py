"""How much of the effects lasts, from their curves by days since exposure (METHODS E6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.evidence.contract import Block
from experiments.evidence.rows import nulls
from experiments.plan import AnalysisPlan
from experiments.result import Persistence, PersistencePoint
from experiments.types import finite
from stats.exposure_age import AgeEffects, age_effects
from stats.moments import Floats
from stats.persistence import PersistenceFit, PersistenceReason, Range, persistence

type Fits = Mapping[tuple[str, str], PersistenceFit]
"""By metric and variant."""


def persistence_fits(plan: AnalysisPlan, blocks: Sequence[Block]) -> Fits:
    """A fit for every metric that is followed by days and every treatment, in the plan's order."""
    moments = {key: found for block in blocks for key, found in block.moments.by_age.items()}
    fits: dict[tuple[str, str], PersistenceFit] = {}
    if plan.purpose == "aa":
        return fits
    for metric in plan.metrics:
        followed = moments.get(metric.metric_key)
        if followed is None or followed.columns == 0 or not followed.count.all():
            continue
        found = age_effects(followed)
        for v, variant in enumerate(plan.variants[1:]):
            fits[metric.metric_key, variant.key] = _fit(found, v, metric.spec.delay_days, plan.estimation.prior_scale)
    return fits


def persistence_of(fits: Fits) -> list[Persistence]:
    """What the document says of each fit."""
    return [_document(metric_key, variant_key, fit) for (metric_key, variant_key), fit in fits.items()]


def _fit(found: AgeEffects, v: int, delay_days: float, effect_sd: float) -> PersistenceFit:
    """On the log scale, of the days with a relative effect; too few units have too rough a covariance.

    How large effects may be is what the plan states for all of them (`prior_scale`).
    """
    used = np.flatnonzero(found.used[v] & np.isfinite(found.lift.log_value[v]))
    reason = str(found.reason[v])
    if reason or len(used) < 2:
        empty = np.zeros(0)
        none = reason or str(PersistenceReason.TOO_FEW_DAYS)
        return PersistenceFit(empty, empty, np.zeros((0, 2)), np.zeros((0, 2, 2)), empty, reason=none)
    level = 1 + found.lift.value[v, used]
    spread = found.covariance[v][np.ix_(used, used)] / level[:, None] / level
    return persistence(found.lift.log_value[v, used], spread, delay_days + used, effect_sd=effect_sd)


def _document(metric_key: str, variant_key: str, fit: PersistenceFit) -> Persistence:
    start, long_run, half_life, remaining = fit.start, fit.long_run, fit.half_life, fit.remaining
    known = remaining is not None and fit.remaining_median is not None
    return Persistence(
        metric_key=metric_key,
        variant_key=variant_key,
        **_lifts("start", start),
        **_lifts("long_run", long_run),
        # As the ledger takes it: a loss after a gain counts as nothing left.
        remaining=fit.remaining_median,
        remaining_lower=min(max(remaining.lower, 0.0), fit.remaining_median or 0.0) if known and remaining else None,
        remaining_upper=max(remaining.upper, fit.remaining_median or 0.0) if known and remaining else None,
        remaining_log_sd=fit.remaining_log_sd,
        lasting=fit.lasting_median,
        lasting_log_sd=fit.lasting_log_sd,
        half_life_days=half_life.median if half_life else None,
        half_life_lower=half_life.lower if half_life else None,
        half_life_upper=half_life.upper if half_life else None,
        chance_below_half=fit.chance_below_half,
        transient=fit.transient,
        identified=fit.identified,
        curve=_curve(fit),
        estimable=not fit.reason,
        reason=fit.reason or None,
    )


def _lifts(name: str, found: Range | None) -> dict[str, float | None]:
    """Quantiles of log lifts as lifts."""
    if found is None:
        return dict.fromkeys((name, f"{name}_lower", f"{name}_upper"))
    values = (found.median, found.lower, found.upper)
    return {f"{name}{end}": finite(float(np.expm1(x))) for end, x in zip(("", "_lower", "_upper"), values, strict=True)}


def _curve(fit: PersistenceFit) -> list[PersistencePoint]:
    """The course by days, over twice as long as was observed."""
    if fit.reason:
        return []
    ages: Floats = np.arange(0.0, 2 * float(fit.ages.max()) + 2)
    curve = fit.curve(ages)
    columns = (nulls(np.expm1(band)) for band in (curve.mean, curve.lower, curve.upper))
    return [
        PersistencePoint(age_days=float(age), lift=lift, lower=lower, upper=upper)
        for age, lift, lower, upper in zip(ages.tolist(), *columns, strict=True)
        if lift is not None and lower is not None and upper is not None
    ]
