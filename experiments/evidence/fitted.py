"""Models of the library: what a result asks of them, and their answers as documents and in rows (METHODS C2, C4).

A likelihood describes the units of one metric. Where it does so in every respect that was checked, the rows of that
metric carry its beliefs; where not, they keep those of the normal log lift (C1), and the model says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from experiments.evidence.densities import rounded
from experiments.evidence.rows import nulls
from experiments.result import (
    Density,
    ExperimentResult,
    FittedModel,
    HyperParameter,
    ModelArm,
    ModelCheck,
    ModelDiagnostics,
    ModelEffect,
    NorthStarEffect,
    Row,
)
from stats.bayes.models.definition import ModelDefinition
from stats.bayes.models.fit import ModelFit, Question

type Purpose = Literal["likelihood", "arms", "metrics", "replications"]

NOT_ASKED: Final = "the model was not asked"
_NAMES: Final = {
    "beta_binomial": "beta-binomial units",
    "gamma_poisson": "gamma-Poisson units",
    "negative_binomial": "negative-binomial units",
    "hurdle_lognormal": "hurdle-lognormal units",
    "student_t": "Student-t units",
}


@dataclass(frozen=True, slots=True)
class EffectAsked:
    """Which effect of the model this is, and the estimate that goes in, where there is one (lifts are fractions)."""

    metric_key: str
    variant_key: str
    label: str | None = None
    raw_lift: float | None = None
    raw_ci_lower: float | None = None
    raw_ci_upper: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ModelRequest:
    """One question to the library and what its answer is about.

    `effects` and `arms` (variants) are in the order of the model's. `aside` says why the rows keep their own beliefs
    however well the model fits; empty where they may take the model's. `notes` are sentences for the reader.
    """

    purpose: Purpose
    metric_key: str | None
    variant_key: str | None
    question: Question
    effects: tuple[EffectAsked, ...]
    arms: tuple[str, ...] = ()
    aside: str = ""
    notes: tuple[str, ...] = ()


def fitted_model(request: ModelRequest, fit: ModelFit | None) -> FittedModel:
    """The document of one answer; without an answer the model is `unreliable`."""
    definition = request.question.definition
    if fit is None:
        fit = ModelFit(definition.name, definition.version, "unreliable", NOT_ASKED)
    found = fit if fit.status == "ok" else None
    checks = [] if found is None else _checks(request, found)
    effects = _effects(request, found)
    aside = "" if found is None else _why_aside(request, effects, checks)
    seen = fit.diagnostics
    return FittedModel(
        model=fit.model,
        model_version=fit.version,
        purpose=request.purpose,
        metric_key=request.metric_key,
        variant_key=request.variant_key,
        status=fit.status,
        reason=fit.reason or aside or None,
        method=fit.method,
        seed=fit.seed,
        used=found is not None and request.purpose == "likelihood" and not aside,
        effects=effects,
        arms=[] if found is None else _arms(request, found),
        hyper_parameters=[]
        if found is None
        else [HyperParameter(name=name, mean=m, lower=low, upper=high) for name, (m, low, high) in found.hyper.items()],
        checks=checks,
        prior_sensitivity=None if found is None else nulls(np.array([fit.prior_sensitivity], np.float64))[0],
        densities=[] if found is None else _densities(request, found),
        diagnostics=None
        if seen is None
        else ModelDiagnostics(
            r_hat=nulls(seen.r_hat),
            ess_bulk=nulls(seen.ess_bulk),
            ess_tail=nulls(seen.ess_tail),
            divergences=seen.divergences,
            chains=seen.chains,
            draws=seen.draws,
        ),
        notes=list(request.notes),
    )


def not_fitted(
    definition: ModelDefinition,
    purpose: Purpose,
    metric_key: str | None,
    variant_key: str | None,
    reason: str,
    seed: int,
) -> FittedModel:
    """The document of a model whose question cannot even be asked of these data."""
    return FittedModel(
        model=definition.name,
        model_version=definition.version,
        purpose=purpose,
        metric_key=metric_key,
        variant_key=variant_key,
        status="not_estimable",
        reason=reason,
        method="nuts",
        seed=seed,
        effects=[],
        arms=[],
        hyper_parameters=[],
        checks=[],
        prior_sensitivity=None,
        densities=[],
        diagnostics=None,
    )


_EFFECT_NUMBERS: Final = {
    "lift": "lift",
    "hdi_lower": "hdi_lower",
    "hdi_upper": "hdi_upper",
    "chance_to_win": "chance_to_win",
    "expected_loss": "expected_loss",
    "expected_loss_of_not_shipping": "expected_loss_of_not_shipping",
    "rope_probability": "rope_probability",
    "difference": "difference",
    "difference_hdi_lower": "difference_hdi_lower",
    "difference_hdi_upper": "difference_hdi_upper",
    "monte_carlo_error": "mcse",
}


def _effects(request: ModelRequest, fit: ModelFit | None) -> list[ModelEffect]:
    """What went in is shown also where nothing usable came out."""
    numbers: dict[str, Sequence[float | None]] = {}
    if fit is not None and fit.effects is not None:
        numbers = {name: nulls(getattr(fit.effects, field)) for name, field in _EFFECT_NUMBERS.items()}
    return [
        ModelEffect(
            metric_key=asked.metric_key,
            variant_key=asked.variant_key,
            label=asked.label,
            raw_lift=asked.raw_lift,
            raw_ci_lower=asked.raw_ci_lower,
            raw_ci_upper=asked.raw_ci_upper,
            **{name: numbers[name][e] if name in numbers else None for name in _EFFECT_NUMBERS},
        )
        for e, asked in enumerate(request.effects)
    ]


def _arms(request: ModelRequest, fit: ModelFit) -> list[ModelArm]:
    if fit.arms is None:
        return []
    names = ("mean", "hdi_lower", "hdi_upper", "chance_to_be_best")
    columns = [nulls(getattr(fit.arms, name)) for name in names]
    return [
        ModelArm(variant_key=key, **dict(zip(names, values, strict=True)))
        for key, *values in zip(request.arms, *columns, strict=True)
    ]


def _checks(request: ModelRequest, fit: ModelFit) -> list[ModelCheck]:
    """A check of a whole family of effects is about no arm in particular."""
    of_arms = request.arms if request.purpose == "likelihood" else ()
    return [
        ModelCheck(
            statistic=check.statistic,
            variant_key=of_arms[check.arm] if of_arms else request.variant_key or "",
            observed=check.observed,
            expected=check.expected,
            p_value=check.p_value,
            passed=check.passed,
        )
        for check in fit.checks
    ]


_NO_LIFTS: Final = (
    "The model has differences but no lifts, because an arm is not clearly positive: the rows keep theirs."
)


def _why_aside(request: ModelRequest, effects: Sequence[ModelEffect], checks: Sequence[ModelCheck]) -> str:
    """Why the rows keep their own beliefs; empty for models that rows could take theirs from, or never would."""
    if request.purpose != "likelihood":
        return ""
    failed = next((check for check in checks if not check.passed), None)
    if failed is None:
        return request.aside if all(effect.lift is not None for effect in effects) else _NO_LIFTS
    where = f"{failed.statistic} in {failed.variant_key}"
    return (
        f"The model and its prior do not describe these units: {where} is {failed.observed:.4g}, "
        f"and {failed.expected:.4g} would be expected (p = {failed.p_value:.2g}). The rows keep the normal log lift."
    )


def _densities(request: ModelRequest, fit: ModelFit) -> list[Density]:
    found = fit.densities
    if found is None:
        return []
    shown = []
    for e, asked in enumerate(request.effects):
        axes = np.stack([found.lift[e], found.posterior[e], found.prior[e]])
        if np.isfinite(axes).all():
            lift, posterior, prior = rounded(axes).tolist()
            shown.append(
                Density(
                    metric_key=asked.metric_key,
                    variant_key=asked.variant_key,
                    lift=lift,
                    posterior=posterior,
                    prior=prior,
                )
            )
    return shown


def with_beliefs_of(document: ExperimentResult, models: Sequence[FittedModel]) -> dict[str, Any]:
    """The document's `rows`, `densities` and `north_star` with the beliefs of the models that are used.

    Only rows over everybody that carry beliefs already: what is withheld from the rows stays withheld.
    """
    used = {
        (effect.metric_key, effect.variant_key): (model, effect)
        for model in models
        if model.used
        for effect in model.effects
    }
    rows = [_believing(row, *used[key]) if (key := _head(row)) in used else row for row in document.rows]
    carried = {key for row in rows if (key := _head(row)) in used and row.chance_to_win is not None}
    curves = {
        (curve.metric_key, curve.variant_key): curve for model in models if model.used for curve in model.densities
    }
    return {
        "rows": rows,
        "densities": [
            curves.get(key, curve) if (key := (curve.metric_key, curve.variant_key)) in carried else curve
            for curve in document.densities
        ],
        "north_star": [_star(effect, used, carried) for effect in document.north_star],
    }


def _head(row: Row) -> tuple[str, str] | None:
    return (row.metric_key, row.variant_key) if row.segment_dimension is None else None


def _believing(row: Row, model: FittedModel, effect: ModelEffect) -> Row:
    if row.chance_to_win is None:
        return row
    return row.model_copy(
        update={
            "chance_to_win": effect.chance_to_win,
            "expected_loss": effect.expected_loss,
            "expected_loss_of_not_shipping": effect.expected_loss_of_not_shipping,
            "rope_probability": effect.rope_probability,
            "posterior_lift": effect.lift,
            "hdi_lower": effect.hdi_lower,
            "hdi_upper": effect.hdi_upper,
            "prior_source": f"{row.prior_source}; {_NAMES.get(model.model, model.model)}",
        }
    )


def _star(
    star: NorthStarEffect,
    used: Mapping[tuple[str, str], tuple[FittedModel, ModelEffect]],
    carried: set[tuple[str, str]],
) -> NorthStarEffect:
    key = (star.metric_key, star.variant_key)
    if key not in carried:
        return star
    direct = star.direct.model_copy(update={"chance_to_win": used[key][1].chance_to_win})
    return star.model_copy(update={"direct": direct})
