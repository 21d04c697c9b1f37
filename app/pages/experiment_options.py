"""The advanced options of the new-experiment form, and back: what was chosen becomes part of the definition."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from experiments.definitions import ExperimentSpec

DEFAULTS: Final = {
    "purpose": "test",
    "decision_rule": "superiority",
    "ci_level": "95",
    "power": "80",
    "sequential_method": "always_valid",
    "spending": "obrien_fleming",
    "spending_parameter": "",
    "futility": "none",
    "look_every_days": "7",
    "correction": "holm",
    "exploratory_correction": "benjamini_hochberg",
    "cuped": "yes",
    "stratify_by": "",
    "cluster": "",
    "trigger_source": "",
    "two_way_segments": "",
    "screen_interactions": "yes",
    "engine": "both",
    "prior": "learned",
    "prior_family": "normal",
    "prior_scale": "5",
    "chance_to_win": "95",
    "expected_loss": "0.1",
    "guardrail_chance": "95",
    "rope": "",
    "horizon_days": "365",
    "waiting_cost": "0",
    "cluster_size": "",
    "cluster_icc": "",
    "cluster_size_cv": "",
    "triggered_share": "",
}
"""What the form first shows. The last four only matter to the sample size."""

POINTERS: Final = {
    "purpose": ("/purpose",),
    "decision_rule": ("/estimation/decision_rule",),
    "ci_level": ("/estimation/ci_level",),
    "power": ("/estimation/power",),
    "sequential_method": (
        "/estimation/sequential",
        "/estimation/sequential/method",
        "/estimation/sequential/sequential",
    ),
    "spending": ("/estimation/sequential/spending",),
    "spending_parameter": ("/estimation/sequential/spending_parameter",),
    "futility": ("/estimation/sequential/futility",),
    "look_every_days": ("/estimation/sequential/look_every_days",),
    "correction": ("/estimation/correction",),
    "exploratory_correction": ("/estimation/exploratory_correction",),
    "cuped": ("/estimation/cuped",),
    "stratify_by": ("/estimation/stratify_by",),
    "cluster": ("/cluster",),
    "trigger_source": ("/trigger", "/trigger/fact_source"),
    "two_way_segments": ("/two_way_segments",),
    "screen_interactions": ("/estimation/screen_interactions",),
    "engine": ("/estimation/engine",),
    "prior": ("/estimation/beliefs", "/estimation/beliefs/prior"),
    "prior_family": ("/estimation/beliefs/family",),
    "prior_scale": ("/estimation/prior_scale",),
    "chance_to_win": ("/estimation/beliefs/chance_to_win",),
    "expected_loss": ("/estimation/beliefs/expected_loss",),
    "guardrail_chance": ("/estimation/beliefs/guardrail_chance",),
    "rope": ("/estimation/rope",),
    "horizon_days": ("/estimation/beliefs/horizon_days",),
    "waiting_cost": ("/estimation/beliefs/waiting_cost",),
    "cluster_size": ("/clusters/size",),
    "cluster_icc": ("/clusters/icc",),
    "cluster_size_cv": ("/clusters/size_cv",),
    "triggered_share": ("/triggered_share",),
}
"""Where the definition holds what a field says; faults there stand beside the field."""

LISTS: Final = ("stratify_by", "two_way_segments")
"""Fields whose faults may be about one of their items."""

type Fault = Callable[[str, str], None]
"""Takes a pointer and what is wrong."""


def options(fields: Mapping[str, str], fault: Fault) -> dict[str, Any]:
    """The part of the definition that was chosen; fields that were not sent stay as the definition has them."""
    sequential = _present(
        method=fields.get("sequential_method"),
        spending=fields.get("spending"),
        spending_parameter=number(fields, "spending_parameter", fault),
        futility=fields.get("futility"),
        look_every_days=whole(fields, "look_every_days", fault),
    )
    if sequential.get("method", "always_valid") != "group_sequential":
        # Spending belongs to scheduled looks; what its fields still say is not meant.
        sequential = _present(method=sequential.get("method"))
    beliefs = _present(
        prior=fields.get("prior"),
        family=fields.get("prior_family"),
        chance_to_win=percent(fields, "chance_to_win", fault),
        expected_loss=percent(fields, "expected_loss", fault),
        guardrail_chance=percent(fields, "guardrail_chance", fault),
        horizon_days=number(fields, "horizon_days", fault),
        waiting_cost=percent(fields, "waiting_cost", fault),
    )
    estimation = _present(
        engine=fields.get("engine"),
        beliefs=beliefs or None,
        prior_scale=percent(fields, "prior_scale", fault),
        rope=percent(fields, "rope", fault),
        ci_level=percent(fields, "ci_level", fault),
        power=percent(fields, "power", fault),
        cuped=_yes(fields.get("cuped")),
        correction=fields.get("correction"),
        exploratory_correction=fields.get("exploratory_correction"),
        decision_rule=fields.get("decision_rule"),
        screen_interactions=_yes(fields.get("screen_interactions")),
        stratify_by=_words(fields.get("stratify_by", "")) or None,
        sequential=sequential or None,
    )
    source = fields.get("trigger_source")
    return _present(
        purpose=fields.get("purpose"),
        cluster=fields.get("cluster"),
        trigger={"fact_source": source} if source else None,
        two_way_segments=_pairs(fields.get("two_way_segments", ""), fault) or None,
        estimation=estimation or None,
    )


def chosen(spec: ExperimentSpec) -> dict[str, str]:
    """The fields that say what a definition has chosen; the inverse of `options`."""
    estimation, beliefs, sequential = spec.estimation, spec.estimation.beliefs, spec.estimation.sequential
    parameter = sequential.spending_parameter
    return {
        "purpose": spec.purpose,
        "decision_rule": estimation.decision_rule,
        "ci_level": percentage(estimation.ci_level),
        "power": percentage(estimation.power),
        "sequential_method": sequential.method,
        "spending": sequential.spending,
        "spending_parameter": "" if parameter is None else f"{parameter:.12g}",
        "futility": sequential.futility,
        "look_every_days": str(sequential.look_every_days),
        "correction": estimation.correction,
        "exploratory_correction": estimation.exploratory_correction,
        "cuped": "yes" if estimation.cuped else "no",
        "stratify_by": ", ".join(estimation.stratify_by),
        "cluster": spec.cluster or "",
        "trigger_source": spec.trigger.fact_source if spec.trigger else "",
        "two_way_segments": ", ".join(" × ".join(pair) for pair in spec.two_way_segments),
        "screen_interactions": "yes" if estimation.screen_interactions else "no",
        "engine": estimation.engine,
        "prior": beliefs.prior,
        "prior_family": beliefs.family,
        "prior_scale": percentage(estimation.prior_scale),
        "chance_to_win": percentage(beliefs.chance_to_win),
        "expected_loss": percentage(beliefs.expected_loss),
        "guardrail_chance": percentage(beliefs.guardrail_chance),
        "rope": percentage(estimation.rope) if estimation.rope else DEFAULTS["rope"],
        "horizon_days": f"{beliefs.horizon_days:.12g}",
        "waiting_cost": percentage(beliefs.waiting_cost),
    }


def percentage(share: float | None) -> str:
    """A share as it is typed: `5` for 0.05; empty for none."""
    return "" if share is None else f"{share * 100:.12g}"


def number(fields: Mapping[str, str], name: str, fault: Fault) -> float | None:
    """The number in a field; None where it is empty, or is no number, which becomes a fault."""
    text = fields.get(name, "")
    if not text:
        return None
    try:
        return float(text.replace(",", ".").replace("−", "-"))
    except ValueError:
        fault(POINTERS[name][-1], f"“{text}” is not a number")
        return None


def percent(fields: Mapping[str, str], name: str, fault: Fault) -> float | None:
    """A percentage as a share."""
    text = fields.get(name, "").replace("%", "").strip()
    if not text:
        return None
    try:
        return round(float(text.replace(",", ".")) / 100, 12)
    except ValueError:
        fault(POINTERS[name][-1], f"“{text}” is not a percentage")
        return None


def whole(fields: Mapping[str, str], name: str, fault: Fault) -> int | None:
    """A whole number."""
    text = fields.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        fault(POINTERS[name][-1], f"“{text}” is not a whole number")
        return None
    return int(text)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _yes(text: str | None) -> bool | None:
    return None if not text else text == "yes"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _pairs(text: str, fault: Fault) -> list[list[str]]:
    """`country × platform, plan * country`: pairs of segments."""
    pairs = []
    for word in _words(text):
        parts = [part.strip() for part in re.split(r"\s*[×*/+]\s*|\s+x\s+", word)]
        if len(parts) != 2 or not all(parts):
            fault("/two_way_segments", f"“{word}” is not a pair: write it as country × platform")
            continue
        pairs.append(parts)
    return pairs
