"""What speaks for and against the answer, as parts of the document: placebos, donors, trends before the launch."""

from __future__ import annotations

import numpy as np

from experiments.evidence.launch.answers import lift
from experiments.evidence.launch.grading import PRE_TREND_ALPHA
from experiments.evidence.launch.measured import Measured
from experiments.result import (
    DonorFit,
    DonorUse,
    PlaceboRun,
    Placebos,
    PreTrend,
    SensitivityPoint,
    TrendSensitivity,
)
from experiments.types import finite
from stats.launch.contract import Estimated, PlaceboRuns


def placebos(measured: Measured) -> list[Placebos]:
    """Those of the leading method, in time and in space; kinds without a single run are left out."""
    leads = measured.leading
    if leads is None:
        return []
    found = (measured.trust.in_time.get(leads.method), measured.trust.in_space.get(leads.method))
    return [_placebos(measured, leads, runs) for runs in found if runs is not None and np.isfinite(runs.effect).any()]


def _placebos(measured: Measured, leads: Estimated, runs: PlaceboRuns) -> Placebos:
    made = np.flatnonzero(np.isfinite(runs.effect))
    data, errors = measured.data, runs.standard_error[made]
    known = errors[np.isfinite(errors)]
    return Placebos(
        kind=runs.kind,
        method=leads.method,
        runs=[
            PlaceboRun(
                at=data.starts[runs.place[j]] if runs.kind == "time" else None,
                segment=data.compared.units[runs.place[j]] if runs.kind == "space" else None,
                lift=lift(measured, float(runs.effect[j])) or 0.0,
                standard_error=finite(float(runs.standard_error[j])),
                score=finite(float(runs.score[j])),
            )
            for j in made
        ],
        own_lift=lift(measured, leads.effect),
        own_score=finite(runs.own_score),
        p_value=finite(runs.p_value),
        rms_effect=finite(float(np.sqrt(np.mean(runs.effect[made] ** 2)))),
        rms_standard_error=finite(float(np.sqrt(np.mean(known**2)))) if known.size else None,
    )


def donor_uses(measured: Measured) -> list[DonorUse]:
    """Comparison units with some weight, the heaviest first, then those that were left out as suspects.

    Of a structural model all donors, without weights: their coefficients are among its parameters.
    """
    trust, touched = measured.trust, measured.touched
    suspects = [
        DonorUse(segment=name, weight=None, lift_without=None, suspect=True)
        for name in (*touched.copies, *touched.donors)
    ]
    leads = measured.leading
    if leads is not None and leads.method == "bsts":
        return [*(DonorUse(segment=name, weight=None, lift_without=None) for name in measured.data.donors), *suspects]
    if trust.weighted is None or leads is None:
        return suspects
    left_out = trust.left_out
    without = {} if left_out is None else dict(zip(left_out.unit.tolist(), left_out.effect, strict=True))
    weights = trust.fits[trust.weighted].synthetic.weights
    units = measured.data.compared.units
    order = [int(i) for i in np.argsort(-np.abs(weights), kind="stable") if abs(weights[i]) > 0]
    used = [
        DonorUse(
            segment=units[i],
            weight=float(weights[i]),
            lift_without=lift(measured, float(without[i])) if i in without else None,
        )
        for i in order
    ]
    return [*used, *suspects]


def donor_fit(measured: Measured) -> DonorFit | None:
    """How well the weighted donors follow the treated before the launch."""
    weighted = measured.trust.weighted
    if weighted is None or measured.leading is None:
        return None
    fit = measured.trust.fits[weighted]
    return DonorFit(
        method=weighted,
        pre_rmspe=finite(fit.synthetic.pre_rmspe),
        share_of_effect=finite(fit.share_of_effect),
        largest_weight=finite(fit.largest_weight),
        good=fit.good,
    )


def trend_before(measured: Measured) -> PreTrend | None:
    """The test of trends before the launch."""
    found = measured.trust.pre_trend
    if found is None or measured.leading is None:
        return None
    return PreTrend(
        p_value=finite(found.p_value),
        periods=found.periods,
        slope=finite(found.slope),
        slope_lower=finite(found.slope_lower),
        slope_upper=finite(found.slope_upper),
        passed=bool(found.p_value >= PRE_TREND_ALPHA),
    )


def sensitivity(measured: Measured) -> TrendSensitivity | None:
    """The interval under ever larger departures from equal trends."""
    found = measured.trust.magnitudes
    if found is None or measured.leading is None:
        return None
    points = [
        SensitivityPoint(m=float(m), ci_lower=low, ci_upper=high)
        for m, low, high in zip(
            found.m,
            (lift(measured, float(value)) for value in found.lower),
            (lift(measured, float(value)) for value in found.upper),
            strict=True,
        )
        if low is not None and high is not None
    ]
    return TrendSensitivity(points=points, breakdown=finite(found.breakdown)) if points else None
