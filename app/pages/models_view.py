"""Models of the library on one experiment: what each is, what it says, and whether it may be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.charts.pulled import Pulled, pulled_forest
from app.charts.theme import Spec
from app.pages import formats
from app.pages.model_words import FAMILIES, LIKELIHOODS, MATTERS, METHODS, parameter_words, statistic_words
from app.pages.naming import Names
from app.pages.words import REASONS, Label
from experiments.result import ExperimentResult, FittedModel, HyperParameter, ModelCheck, ModelEffect, Row


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyper-parameter as it is written."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True, slots=True)
class CheckLine:
    """A predictive check; `arm` is empty where it is about all."""

    statistic: str
    arm: str
    check: ModelCheck


@dataclass(frozen=True, slots=True)
class EffectLine:
    name: str
    effect: ModelEffect


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model. `chart` is None where it has no numbers; `reason` says then why, or why it is not used."""

    name: str
    title: str
    what: str
    model: FittedModel
    status: Label
    reason: str
    chart: Spec | None
    summary: str
    effects: Sequence[EffectLine]
    arms: Mapping[str, str]
    parameters: Sequence[Parameter]
    checks: Sequence[CheckLine]
    prior_matters: bool | None
    method: str

    @property
    def failed(self) -> int:
        return sum(not line.check.passed for line in self.checks)


def models(document: ExperimentResult, names: Names) -> list[ModelView]:
    """All models, those whose numbers are used first."""
    rows = {(row.metric_key, row.variant_key): row for row in document.rows if row.segment is None}
    ordered = sorted(document.models, key=lambda model: (not model.used, model.purpose != "likelihood"))
    return [_view(model, rows, names) for model in ordered]


def _view(model: FittedModel, rows: Mapping[tuple[str, str], Row], names: Names) -> ModelView:
    known = LIKELIHOODS if model.purpose == "likelihood" else FAMILIES
    title, what = known.get(
        model.model if model.purpose == "likelihood" else model.purpose,
        (model.model.replace("_", " ").capitalize(), ""),
    )
    arms = {position: names.variant(arm.variant_key) for position, arm in enumerate(model.arms)}
    drawable = model.status == "ok" and any(effect.lift is not None for effect in model.effects)
    return ModelView(
        name=_name(model, names),
        title=title,
        what=what,
        model=model,
        status=_status(model),
        reason=_reason(model.reason),
        chart=_chart(model, rows, names) if drawable else None,
        summary=_summary(model),
        effects=[EffectLine(_label(effect, model, names), effect) for effect in model.effects],
        arms={arm.variant_key: names.variant(arm.variant_key) for arm in model.arms},
        parameters=[_parameter(item, model, arms) for item in model.hyper_parameters],
        checks=[
            CheckLine(
                statistic_words(check.statistic), names.variant(check.variant_key) if check.variant_key else "", check
            )
            for check in model.checks
        ],
        prior_matters=None if model.prior_sensitivity is None else model.prior_sensitivity > MATTERS,
        method=METHODS[model.method],
    )


def _name(model: FittedModel, names: Names) -> str:
    """What the model is about, short enough for a tab."""
    if model.purpose == "likelihood" and model.metric_key:
        return names.metric(model.metric_key)
    if model.purpose == "metrics":
        arm = f" · {names.variant(model.variant_key)}" if model.variant_key and names.many_arms else ""
        return f"All metrics{arm}"
    about = names.metric(model.metric_key) if model.metric_key else ""
    if model.purpose == "arms":
        return f"{about}, all variants"
    arm = f" · {names.variant(model.variant_key)}" if model.variant_key and names.many_arms else ""
    return f"{about}, replications{arm}"


def _status(model: FittedModel) -> Label:
    if model.status == "unreliable":
        return Label("Not reliable", "warn", "alert")
    if model.status == "not_estimable":
        return Label("Not estimable", "", "question")
    if model.used:
        return Label("Used in the decision", "good", "check")
    if model.purpose == "likelihood":
        return Label("Not used", "warn", "alert")
    return Label("To read, not to decide", "", "equal")


def _reason(text: str | None) -> str:
    """A code of ours in words; what models say themselves as a sentence."""
    if not text:
        return ""
    if text in REASONS:
        return REASONS[text]
    said = text[0].upper() + text[1:]
    return formats.unbroken(said if said.endswith(".") else f"{said}.")


def _label(effect: ModelEffect, model: FittedModel, names: Names) -> str:
    if effect.label:
        return effect.label
    if model.purpose == "metrics":
        return names.metric(effect.metric_key)
    return names.variant(effect.variant_key)


def _chart(model: FittedModel, rows: Mapping[tuple[str, str], Row], names: Names) -> Spec:
    """Raw estimates beside the model's: those that went in, or of a likelihood those of the rows."""
    drawn = []
    for effect in model.effects:
        raw = (effect.raw_lift, effect.raw_ci_lower, effect.raw_ci_upper)
        row = rows.get((effect.metric_key, effect.variant_key))
        if model.purpose == "likelihood" and raw[0] is None and row is not None:
            raw = (row.lift, row.ci_lower, row.ci_upper)
        label = _label(effect, model, names)
        drawn.append(Pulled(label, *raw, effect.lift, effect.hdi_lower, effect.hdi_upper))
    mean = next((item.mean for item in model.hyper_parameters if item.name == "mean"), None)
    shared = mean if model.purpose in ("arms", "replications") else None
    return pulled_forest(
        drawn,
        mean=shared,
        description=f"{_name(model, names)}: lifts as measured and by the model, {len(drawn)} effects",
    )


def _summary(model: FittedModel) -> str:
    said = "Hollow: as measured. Filled: by the model, with its credible interval."
    if model.purpose in ("arms", "replications") and any(item.name == "mean" for item in model.hyper_parameters):
        said += " Dashed: the common effect."
    return said


def _parameter(item: HyperParameter, model: FittedModel, arms: Mapping[int, str]) -> Parameter:
    shared = item.name.endswith("[0]") and item.name.replace("[0]", "[1]") not in {
        other.name for other in model.hyper_parameters
    }
    words = parameter_words(item.name.removesuffix("[0]") if shared else item.name, model.purpose, arms)
    if words.kind == "lift":
        return Parameter(words.name, formats.change(item.mean), formats.between(item.lower, item.upper))
    write = {"chance": formats.probability, "spread": formats.spread}.get(words.kind, _number)
    return Parameter(words.name, write(item.mean), f"{write(item.lower)} to {write(item.upper)}")


def _number(value: float | None) -> str:
    return formats.number(value, 3 if value is not None and abs(value) >= 0.1 else 2)
