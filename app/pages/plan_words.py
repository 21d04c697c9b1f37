"""The options of a plan in words: what was chosen, and what that means."""

from collections.abc import Iterator
from typing import Final

from app.pages import formats
from experiments.definitions import ExperimentSpec, Sequential

SEQUENTIAL: Final = {
    "always_valid": "Always valid: any look may decide",
    "group_sequential": "Group-sequential: scheduled looks decide",
    "fixed": "Fixed: only the planned end decides",
}
SPENDING: Final = {
    "obrien_fleming": "O'Brien-Fleming (strict early, close to fixed at the end)",
    "pocock": "Pocock (evenly strict)",
    "power": "Power family",
    "hwang_shih_de_cani": "Hwang-Shih-DeCani family",
}
FUTILITY: Final = {
    "none": "No stopping for futility",
    "non_binding": "Non-binding: may be overruled",
    "binding": "Binding: must be obeyed",
}
CORRECTION: Final = {
    "holm": "Holm",
    "bonferroni": "Bonferroni",
    "dunnett": "Dunnett (several variants, one control)",
    "none": "None",
}
EXPLORATORY: Final = {
    "benjamini_hochberg": "Benjamini-Hochberg (false discovery rate)",
    "benjamini_yekutieli": "Benjamini-Yekutieli (any dependence)",
    "e_bh": "e-BH (any dependence, any stopping)",
    "none": "None",
}
RULES: Final = {
    "superiority": "Ship only a win with safe guardrails",
    "do_no_harm": "Ship what does no harm; a win is not needed",
}
PURPOSES: Final = {
    "test": "Test a change",
    "aa": "A/A: the variants are the same, the pipeline is tested",
}


def option_lines(spec: ExperimentSpec) -> list[tuple[str, str]]:
    """(title, sentence) for every option that shapes the analysis."""
    return list(_lines(spec))


def _lines(spec: ExperimentSpec) -> Iterator[tuple[str, str]]:
    chosen = spec.estimation
    if spec.purpose == "aa":
        yield "Purpose", f"{PURPOSES['aa']}."
    yield "Looks", looks_in_words(chosen.sequential)
    yield "Rule", f"{RULES[chosen.decision_rule]}; power {formats.share(chosen.power)} for the whole decision."
    yield (
        "Corrections",
        f"{CORRECTION[chosen.correction]} over primary metrics and variants; "
        f"{EXPLORATORY[chosen.exploratory_correction]} over everything else that is looked at.",
    )
    adjusted = ["CUPED on" if chosen.cuped else "CUPED off"]
    if chosen.stratify_by:
        adjusted.append(f"post-stratified by {', '.join(chosen.stratify_by)}")
    yield "Adjustment", "; ".join(adjusted) + "."
    if spec.cluster:
        yield "Clusters", f"Units of the same {spec.cluster} share a variant; {spec.cluster} is what is randomised."
    if spec.trigger is not None:
        filters = [f"{f.column} {f.op} {f.value}" for f in spec.trigger.filters]
        where = f" with {' and '.join(filters)}" if filters else ""
        yield "Trigger", f"A unit counts from its first {spec.trigger.fact_source}{where} after it was assigned."
    if spec.two_way_segments:
        pairs = ", ".join(f"{first} × {second}" for first, second in spec.two_way_segments)
        yield "Together", f"Broken down by {pairs}."
    if not chosen.screen_interactions:
        yield "Interactions", "Not screened against concurrent experiments."


def looks_in_words(sequential: Sequential) -> str:
    """How looks before the end are paid for."""
    if sequential.method != "group_sequential":
        return f"{SEQUENTIAL[sequential.method]}."
    spending, parameter = SPENDING[sequential.spending].partition(" (")[0], ""
    if sequential.spending_parameter is not None:
        parameter = f" with parameter {sequential.spending_parameter:g}"
    every = f"every {formats.plural(sequential.look_every_days, 'day')}" if sequential.look_every_days > 1 else "daily"
    futility = {
        "none": "no stopping for futility",
        "non_binding": "non-binding futility bound",
        "binding": "binding futility bound",
    }[sequential.futility]
    return f"{SEQUENTIAL['group_sequential']}, {every}; {spending} spending{parameter}, {futility}."
