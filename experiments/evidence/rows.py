"""Effects as rows of the result document: metric x variant x segment, numbers or nulls with a reason.

`mean_control` and `mean_treatment` are what was measured, before covariate adjustment; `difference` and `lift` are
adjusted where `method` contains A7, and the lift is relative to the size of the unadjusted control mean (A3, A7).
Always-valid numbers and non-inferiority belong to decisions about everybody, so rows of segments do not carry them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike
from pydantic import TypeAdapter

from experiments.evidence.beliefs import BlockBeliefs
from experiments.evidence.details import Details
from experiments.evidence.effects import Effects, stays_within
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import DecisionInterval, Row
from stats.estimate import Estimates
from stats.moments import Bools, Floats

ESTIMATOR = {"mean": "A1", "proportion": "A1", "ratio": "A4", "formula": "E1", "quantile": "A6"}
"""By what the statistics see (`MetricSpec.estimated_as`)."""
type Segment = tuple[str, str] | None
type RowDraft = dict[str, Any]
"""The fields of a row that are known so far."""


def nulls(values: ArrayLike) -> Any:
    """Nested lists of an array with None for everything that is not a finite number."""
    array = np.asarray(values, dtype=np.float64)
    good = np.isfinite(array)
    if good.all():
        return array.tolist()
    mixed = array.astype(object)
    mixed[~good] = None
    return mixed.tolist()


def block_drafts(
    plan: AnalysisPlan,
    block: BlockShapes,
    effects: Effects,
    believed: BlockBeliefs,
    segments: Sequence[Segment],
    interval: DecisionInterval,
    details: Mapping[tuple[int, int], Details] | None = None,
) -> list[RowDraft]:
    """Drafts of the rows of one block: by metric, then segment, then variant.

    The cells of `effects` are (1 + segments,): everybody first, then `segments[1:]`. `details` (by metric, variant) go
    to the rows of everybody. Numbers are taken from the arrays column by column.
    """
    e, d, up = effects.estimates, effects.difference, effects.lift
    valueless = _valueless(block, e)
    shape = d.value.shape
    means = np.where(valueless, np.nan, e.unadjusted)
    adjusted = np.broadcast_to(e.adjusted[:, None], shape)
    columns: dict[str, Any] = {
        "method": _methods(plan, block, effects),
        "interval_kind": _listed(up.interval_kind),
        "n_control": _listed(np.broadcast_to(effects.units[:, :1], shape)),
        "n_treatment": _listed(effects.units[:, 1:]),
        "mean_control": _numbers(np.broadcast_to(means[:, :1], shape)),
        "mean_treatment": _numbers(means[:, 1:]),
        "difference": _numbers(np.where(valueless[:, 1:] | valueless[:, :1], np.nan, d.value)),
        "difference_standard_error": _numbers(d.standard_error),
        "difference_ci_lower": _numbers(d.ci_lower),
        "difference_ci_upper": _numbers(d.ci_upper),
        "lift": _numbers(up.value),
        "standard_error": _numbers(up.standard_error),
        "ci_lower": _numbers(up.ci_lower),
        "ci_upper": _numbers(up.ci_upper),
        "p_value": _numbers(d.p_value),
        "log10_p_value": _numbers(d.log10_p),
        "variance_reduction": _numbers(np.where(adjusted, e.variance_reduction[:, None], np.nan)),
        "estimable": _listed(d.estimable),
        "reason": [code or None for code in _listed(np.where(d.reason != "", d.reason, up.reason))],
        "df": _numbers(d.df),
        "skewness": _numbers(effects.skewness),
        "log_e_value": _numbers(effects.always.log_e),
        **_decisions(block, effects, interval),
        **_bayes(block, believed, shape),
    }
    common = [_identity(metric) | {"ci_level": plan.estimation.ci_level} for metric in block.metrics]
    places = [
        {"variant_key": variant.key, "segment_dimension": dimension, "segment": level}
        for dimension, level in (segment or (None, None) for segment in segments)
        for variant in plan.variants[1:]
    ]
    owners = ((metric, place) for metric in common for place in places)
    names = tuple(columns)
    drafts = [
        {**metric, **place, **dict(zip(names, values, strict=True))}
        for (metric, place), values in zip(owners, zip(*columns.values(), strict=True), strict=True)
    ]
    for (m, v), found in (details or {}).items():
        more = {"ratio": found.ratio, "cap": found.cap, "survey": found.survey, "funnel": found.funnel}
        drafts[m * len(places) + v] |= more
    return drafts


def validated(drafts: Sequence[RowDraft]) -> list[Row]:
    """The rows of finished drafts, validated in one go."""
    return _ROWS.validate_python(drafts)


def _flat(array: Any) -> Any:
    """(cells, V-1, M) in the order of rows."""
    return np.moveaxis(array, -1, 0).reshape(-1)


def _numbers(array: Floats) -> list[float | None]:
    found: list[float | None] = nulls(_flat(array))
    return found


def _listed(array: Any) -> list[Any]:
    found: list[Any] = _flat(array).tolist()
    return found


def _decisions(block: BlockShapes, effects: Effects, interval: DecisionInterval) -> dict[str, Any]:
    """What decisions are made of: about everybody only, so null in segments."""
    av = effects.always
    found: dict[str, Any] = {}
    for name, array in (("lower", av.lower), ("upper", av.upper), ("p_value", av.p_value)):
        found[f"always_valid_{name}"] = _numbers(_everybody(array))
    low, high = effects.safe.ci_lower, effects.safe.ci_upper
    if interval == "always_valid":
        low, high = av.safe_lower, av.safe_upper
    cells, treatments, _ = low.shape
    safe: list[bool | None] = []
    for m, metric in enumerate(block.metrics):
        margin = metric.non_inferiority_margin
        safe += [
            None if margin is None else stays_within(metric.direction, margin, *bounds)
            for bounds in zip(low[0, :, m].tolist(), high[0, :, m].tolist(), strict=True)
        ]
        safe += [None] * (treatments * (cells - 1))
    found["non_inferior"] = safe
    return found


def _everybody(array: Floats) -> Floats:
    """The numbers of the first cell, nan in the others."""
    found = np.full_like(array, np.nan)
    found[0] = array[0]
    return found


def absent_drafts(plan: AnalysisPlan, metric: PlannedMetric, reason: str) -> list[RowDraft]:
    """Drafts of the rows of a metric without data: the comparison was planned, so the document says why it is empty."""
    blank = {name: None for name, field in Row.model_fields.items() if type(None) in get_args(field.annotation)}
    return [
        {
            **blank,
            **_identity(metric),
            "variant_key": variant.key,
            "method": ESTIMATOR[metric.spec.estimated_as],
            "interval_kind": "none",
            "n_control": 0,
            "n_treatment": 0,
            "ci_level": plan.estimation.ci_level,
            "estimable": False,
            "reason": reason,
        }
        for variant in plan.variants[1:]
    ]


def _valueless(block: BlockShapes, estimates: Estimates) -> Bools:
    """(cells, V, M) where there is no number at all: nobody measured, or data that must not be used."""
    refused = np.array([any(column in block.invalid for column in shape.columns) for shape in block.shapes])
    return np.asarray((estimates.count == 0)[..., None] | refused)


def _identity(metric: PlannedMetric) -> dict[str, Any]:
    return {
        "metric_key": metric.metric_key,
        "metric_version": metric.version,
        "metric_name": metric.spec.name,
        "unit": metric.spec.unit,
        "role": metric.role.value,
        "direction": metric.direction.value,
        "non_inferiority_margin": metric.non_inferiority_margin,
        "mde": metric.mde,
    }


def _methods(plan: AnalysisPlan, block: BlockShapes, effects: Effects) -> list[str]:
    """Of each row: the estimator, what it was refined by, A3 if there is a lift, A7 if covariates were used."""
    e = effects.estimates
    shape = effects.difference.value.shape
    flags = (
        effects.few,
        np.broadcast_to(effects.jackknifed[:, None], shape),
        np.broadcast_to(effects.stratified[:, None], shape),
        effects.lift.estimable,
        np.broadcast_to(e.adjusted[:, None], shape),
    )
    code = sum((flag.astype(np.int64) << i for i, flag in enumerate(flags)), np.zeros(shape, dtype=np.int64))
    per_metric = shape[0] * shape[1]
    words = [_words(plan, metric) for metric in block.metrics]
    return [words[i // per_metric][found] for i, found in enumerate(_listed(code))]


@cache
def _spelled(estimator: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """The method of every combination of flags: small counts, jackknife, strata, lift, covariates."""
    spelled = []
    for code in range(32):
        few, jackknifed, stratified, relative, adjusted = (bool(code >> i & 1) for i in range(5))
        parts = ["A2" if few else "A4j" if jackknifed and estimator == "A4" else estimator, *options]
        parts += ["A8"] * stratified + ["A3"] * relative + ["A7"] * adjusted
        spelled.append("+".join(parts))
    return tuple(spelled)


def _words(plan: AnalysisPlan, metric: PlannedMetric) -> tuple[str, ...]:
    spec = metric.spec
    clustered = plan.cluster is not None
    form = spec.estimated_as
    estimator = "A5" if clustered and form in ("mean", "proportion") else ESTIMATOR[form]
    options = ["A5"] * (clustered and estimator != "A5") + ["A9"] * (spec.cap is not None)
    return _spelled(estimator, (*options, *["A13"] * (spec.kind == "survey")))


_BAYES = {
    "chance_to_win": "chance_to_win",
    "expected_loss": "expected_loss",
    "expected_loss_of_not_shipping": "expected_loss_of_not_shipping",
    "rope_probability": "rope_probability",
    "posterior_lift": "lift",
    "hdi_lower": "hdi_lower",
    "hdi_upper": "hdi_upper",
}


def _bayes(block: BlockShapes, believed: BlockBeliefs, shape: tuple[int, ...]) -> dict[str, Any]:
    """Each metric's posterior is the one of its own prior and direction."""
    size = int(np.prod(shape))
    if not believed:
        return dict.fromkeys((*_BAYES, "prior_source"), [None] * size)
    found: dict[str, Any] = {name: _numbers(believed.of(attribute, shape)) for name, attribute in _BAYES.items()}
    per_metric = shape[0] * shape[1]
    sources = believed.sources(len(block.metrics))
    return found | {"prior_source": [source for source in sources for _ in range(per_metric)]}


_ROWS = TypeAdapter(list[Row])
