"""How much to believe a launch's effect: a letter and a bias term, both from recorded facts (METHODS D7).

Turner, Spiegelhalter, Smith & Thompson 2009 ("Bias modelling in evidence synthesis"): an estimate is the effect plus a
bias of unknown sign, `N(0, b^2)`. Where nothing was randomised, b is what the same estimator finds where nothing
happened, beyond what its standard error allows for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.special as sc

from stats.launch.contract import PlaceboRuns
from stats.launch.placebo import independent_runs

type Letter = Literal["A", "B", "C", "D", "U"]
type Design = Literal[
    "experiment",
    "staged",
    "switchback",
    "random_order",
    "staggered",
    "concurrent",
    "donors",
    "before_after",
    "none",
]
type BiasSource = Literal[
    "none",
    "share_of_error",
    "placebos_in_time",
    "placebos_in_space",
    "at_least_error",
    "as_large_as_effect",
    "unknown",
]

FEWEST_RUNS: Final = 5
"""Placebo runs below this say too little about the bias."""
FEWEST_CLUSTERS: Final = 12
_FULL_WEEK_DAYS: Final = 7.0
_SHARE_OF_ERROR: Final = 0.25
_PLACEBO_ALPHA: Final = 0.05
_BY_DESIGN: Final[dict[Design, Letter]] = {
    "experiment": "A",
    "staged": "A",
    "switchback": "B",
    "random_order": "B",
    "staggered": "C",
    "concurrent": "C",
    "donors": "C",
    "before_after": "D",
    "none": "U",
}
_BETTER_DESIGN: Final[dict[Letter, tuple[str, ...]]] = {
    "A": (),
    "B": ("ramp_by_hash",),
    "C": ("ramp_by_hash", "draw_segments_by_lot"),
    "D": ("ramp_by_hash", "draw_segments_by_lot", "keep_segments_back"),
    "U": ("measure_on_a_series", "ramp_by_hash", "keep_segments_back"),
}
_REMEDIES: Final[dict[str, str]] = {
    "planned_afterwards": "plan_before_start",
    "less_than_a_week": "wait_a_full_week",
    "few_clusters": "more_clusters",
    "stopped_early": "run_to_the_planned_end",
    "peeked": "use_sequential_intervals",
    "triggered_set_differs": "trigger_both_arms_alike",
    "amended": "plan_before_start",
    "exposure_leak": "stop_the_leak",
    "pre_trend_failed": "closer_comparison_units",
    "placebos_find_effects": "closer_comparison_units",
    "too_few_placebos": "longer_history",
    "poor_donor_fit": "more_comparison_units",
    "regressor_moved": "regressors_the_launch_cannot_move",
    "too_many_gaps": "fill_the_gaps",
    "one_period_decides": "explain_the_period",
    "confounded": "measure_the_confounder",
    "not_usable": "fix_failed_checks",
    "not_estimable": "fix_failed_checks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeFacts:
    """What is on record about a launch and its leading estimate. None: does not apply, or could not be tested.

    `effect` and `standard_error` are on the log scale, `days_after` is the length of the post-period. `clusters` counts
    what was randomised: segments or time blocks, None for units. `usable` is false when quality gates failed (METHODS
    A12).
    """

    design: Design
    effect: float
    standard_error: float
    planned_before: bool
    days_after: float
    usable: bool = True
    clusters: int | None = None
    stopped_early: bool = False
    peeked: bool = False
    triggered_set_differs: bool = False
    amended: bool = False
    exposure_leak: bool = False
    placebos_in_time: PlaceboRuns | None = None
    placebos_in_space: PlaceboRuns | None = None
    pre_trend_passed: bool | None = None
    donor_fit_good: bool | None = None
    regressors_untouched: bool = True
    confounded: bool = False
    too_many_gaps: bool = False
    one_period_decides: bool = False


@dataclass(frozen=True, slots=True)
class Grade:
    """A letter, the `reasons` that lowered it from what the design allows, and what would raise it.

    `bias_sd` is on the log scale, nan for U. `runs` counts the placebo runs behind it.
    """

    letter: Letter
    reasons: tuple[str, ...]
    raised_by: tuple[str, ...]
    bias_sd: float
    bias_source: BiasSource
    runs: int


def excess_of_placebos(runs: PlaceboRuns | None) -> tuple[float, int]:
    """`sqrt(max(0, mean(theta^2) - mean(se^2)))` over the runs that could be made, and their number (METHODS D7)."""
    if runs is None:
        return 0.0, 0
    known = np.isfinite(runs.effect) & np.isfinite(runs.standard_error)
    if not known.any():
        return 0.0, 0
    excess = np.mean(runs.effect[known] ** 2) - np.mean(runs.standard_error[known] ** 2)
    return float(np.sqrt(max(float(excess), 0.0))), int(known.sum())


def placebos_find_effects(runs: PlaceboRuns | None, standard_error: float) -> bool:
    """Whether the bias that placebos show exceeds the standard error of the launch, and chance does not explain it.

    The second by a chi-square test at 5 % of `mean(theta^2) / mean(se^2)`. Dates that are closer than the horizon
    share data, so that a dozen of them may be worth three: their number is taken by Satterthwaite 1946 from the share
    of periods that two have in common.
    """
    excess, _ = excess_of_placebos(runs)
    if runs is None or not excess > standard_error:
        return False
    known = np.isfinite(runs.effect) & np.isfinite(runs.standard_error)
    ratio = np.mean(runs.effect[known] ** 2) / np.mean(runs.standard_error[known] ** 2)
    count = float(known.sum())
    if runs.kind == "time":
        apart = np.abs(runs.place[known][:, None] - runs.place[known])
        count = independent_runs(np.maximum(0.0, 1 - apart / runs.horizon))
    return bool(sc.chdtrc(count, count * ratio) < _PLACEBO_ALPHA)


def evidence_grade(facts: GradeFacts) -> Grade:
    """The grade that the recorded facts allow.

    Randomised designs start at A (units) or B (blocks, segments) and lose at most one letter to what weakens them.
    Comparisons without randomisation are C only when they passed what can be tested: the trends before, placebos that
    find nothing large and certain, donors that fit. Before against after is D: its bias is at least its standard
    error, because nothing in the data can show that it is less.
    """
    if facts.design == "none":
        return _unmeasured(())
    if not facts.usable:
        return _unmeasured(("not_usable",))
    if not np.isfinite(facts.standard_error):
        return _unmeasured(("not_estimable",))
    letter = _BY_DESIGN[facts.design]
    reasons: tuple[str, ...] = ()
    if letter == "A":
        reasons = _limits_of_randomisation(facts)
        letter = "B" if reasons else "A"
    elif letter == "C":
        reasons = _failures_of_comparison(facts)
        letter = "D" if reasons else "C"
    bias, source, runs = _bias(letter, facts)
    better = () if _BY_DESIGN[facts.design] == "A" else _BETTER_DESIGN[letter]
    raised_by = tuple(dict.fromkeys((*(_REMEDIES[code] for code in reasons), *better)))
    return Grade(letter, reasons, raised_by, bias, source, runs)


def _unmeasured(reasons: tuple[str, ...]) -> Grade:
    remedies = (*(_REMEDIES[code] for code in reasons), *(() if reasons else _BETTER_DESIGN["U"]))
    return Grade("U", reasons, remedies, float("nan"), "unknown", 0)


def _limits_of_randomisation(facts: GradeFacts) -> tuple[str, ...]:
    rules = {
        "planned_afterwards": not facts.planned_before,
        "less_than_a_week": facts.days_after < _FULL_WEEK_DAYS,
        "few_clusters": facts.clusters is not None and facts.clusters < FEWEST_CLUSTERS,
        "stopped_early": facts.stopped_early,
        "peeked": facts.peeked,
        "triggered_set_differs": facts.triggered_set_differs,
        "amended": facts.amended,
        "exposure_leak": facts.exposure_leak,
    }
    return tuple(code for code, applies in rules.items() if applies)


def _failures_of_comparison(facts: GradeFacts) -> tuple[str, ...]:
    _, runs, _ = _excess(facts)
    found = (
        placebos_find_effects(placebos, facts.standard_error)
        for placebos in (facts.placebos_in_time, facts.placebos_in_space)
    )
    rules = {
        "pre_trend_failed": facts.pre_trend_passed is False,
        "too_few_placebos": runs < FEWEST_RUNS,
        "placebos_find_effects": runs >= FEWEST_RUNS and any(found),
        "poor_donor_fit": facts.donor_fit_good is False,
        "regressor_moved": not facts.regressors_untouched,
        "too_many_gaps": facts.too_many_gaps,
        "one_period_decides": facts.one_period_decides,
        "confounded": facts.confounded,
    }
    return tuple(code for code, applies in rules.items() if applies)


def _excess(facts: GradeFacts) -> tuple[float, int, BiasSource]:
    """The larger of what placebos in time and in space found, and the number of all runs."""
    time, time_runs = excess_of_placebos(facts.placebos_in_time)
    space, space_runs = excess_of_placebos(facts.placebos_in_space)
    return max(time, space), time_runs + space_runs, "placebos_in_space" if space > time else "placebos_in_time"


def _bias(letter: Letter, facts: GradeFacts) -> tuple[float, BiasSource, int]:
    if letter == "A":
        return 0.0, "none", 0
    found, runs, source = _excess(facts)
    if letter == "B":
        share = _SHARE_OF_ERROR * facts.standard_error
        return (found, source, runs) if found > share else (share, "share_of_error", runs)
    if facts.confounded and abs(facts.effect) > max(found, facts.standard_error):
        # All of it may be the other event's: nothing in the data divides them.
        return abs(facts.effect), "as_large_as_effect", runs
    if letter == "C" or found > facts.standard_error:
        return found, source, runs
    return facts.standard_error, "at_least_error", runs
