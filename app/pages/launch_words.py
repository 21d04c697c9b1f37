"""The words for the codes of measured launches: grades, designs, methods, reasons, and what would help."""

from collections.abc import Mapping
from typing import Final

from app.pages import formats, words
from app.pages.words import Label
from experiments.definitions import LaunchSpec
from experiments.result import DesignOption, LaunchGrade

GRADES: Final = {
    "A": Label("Grade A", "good", "check"),
    "B": Label("Grade B", "good", "check"),
    "C": Label("Grade C", "accent", "equal"),
    "D": Label("Grade D", "warn", "alert"),
    "U": Label("Grade U: not measured", "", "question"),
}
GRADE_MEANINGS: Final = {
    "A": "Chance decided who got it, and nothing on record weakens that: the interval says all there is to say.",
    "B": "Chance decided who got it or when, with limits; the interval allows for what these may do.",
    "C": "Nobody drew lots, but others without it stood beside it, and the comparison passed its tests.",
    "D": "Whatever else happened at the time looks like the launch. A hint, not a finding.",
    "U": "The range is what such launches usually do, not what this one did.",
}
GRADE_REASONS: Final = {
    "planned_afterwards": "What to measure was written down after the launch had begun.",
    "less_than_a_week": "It has run for less than a week.",
    "few_clusters": "Fewer than 12 segments or time blocks were drawn by lot.",
    "stopped_early": "The experiment was stopped early.",
    "peeked": "The experiment was looked at before its end with an interval that holds only once.",
    "triggered_set_differs": "Who counts differs between those with and those without it.",
    "amended": "The plan was changed on the way.",
    "exposure_leak": "Some of those without it got it all the same.",
    "pre_trend_failed": "Those with and those without it moved apart before the launch already.",
    "placebos_find_effects": "The method finds effects of this size where nothing happened.",
    "too_few_placebos": "There is too little history to try the method where nothing happened.",
    "poor_donor_fit": "The comparison does not follow the launch's segments before the launch.",
    "regressor_moved": "Something that was to stand for the outside world moved with the launch.",
    "too_many_gaps": "Too many values are missing.",
    "one_period_decides": "A single period makes the effect.",
    "confounded": "Something else happened at the same time.",
    "not_usable": "A check failed, so the numbers cannot be used.",
    "not_estimable": "The method that was to lead could not be computed.",
}
RAISED_BY: Final = {
    "plan_before_start": "Write down the measurement before the launch begins.",
    "wait_a_full_week": "Wait until a full week has passed.",
    "more_clusters": "Draw lots over 12 segments or time blocks at least.",
    "run_to_the_planned_end": "Run experiments to their planned end.",
    "use_sequential_intervals": "Use intervals that hold however often one looks.",
    "trigger_both_arms_alike": "Count the same users with and without it.",
    "stop_the_leak": "Keep it from those who should not have it yet.",
    "closer_comparison_units": "Compare with segments that are more alike.",
    "longer_history": "Send earlier values of the series.",
    "more_comparison_units": "Measure more segments without the launch.",
    "regressors_the_launch_cannot_move": "Name outside influences that the launch cannot move.",
    "fill_the_gaps": "Send the values that are missing.",
    "explain_the_period": "Find out what happened in the one period that stands out.",
    "measure_the_confounder": "Send a series of what else happened, and name it among the outside influences.",
    "fix_failed_checks": "Do what the failed checks ask for.",
    "ramp_by_hash": "Next time, ramp up by a hash of the user: every stage is then an experiment.",
    "draw_segments_by_lot": "Next time, draw the order of segments by lot.",
    "keep_segments_back": "Next time, keep some segments back for a while.",
    "measure_on_a_series": "Measure it on a series with values before and since the launch.",
}
BIAS_SOURCES: Final = {
    "none": "",
    "share_of_error": "For what weakens the lots, a quarter of the standard error is allowed for.",
    "placebos_in_time": "The interval allows for what the method finds at dates when nothing happened.",
    "placebos_in_space": "The interval allows for what the method finds in segments where nothing happened.",
    "as_large_as_effect": "The interval allows for all of it being the work of what happened at the same time.",
    "at_least_error": "The interval allows for a bias as large as the standard error: no data can say that it is less.",
    "unknown": "",
}
DESIGNS: Final = {
    "experiment": "The experiment behind it",
    "staged": "Stages by chance: users with it against users without",
    "switchback": "Switched on and off by lot",
    "random_order": "Segments in an order drawn by lot",
    "staggered": "Segments one after the other",
    "concurrent": "Segments with it against segments without",
    "donors": "Series that the launch did not touch",
    "before_after": "Before against after",
    "none": "No measurement",
}
METHODS: Final = {
    "experiment": "The experiment",
    "staged": "Staged rollout",
    "switchback": "Switchback",
    "imputation": "Imputation",
    "group_time": "Group-time averages",
    "synthetic_did": "Synthetic difference-in-differences",
    "synthetic_control": "Synthetic control",
    "augmented_synthetic_control": "Augmented synthetic control",
    "did": "Difference-in-differences",
    "bsts": "Structural model with comparisons",
    "structural": "Structural model, before and after",
    "prior": "What such launches usually do",
}
SHORT_METHODS: Final = METHODS | {
    "synthetic_did": "Synthetic diff-in-diff",
    "augmented_synthetic_control": "Augmented synthetic",
    "did": "Diff-in-diff",
    "bsts": "Structural, comparisons",
    "structural": "Structural, before/after",
}
"""For pictures, where a name has half the width of a phone."""
REASONS: Final = {
    "too_little_history": "There is too little history before the launch.",
    "no_period_after_launch": "No period since the launch is complete.",
    "no_comparison_units": "There is nothing without the launch to compare with.",
    "too_few_comparison_units": "There are too few segments without the launch.",
    "too_few_treated_units": "Too few segments have the launch for a variance.",
    "no_untreated_cells": "No value is free of the launch.",
    "gaps_in_series": "Too many values are missing.",
    "constant_series": "The series never moves.",
    "not_concurrent": "Segments got it at different times; this method needs one time.",
    "too_few_blocks": "It was switched on and off too seldom.",
    "not_enough_units": "There are too few units on one side.",
    "sample_ratio_mismatch": "The units are not split as planned, so some are missing on one side.",
    "no_coverage": "The launch reaches none of the segments measured.",
    "no_data": "The series has no values.",
    "model_unreliable": "The model did not settle on an answer.",
    "poor_donor_fit": "The comparison does not follow the launch's segments before the launch.",
    "too_noisy": "Its range is so wide, or so few had the change, that it says nothing.",
    "baseline_near_zero": "Its mean is too close to zero to speak of a percentage.",
    "experiment_not_usable": "The experiment's result cannot be used.",
}
WHY: Final = {
    "experiment_measured_it": "The experiment behind it measured this very metric, over {days} days.",
    "no_experiment": "No experiment on record measured this metric before.",
    "experiment_not_usable": "Checks of the experiment failed, so its numbers cannot be used.",
    "arms_by_stage": "The series has users with and without it, drawn by lot in stages: {stages}.",
    "no_arm_series": "The series does not tell users with it from users without.",
    "no_random_stage": "At no stage did a part of the users, drawn by lot, have it.",
    "states_by_lot": "Lots switched it on and off; it changed sides {changes} times.",
    "not_by_lot": "No lots were drawn over times or segments.",
    "too_few_changes": "It was switched on and off too seldom: {changes} changes, {needed} are needed.",
    "segments_by_lot": "Lots chose the segments: {with_it} have it, {without_it_at_first} had it later or never.",
    "no_segments": "The series has no segments.",
    "too_few_segments": "Lots need {needed} segments on each side: {with_it} have it, {without_it_at_first} had it "
    "later or never.",
    "several_waves": "Segments got it at different times.",
    "one_wave": "All segments that have it got it at the same time.",
    "untreated_segments": "{without_it} segments without it stand beside {with_it} with it.",
    "everyone_has_it": "No segment is without it.",
    "control_series": "There are series that it did not touch: {controls} named, {segments} segments without it.",
    "no_controls": "Nothing that it did not touch is on record.",
    "history_before": "There are {before} periods before it and {after} since.",
    "nothing_else": "What such launches usually do, where nothing was measured.",
    "arms_only": "The series only has users with it and users without: it has no history.",
}
"""Why a design is possible, or is not. `{name}` stands for a number of the option."""
NOTES: Final = {
    "stages_share_units": "The stages share users, so their errors go together.",
    "few_donors": "There are few segments to compare with.",
    "donors_with_gaps": "Segments with gaps are not compared with.",
    "poor_donor_fit": "The comparison does not follow the launch's segments before the launch.",
    "one_donor_dominates": "One segment carries nearly all the weight.",
    "cells_without_comparison_left_out": "Some values have nothing to be compared with and are left out.",
    "few_treated_units": "Few segments have it, so errors come from those without it.",
    "one_treated_unit": "One segment has it, so errors come from those without it.",
    "compared_with_units_not_yet_launched": "Compared with segments that got it later.",
    "gaps": "More than a tenth of the values are missing.",
    "season_left_out": "There is too little history for one of the seasons.",
    "influence_without_history": "An influence did not move before the launch, so nothing was learned of it.",
    "sampled": "Sampled, with a choice among the comparisons.",
    "grid_stands": "The sampled model gave no answer; this is the one without a choice among comparisons.",
    "learned_prior": "It is what past experiments on the metric did.",
    "default_prior": "It is a wide guess: nothing was learned of this metric yet.",
}
"""What an estimate says about itself."""
CHECKS: Final = {
    "history": "History",
    "anticipation": "Moved before the launch",
    "confounders": "What else happened",
    "outside_series": "Series from outside",
    "eligible": "Who could get it",
    "unknown_segments": "Segments without values",
    "unplaced_facts": "Facts without a segment",
    "rollout_order": "Other orders of the lot",
    "restated": "Restated values",
    "sample_ratio": "Split of users",
    "gaps": "Missing values",
    "scale": "Scale",
    "post_period": "Time since the launch",
    "single_periods": "Single periods",
    "pre_trend": "Trends before the launch",
    "placebo_in_time": "Where nothing happened: earlier dates",
    "placebo_in_space": "Where nothing happened: other segments",
    "donor_fit": "Fit of the comparison",
    "donors_untouched": "Comparison untouched",
    "regressors_untouched": "Outside influences untouched",
    "planned_before": "Planned beforehand",
}
INTERVALS: Final = {
    "normal": "normal",
    "t": "t",
    "placebo": "by placebos",
    "bootstrap": "bootstrap",
    "posterior": "posterior",
    "randomisation": "by randomisation",
}
PARAMETERS: Final = {
    "sigma_obs": "Noise of a period (standard deviation)",
    "sigma_level": "Wandering of the level from period to period (standard deviation)",
    "trend": "Trend a period",
    "donor": "Moves with",
    "without_burn_in": "Effect without leaving out the time after each switch",
}
"""Parameters of models; those of one donor are `donor[its name]`."""
PER_GRAIN: Final = {"hour": "an hour", "day": "a day", "week": "a week"}


def reason(code: str | None) -> str:
    """Why a launch, or a method, has no number, as a sentence."""
    return REASONS[code] if code in REASONS else words.reason(code)


def grade_sentence(grade: LaunchGrade) -> str:
    """What the grade means, and how much bias the interval allows for."""
    runs = f", from {formats.plural(grade.placebo_runs, 'run')}" if grade.placebo_runs else ""
    bias = BIAS_SOURCES[grade.bias_source]
    if grade.bias_sd:
        bias += f" That is ±{formats.spread(grade.bias_sd)} (one standard deviation{runs})."
    elif grade.placebo_runs:
        bias = f"Where nothing happened the method finds no more than its own error ({runs.removeprefix(', ')})."
    return " ".join(part for part in (GRADE_MEANINGS[grade.grade], bias) if part)


def grade_reasons(grade: LaunchGrade) -> list[str]:
    """What lowered it, one sentence each."""
    return [GRADE_REASONS.get(code) or reason(code) for code in grade.reasons]


def grade_remedies(grade: LaunchGrade) -> list[str]:
    """What would raise it, the most effective first, one sentence each."""
    return [RAISED_BY.get(code, words.reason(code)) for code in grade.raised_by]


def remedies_without_series(spec: LaunchSpec, launched: bool) -> list[str]:
    """What would give a grade to a launch that names no series: now, and by the way the next one is rolled out."""
    now = (
        "Name a series with values from before it and since: a metric's facts make one, or send the values."
        if launched
        else "Name a series before it begins: what is written down beforehand counts for more."
    )
    by_lot = any(step.mechanism == "random" and 0 < step.coverage < 1 for step in spec.rollout)
    codes = [*([] if by_lot else ["ramp_by_hash"]), "draw_segments_by_lot", "keep_segments_back"]
    later = [RAISED_BY[code] for code in codes]
    return [now, *(later if launched else [text.removeprefix("Next time, ").capitalize() for text in later])]


def why(option: DesignOption) -> str:
    """Why a design can or cannot be had, as a sentence with its numbers."""
    if option.why in WHY:
        return WHY[option.why].format_map(_Numbers(option.numbers))
    return reason(option.why) if option.why else ""


def note(code: str) -> str:
    """What an estimate says about itself."""
    return NOTES[code] if code in NOTES else words.reason(code)


def parameter(name: str) -> str:
    """A model parameter by name, with the series it is about."""
    code, _, about = name.partition("[")
    said = PARAMETERS.get(code, code.replace("_", " ").capitalize())
    return f"{said} {about.removesuffix(']')}" if about else said


class _Numbers(dict[str, str]):
    """Numbers of an option as text; one that is missing is said as such."""

    def __init__(self, numbers: Mapping[str, float]) -> None:
        super().__init__({name: f"{value:,.6g}" for name, value in numbers.items()})

    def __missing__(self, key: str) -> str:
        return formats.NOTHING
