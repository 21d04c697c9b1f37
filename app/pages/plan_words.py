"""The options of a plan in words: what was chosen, and what that means."""

from collections.abc import Iterator, Sequence
from typing import Final

from app.pages import formats
from experiments.definitions import Estimation, ExperimentSpec, Filter, Sequential

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
ENGINES: Final = {
    "both": "Both; intervals lead, beliefs stand beside them",
    "bayesian": "Both; beliefs lead, intervals stand beside them",
    "frequentist": "Intervals only",
}
PRIORS: Final = {
    "learned": "Learned from past experiments",
    "stated": "Stated here",
    "flat": "None (only the planned end may decide)",
}
FAMILIES: Final = {
    "normal": "Normal: large effects are very unlikely",
    "student_t4": "Fat tails: a few effects are large",
}
PURPOSES: Final = {
    "test": "Test a change",
    "aa": "A/A: the variants are the same, the pipeline is tested",
    "holdout": "Holdout: the control is kept from everything that ships, so that all of it is measured together",
}


def option_lines(spec: ExperimentSpec) -> list[tuple[str, str]]:
    """(title, sentence) for every option that shapes the analysis."""
    return list(_lines(spec))


def _lines(spec: ExperimentSpec) -> Iterator[tuple[str, str]]:
    chosen = spec.estimation
    if spec.purpose != "test":
        yield "Purpose", f"{PURPOSES[spec.purpose]}."
    yield "Looks", looks_in_words(chosen.sequential)
    yield "Rule", f"{RULES[chosen.decision_rule]}; power {formats.share(chosen.power)} for the whole decision."
    yield (
        "Corrections",
        f"{CORRECTION[chosen.correction]} over primary metrics and variants; "
        f"{EXPLORATORY[chosen.exploratory_correction]} over everything else that is looked at.",
    )
    if chosen.engine != "frequentist":
        yield "Engines", f"{ENGINES[chosen.engine]}."
        yield "Prior", prior_in_words(chosen)
        yield "Beliefs ship", beliefs_in_words(chosen)
        yield "Waiting", waiting_in_words(chosen)
    adjusted = ["CUPED on" if chosen.cuped else "CUPED off"]
    if chosen.stratify_by:
        adjusted.append(f"post-stratified by {', '.join(chosen.stratify_by)}")
    yield "Adjustment", "; ".join(adjusted) + "."
    if spec.cluster:
        yield "Clusters", f"Units of the same {spec.cluster} share a variant; {spec.cluster} is what is randomised."
    if spec.exposures is not None:
        read = f"{spec.exposures.fact_source}{filters_in_words(spec.exposures.filters)}"
        yield "Exposures", f"Rows of {read}; the variant is their {spec.exposures.variant_column}."
    if spec.trigger is not None:
        first = f"{spec.trigger.fact_source}{filters_in_words(spec.trigger.filters)}"
        yield "Trigger", f"A unit counts from its first {first} after it was assigned."
    if spec.two_way_segments:
        pairs = ", ".join(f"{first} × {second}" for first, second in spec.two_way_segments)
        yield "Together", f"Broken down by {pairs}."
    if not chosen.screen_interactions:
        yield "Interactions", "Not screened against concurrent experiments."


def filters_in_words(filters: Sequence[Filter]) -> str:
    """Which rows of a fact source count; empty for all of them."""
    return f" with {' and '.join(f'{f.column} {f.op} {f.value}' for f in filters)}" if filters else ""


def prior_in_words(chosen: Estimation) -> str:
    """What is believed before the data."""
    if chosen.beliefs.prior == "flat":
        return "None: the data alone; nothing may be read before the planned end."
    shape = {"normal": "normal", "student_t4": "with fat tails"}[chosen.beliefs.family]
    width = formats.share(chosen.prior_scale)
    centre = f" around {formats.change(chosen.prior_mean)}" if chosen.prior_mean else ""
    stated = f"effects of about ±{width}{centre}, {shape}"
    if chosen.beliefs.prior == "stated":
        return f"Stated: {stated}."
    return f"Learned from the metric's past experiments; where they are too few, {stated}."


def beliefs_in_words(chosen: Estimation) -> str:
    """What the Bayesian engine asks of a win."""
    asked = chosen.beliefs
    said = (
        f"With a chance to win of at least {formats.share(asked.chance_to_win)}, an expected loss of at most "
        f"{formats.share(asked.expected_loss)} of the North Star (of the metric where its link is not known), and "
        f"guardrails within their margins with a chance of {formats.share(asked.guardrail_chance)}."
    )
    if chosen.rope:
        said += f" Effects within ±{formats.share(chosen.rope)} are too small to matter."
    return said


def waiting_in_words(chosen: Estimation) -> str:
    """What more days of testing are weighed against."""
    said = f"A shipped change is worth something for {formats.plural(round(chosen.beliefs.horizon_days), 'day')}"
    if chosen.beliefs.waiting_cost:
        said += f"; each day of testing costs {formats.share(chosen.beliefs.waiting_cost)} of a day's North Star"
    return f"{said}."


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
