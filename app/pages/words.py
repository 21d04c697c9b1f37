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
ERASURES: Final = {
    "queued": "Waiting",
    "running": "Under way",
    "removing": "No longer read; files are removed soon",
    "done": "Done",
}
ERASURE_FIELDS: Final = {
    "unit_id": "The first id",
    "also_ids": "A further id",
    "unit_type": "The unit type",
    "reason": "The reason",
}
CONCLUSIONS: Final = {
    "won": "Won",
    "lost": "Lost",
    "inconclusive": "Inconclusive",
    "stopped_early": "Stopped early",
    "invalid": "Invalid",
}
ACTIONS: Final = {
    "ship": Label("Ship", "good", "rocket"),
    "roll_back": Label("Roll back", "bad", "back"),
    "iterate": Label("Iterate", "accent", "loop"),
    "extend": Label("Extend", "accent", "clock"),
    "keep_running": Label("Keep running", "", "play"),
    "neutral": Label("Either is fine", "", "equal"),
    "archive": Label("Archive the idea", "", "archive"),
    "investigate": Label("Investigate", "warn", "alert"),
}
"""What is recommended (METHODS H2)."""
AGREEMENT: Final = {
    "agree": Label("They agree", "good", "check"),
    "differ": Label("They differ", "warn", "alert"),
}
ROBUST: Final = {
    "robust": Label("Robust", "good", "check"),
    "depends": Label("Depends on the prior", "warn", "alert"),
}
"""Whether other priors would lead to another decision."""
ADVICE_TAGS: Final = {
    "unproven_link": "Its link to the North Star is not proven",
    "north_star_without_margin": "The North Star has no margin here",
}
INTERVALS: Final = {
    "fixed": "fixed-horizon",
    "always_valid": "always-valid",
    "group_sequential": "repeated",
}
"""How the interval that decides is called before the word `interval`."""
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
    "driver_edges": "The formula has drivers in it: statistical relations account for nothing.",
    "too_few_units": "There are too few units for a variance.",
    "zero_variance": "Every unit has the same value, so there is nothing to compare.",
    "denominator_near_zero": "The denominator is too close to zero to divide by.",
    "formula_undefined": "The formula has no value at these means.",
    "baseline_not_distinguishable_from_zero": "The control's mean cannot be told from zero, so a relative lift has no "
    "meaning; read the absolute difference.",
    "non_finite_values": "The data holds values that are not numbers.",
    "not_compiled": "The warehouse computes this without giving away rows, and this quantile would need them.",
    "cap_is_zero": "So few units have a value that the quantile to cap at is zero: choose a higher or a fixed one.",
    "invalid_answers": "Some answers are not on the scale from 0 to 10.",
    "clustered": "Clusters were randomised: a model of single units would take their users for independent.",
    "not_counts": "Some values are negative or not whole, and the model is one of counts.",
    "negative_values": "Some values are negative, and the model knows zeros and positive amounts only.",
    "no_single_units": "The data came as summaries, which say nothing about single units.",
    "no_data": "No data has arrived for this metric.",
    "values_out_of_range": "The data holds values too large to calculate with.",
    "too_few_buckets": "There are too few groups of units to judge an uncertain denominator by.",
    "tied_quantile": "So many values are equal at this quantile that it cannot move.",
    "tail_too_thin": "Too few values lie beyond this quantile.",
    "too_few_clusters": "There are too few clusters in an arm for a variance.",
    "too_few_segments": "Fewer than two segments have an estimate.",
    "no_relative_effect": "Compared on absolute differences, because too few segments have a relative effect.",
    "no_quantile_of_summaries": "The data came as summaries, which say nothing about quantiles.",
    "no_covariate": "The metric has no history to adjust by.",
    "covariate_invalid": "The history holds values that cannot be used.",
    "constant_covariate": "Every unit has the same history, so there is nothing to adjust by.",
    "some_covariates_invalid": "Part of the history holds values that cannot be used.",
    "some_covariates_constant": "Part of the history is the same for every unit.",
    "collinear_covariates": "The covariates say the same thing twice.",
    "covariate_explains_everything": "The history explains everything, which no experiment can use.",
    "small_counts": "There are too few successes or failures to adjust.",
    "too_few_units_for_covariates": "There are too few units to learn from their history.",
    "no_joint_moments": "The data came as summaries, which say nothing about how the inputs move together.",
    "no_full_week": "Exposure has not lasted a full week, so the share of the company is not known.",
    "share_not_defined": "The North Star is no total, so a share of it is not defined.",
    "share_above_one": "Those reached would have more than the whole company's total: check the coverage.",
    "no_company_total": "The company's total is not above zero in the last full week.",
    "no_relative_effect_of_north_star": "The North Star has no relative effect to carry over to the company.",
    "north_star_does_not_add_up": "The North Star is a ratio, whose weeks do not add up to a year.",
    "no_company_data": "The data say nothing about the company outside the experiment.",
    "flows_not_estimable": "The effects on retention and inflow could not be estimated together.",
    "retention_reaches_one": "Retention may reach 100 %, where a stock has no steady state.",
    "too_few_days": "There are too few days since exposure to see a course.",
    "evidence_too_weak": "The evidence is too weak for a single number.",
    "measured_less_than_two_weeks": "Less than two weeks were measured.",
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
    "exposure_ended": "Exposure has ended, so no more data will come.",
    "no_traffic": "No new units have come lately, so waiting brings nothing.",
    "no_planned_end": "The plan has no end, so the chance of a win there cannot be said.",
    "no_log_lift": "Its means are not both above zero, so it has no relative effect to believe in.",
    "nothing_to_plan_for": "Choose a primary metric.",
    "traffic_saturates": "So many different units never come by: ask for a larger effect or more coverage.",
    "longer_than_a_year": "It would take more than a year.",
    "effect_is_zero": "An effect of zero cannot be found.",
    "anticipated_effect_exceeds_margin": "The effect that is expected lies beyond the margin.",
    "more_units_than_there_can_be": "An effect this small would need more units than there can be.",
    "too_few_experiments": "Too few experiments have measured it to say what is usual.",
    "value_missing": "A value of the North Star or of an input is missing in these weeks.",
    "tree_undefined": "The formula has no value in these weeks.",
    "tree_differs_from_north_star": "The formula does not give the North Star in these weeks.",
    "unreachable": "No feasible sample detects an effect this small.",
}

METHODS: Final = {
    "A1": "Difference of means with unequal variances (Welch)",
    "A2": "Difference of proportions; exact and score methods where counts are small",
    "A3": "Relative lift on the log scale by the delta method; Fieller's interval where that is not safe",
    "A4": "Ratio metrics with unit-level variance (delta method)",
    "A5": "Clustered randomisation: clusters are what varies; few of them get their own inference",
    "A6": "Quantiles, of units or of single events clustered by unit",
    "A7": "CUPED: pre-period covariates take out variance that was there before",
    "A8": "Post-stratification: compared within strata, then put together",
    "A9": "Winsorisation: larger values count as the cap, the same one in every arm",
    "A10": "Non-inferiority of guardrails and equivalence by two one-sided tests",
    "A11": "Corrections for the number of comparisons, by what each of them is for",
    "A12": "Sample-ratio check, by chi-square and sequentially",
    "A13": "Survey answers: who answers is checked, and what selection could do is bounded",
    "A14": "Sample size and smallest detectable effect",
    "A15": "Effects by segment",
    "A16": "Interactions with experiments that run on the same units",
    "B1": "Always-valid intervals: they hold however often one looks",
    "B2": "Group-sequential looks by error spending; repeated intervals and stage-wise estimates",
    "B4": "Closed windows: every unit is measured for the same time",
    "B5": "E-values, which stay valid under any dependence and any stopping",
    "C1": "Bayesian reading: normal likelihood and prior on the log lift",
    "C2": "Models of what single units do, checked against the data",
    "C3": "Prior of the log lift, learned from past experiments where there are enough",
    "C4": "Hierarchical models, which pull weak effects towards the rest",
    "C5": "Decisions by expected loss and a region of practical equivalence",
    "D1": "Interrupted time series with a level that wanders and a season",
    "D2": "Differences in differences; rollouts in steps by imputation, never by one regression with two fixed effects",
    "D3": "Synthetic control, augmented and as differences in differences",
    "D4": "Structural time series fitted before the launch, with comparison series",
    "D5": "Switchback: blocks of time drawn by lot, what outlasts a block left out",
    "D6": "Staged rollout: each stage is the experiment that it is",
    "D7": "Evidence grade, and a bias term from runs where nothing happened",
    "E1": "North Star through the metric tree",
    "E2": "Input effects propagated with their covariance",
    "E3": "An observed change taken apart by input (LMDI, Shapley): accounting, not causes",
    "E5": "Effect on the company: the share of the metric that an experiment reached",
    "E6": "Effects by days since exposure, and what remains of them",
    "E7": "Projection over a horizon, with the sources of its uncertainty",
    "E8": "Direct estimate and tree blended, with the tree's bias learned from past experiments",
    "E9": "What a move of an input has been worth in the North Star, free of the noise both share",
    "F1": "All effects of a programme shrunk towards their own population, and summed",
    "F2": "Totals by other corrections, to compare",
    "F3": "Holdouts: what was realised against what was claimed, with Fieller's interval",
    "F4": "Share of each launch in the total, false signs and exaggeration",
    "F6": "Structural time series",
    "H2": "Verdict rules, first match wins",
    "H3": "Shipping by the chance to win, the expected loss and the chance that guardrails hold",
    "H4": "What more data may show, and whether that is worth the days it takes",
}

TOPLINE_SOURCES: Final = {
    "measured": "measured from the events of people reached and of everybody",
    "declared": "declared with the experiment",
    "everybody": "everybody could be exposed",
}
"""Where the share of the company comes from (METHODS E5)."""
UNCERTAINTY: Final = {
    "effect": "The size of the effect",
    "persistence": "How much of it lasts",
    "reach": "How many it will reach",
    "realisation": "How much of such claims came true before",
    "baseline": "Where the North Star goes without it",
    "survival": "Whether it stays in the product",
    "interplay": "Combinations of these",
}
"""What makes a projection uncertain (METHODS E7)."""


def reason(code: str | None) -> str:
    """Why a number is not there, as a sentence."""
    if not code:
        return "It could not be estimated."
    return REASONS.get(code, code.replace("_", " ").capitalize() + ".")


_CORRECTIONS: Final = {
    "holm": "Holm",
    "bonferroni": "Bonferroni",
    "dunnett": "Dunnett",
    "none": "none",
    "benjamini_hochberg": "Benjamini-Hochberg",
    "benjamini_yekutieli": "Benjamini-Yekutieli",
    "e_bh": "e-values (e-BH)",
}


def correction(method: str | None) -> str:
    """A correction by name: `holm (intervals: bonferroni)` is `Holm, intervals by Bonferroni`."""
    if not method:
        return "none"
    name, _, intervals = method.partition(" (intervals: ")
    said = _CORRECTIONS.get(name, name)
    if intervals:
        own = intervals.removesuffix(")")
        said += f", intervals by {_CORRECTIONS.get(own, own)}"
    return said


def adjusted_letter(method: str | None) -> str:
    """`q` for rates of false discoveries, `p` for familywise errors."""
    return "q" if method and method.partition(" ")[0] in ("benjamini_hochberg", "benjamini_yekutieli", "e_bh") else "p"


def titled(code: str) -> str:
    """A code of ours as a title: `sample_ratio` is `Sample ratio`."""
    return code.replace("_", " ").capitalize()


def method_list(ids: list[str]) -> list[tuple[str, str]]:
    """Method ids with what they are; unknown ones keep their id alone."""
    return [(identity, METHODS.get(identity, "")) for identity in ids]
