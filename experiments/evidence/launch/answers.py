"""The estimates of a launch as parts of its document: one row per method, the course over time, the grade."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.special as sc

from experiments.definitions import Estimation
from experiments.evidence.launch.estimates import furthest
from experiments.evidence.launch.measured import Measured
from experiments.evidence.launch.natural_units import Course, Total, course, total_interval
from experiments.result import EventPoint, LaunchEstimate, LaunchGrade, ModelParameter, PeriodPoint
from experiments.types import finite
from stats.launch.contract import Estimated, EventStudy
from stats.moments import Floats

DEFAULT_PRIOR_SD: Final = Estimation().prior_scale
"""On the log lift, where no past experiments tell more (METHODS C3)."""


def lift(measured: Measured, effect: float) -> float | None:
    """An effect on the scale of the estimators as a fraction."""
    with np.errstate(over="ignore"):
        return finite(float(np.expm1(effect)) if measured.data.scale == "log" else effect)


def estimate_rows(measured: Measured) -> list[LaunchEstimate]:
    """The leading estimate first, then the others in order of strength; the prior where nothing was measured."""
    leads = measured.leading
    rows = [
        _row(measured, estimated, leads=leads is not None and method == leads.method)
        for method, estimated in measured.estimates.by_method.items()
    ]
    if leads is None:
        rows.insert(0, _prior(measured))
    return sorted(rows, key=lambda row: not row.leads)


def _row(measured: Measured, estimated: Estimated, *, leads: bool) -> LaunchEstimate:
    if estimated.reason:
        return LaunchEstimate(
            method=estimated.method,
            leads=False,
            estimable=False,
            reason=str(estimated.reason),
            interval_kind=estimated.interval_kind,
            notes=list(estimated.notes),
        )
    bias = _known(measured.grades[estimated.method].bias_sd)
    both = total_interval(estimated, bias, measured.level)
    per_log = _per_log(measured, estimated)
    summed = course(measured.data, estimated, bias, measured.level)
    total, periods = summed.total, summed.measured
    return LaunchEstimate(
        method=estimated.method,
        leads=leads,
        estimable=True,
        log_effect=_log(measured, estimated.effect),
        standard_error=finite(estimated.standard_error * per_log),
        bias_sd=finite(bias * per_log),
        total_standard_error=finite(float(np.hypot(estimated.standard_error, bias)) * per_log),
        lift=lift(measured, both.value),
        ci_lower=lift(measured, both.lower),
        ci_upper=lift(measured, both.upper),
        model_lower=lift(measured, estimated.lower),
        model_upper=lift(measured, estimated.upper),
        interval_kind=estimated.interval_kind,
        p_value=finite(estimated.p_value),
        notes=_notes(measured, estimated),
        **(_natural(total, periods) if total is not None else {}),
    )


def _notes(measured: Measured, estimated: Estimated) -> list[str]:
    """The estimator's notes, but for a poor fit that is nothing but noise."""
    good = any(fit.good for method, fit in measured.trust.fits.items() if method == estimated.method)
    return [note for note in estimated.notes if not (good and note == "poor_donor_fit")]


def _natural(total: Total, periods: int) -> dict[str, float | None]:
    parts = {"": total.value, "_lower": total.lower, "_upper": total.upper}
    return {
        **{f"cumulative{side}": finite(value) for side, value in parts.items()},
        **{f"difference{side}": finite(value / periods) for side, value in parts.items()},
    }


def _log(measured: Measured, effect: float) -> float | None:
    if measured.data.scale == "log":
        return finite(effect)
    return finite(float(np.log1p(effect))) if effect > -1 else None


def _per_log(measured: Measured, estimated: Estimated) -> float:
    """What a standard error on the scale of the estimators is on the log scale, per unit."""
    if measured.data.scale == "log":
        return 1.0
    return 1.0 / (1.0 + estimated.effect) if estimated.effect > -1 else float("nan")


def _prior(measured: Measured) -> LaunchEstimate:
    """What is believed of such launches: that of the metric's past experiments, else a wide one around nothing."""
    learned = measured.measurement.prior
    mean, sd = (learned.mean, learned.scale) if learned is not None else (0.0, DEFAULT_PRIOR_SD)
    reach = float(sc.ndtri(0.5 + measured.level / 2)) * sd
    return LaunchEstimate(
        method="prior",
        leads=True,
        estimable=True,
        reason=measured.why_unmeasured or None,
        log_effect=mean,
        standard_error=sd,
        bias_sd=0.0,
        total_standard_error=sd,
        lift=float(np.expm1(mean)),
        ci_lower=float(np.expm1(mean - reach)),
        ci_upper=float(np.expm1(mean + reach)),
        notes=["learned_prior" if learned is not None else "default_prior"],
    )


def grade_of(measured: Measured) -> LaunchGrade:
    """The grade as the document says it, its bias on the log scale."""
    grade, leads = measured.grade, measured.leading
    per_log = 1.0 if leads is None else _per_log(measured, leads)
    return LaunchGrade(
        grade=grade.letter,
        reasons=list(grade.reasons),
        raised_by=list(grade.raised_by),
        bias_sd=finite(grade.bias_sd * per_log),
        bias_source=grade.bias_source,
        placebo_runs=grade.runs,
    )


def period_points(measured: Measured) -> list[PeriodPoint]:
    """All periods with what was, and what would have been by the leading estimate."""
    data, leads = measured.data, measured.leading
    path = None if leads is None else course(data, leads, _known(measured.grade.bias_sd), measured.level)
    return [
        PeriodPoint(
            at=at,
            actual=finite(float(data.actual[t])),
            coverage=float(data.series.coverage[t]),
            excluded=bool(data.series.excluded[t]),
            **({} if path is None else _of_period(path, t)),
        )
        for t, at in enumerate(data.starts)
    ]


def _of_period(path: Course, t: int) -> dict[str, float | None]:
    return {
        name: finite(float(getattr(path, name)[t]))
        for name in (
            "counterfactual",
            "counterfactual_lower",
            "counterfactual_upper",
            "effect",
            "effect_lower",
            "effect_upper",
            "cumulative",
            "cumulative_lower",
            "cumulative_upper",
        )
    }


def event_points(measured: Measured) -> list[EventPoint]:
    """By time since each segment's own launch: of the leading estimate, else of the first that has such a study."""
    study = _study(measured)
    if study is None:
        return []
    ends = {name: _told(measured, study.effect, getattr(study, name)) for name in _ENDS.values()}
    return [
        EventPoint(
            time=int(study.time[e]),
            lift=lift(measured, float(study.effect[e])),
            cells=int(study.cells[e]),
            **{field: ends[name][e] for field, name in _ENDS.items()},
        )
        for e in range(study.time.size)
    ]


_ENDS: Final = {"ci_lower": "lower", "ci_upper": "upper", "band_lower": "band_lower", "band_upper": "band_upper"}


def _told(measured: Measured, effect: Floats, end: Floats) -> list[float | None]:
    """Ends of intervals as lifts; none where few comparison units leave one that holds everything."""
    says = np.abs(end - effect) < furthest(measured.data.scale)
    return [lift(measured, float(each)) if known else None for each, known in zip(end, says, strict=True)]


def _study(measured: Measured) -> EventStudy | None:
    leads = measured.leading
    if leads is None:
        return None
    rest = (estimated.event_study for estimated in measured.estimates.by_method.values())
    return leads.event_study or next((study for study in rest if study is not None), None)


def parameters(measured: Measured) -> list[ModelParameter]:
    """The leading model's own."""
    leads = measured.leading
    return [
        ModelParameter(name=name, mean=mean, lower=lower, upper=upper)
        for name, (mean, lower, upper) in ({} if leads is None else leads.hyper).items()
        if np.isfinite([mean, lower, upper]).all()
    ]


def _known(bias: float) -> float:
    return bias if np.isfinite(bias) else 0.0
