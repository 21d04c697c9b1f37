"""The words of the pages for the codes of the domain: one place, so that no page invents its own."""

from dataclasses import dataclass
from typing import Final

type Tone = str
"""`good`, `bad`, `warn`, `accent` or empty: which colours a badge has. The text says the same without them."""


@dataclass(frozen=True, slots=True)
class Label:
    """A code for people: text, tone and icon (a name in `_macros.html`)."""

    text: str
    tone: Tone
    icon: str


VERDICTS: Final = {
    "better": Label("Better", "good", "up"),
    "worse": Label("Worse", "bad", "down"),
    "equivalent": Label("Equivalent", "accent", "equal"),
    "inconclusive": Label("Inconclusive", "", "question"),
    "unreliable": Label("Unreliable", "warn", "alert"),
}
STATUSES: Final = {
    "draft": Label("Draft", "", "pencil"),
    "running": Label("Running", "accent", "play"),
    "paused": Label("Paused", "warn", "pause"),
    "stopped": Label("Stopped", "", "stop"),
    "archived": Label("Archived", "", "archive"),
}
OUTCOMES: Final = {
    "ship": Label("Shipped", "good", "rocket"),
    "roll_back": Label("Rolled back", "bad", "back"),
    "iterate": Label("Iterate", "accent", "loop"),
    "extend": Label("Extend", "", "clock"),
}
CHECKS: Final = {
    "pass": Label("Pass", "good", "check"),
    "warn": Label("Warning", "warn", "alert"),
    "fail": Label("Fail", "bad", "cross"),
}
STATES: Final = {
    "queued": Label("Queued", "", "clock"),
    "running": Label("Running", "accent", "play"),
    "succeeded": Label("Done", "good", "check"),
    "failed": Label("Failed", "bad", "cross"),
    "cancelled": Label("Cancelled", "", "stop"),
}
CONCLUSIONS: Final = {
    "won": "Won",
    "lost": "Lost",
    "inconclusive": "Inconclusive",
    "stopped_early": "Stopped early",
    "invalid": "Invalid",
}
ROLES: Final = {"primary": "Primary", "guardrail": "Guardrail", "secondary": "Secondary", "monitor": "Monitor"}
MOVES: Final = {
    "start": "Start",
    "pause": "Pause",
    "resume": "Resume",
    "stop": "Stop",
    "archive": "Archive",
}
MECHANISMS: Final = {"random": "at random", "ordered": "in order", "all_at_once": "all at once"}
RELATIONS: Final = {"iterates": "iterates on", "replicates": "replicates", "contradicts": "contradicts"}

REASONS: Final = {
    "too_few_units": "There are too few units for a variance.",
    "zero_variance": "Every unit has the same value, so there is nothing to compare.",
    "denominator_near_zero": "The denominator is too close to zero to divide by.",
    "formula_undefined": "The formula has no value at these means.",
    "baseline_not_distinguishable_from_zero": "The control's mean cannot be told from zero, so a relative lift has no "
    "meaning; read the absolute difference.",
    "non_finite_values": "The data holds values that are not numbers.",
    "cap_is_zero": "So few units have a value that the quantile to cap at is zero: choose a higher one, or a fixed cap.",
    "invalid_answers": "Some answers are not on the scale from 0 to 10.",
    "no_data": "No data has arrived for this metric.",
    "no_joint_moments": "The data came as summaries, which say nothing about how the inputs move together.",
    "not_in_formula": "The formula does not use this input.",
    "north_star_not_positive": "The North Star is not clearly above zero, so a relative lift has no meaning.",
    "tree_undefined_within_uncertainty": "The tree's formula has no value for some plausible inputs.",
    "input_effect_not_estimable": "The effect on one of the inputs could not be estimated.",
    "input_baseline_zero_or_missing": "One of the inputs has no baseline to grow from.",
    "covariance_not_positive": "The inputs' covariance is not that of any data.",
    "estimate_missing": "There is no estimate to build on.",
    "no_baseline": "There is no history of this metric yet.",
    "no_history": "There is no history of traffic yet, so the days cannot be said.",
    "no_mde": "It needs the smallest effect worth finding.",
    "baseline_is_zero": "Its mean was zero so far, so a relative effect has no meaning.",
    "nothing_to_plan_for": "Choose a primary metric.",
    "traffic_saturates": "So many different units never come by: ask for a larger effect or more coverage.",
    "longer_than_a_year": "It would take more than a year.",
    "effect_is_zero": "An effect of zero cannot be found.",
    "anticipated_effect_exceeds_margin": "The effect that is expected lies beyond the margin.",
    "unreachable": "No feasible sample detects an effect this small.",
}

METHODS: Final = {
    "A1": "Difference of means with unequal variances (Welch)",
    "A2": "Difference of proportions",
    "A3": "Relative lift on the log scale by the delta method; Fieller's interval where that is not safe",
    "A4": "Ratio metrics with unit-level variance (delta method)",
    "A7": "CUPED: pre-period covariates take out variance that was there before",
    "A10": "Non-inferiority of guardrails and equivalence by two one-sided tests",
    "A11": "Holm's correction over primary metrics and variants",
    "A12": "Sample-ratio check, by chi-square and sequentially",
    "A14": "Sample size and smallest detectable effect",
    "A15": "Effects by segment",
    "B1": "Always-valid intervals: they hold however often one looks",
    "C1": "Bayesian reading: normal likelihood and prior on the log lift",
    "C3": "Prior of the log lift",
    "C4": "Hierarchical model over segments, which shrinks small segments towards the rest",
    "C5": "Decisions by expected loss and a region of practical equivalence",
    "E1": "North Star through the metric tree",
    "E2": "Input effects propagated with their covariance",
    "H2": "Verdict rules, first match wins",
}


def reason(code: str | None) -> str:
    """Why a number is not there, as a sentence."""
    if not code:
        return "It could not be estimated."
    return REASONS.get(code, code.replace("_", " ").capitalize() + ".")


def titled(code: str) -> str:
    """A code of ours as a title: `sample_ratio` is `Sample ratio`."""
    return code.replace("_", " ").capitalize()


def method_list(ids: list[str]) -> list[tuple[str, str]]:
    """Method ids with what they are; unknown ones keep their id alone."""
    return [(identity, METHODS.get(identity, "")) for identity in ids]
