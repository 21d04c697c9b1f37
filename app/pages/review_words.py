"""The words of growth reviews: what the ledger, forecasts, alarms and holdouts say, as sentences."""

from collections.abc import Mapping
from math import expm1
from typing import Final

from app.charts.numbers import PERCENT
from app.charts.units import amount, step_for
from app.pages import formats, words
from app.pages.words import Label
from experiments.result import (
    ChangedNumber,
    GrowthReviewResult,
    Ledger,
    LedgerLine,
    Lever,
    RealisedAgainstClaimed,
    Stagnation,
    TargetForecast,
)

ALARM: Final = Label("The base has stopped growing", "bad", "alert")
TURNED: Final = Label("The last weeks are out of the ordinary", "warn", "alert")
NO_ALARM: Final = Label("No alarm", "good", "check")
NOT_WATCHED: Final = Label("Not watched yet", "", "question")
KINDS: Final = {
    "iterates": Label("Iterate", "accent", "loop"),
    "replicates": Label("Replicate", "accent", "equal"),
    "retests": Label("Retest", "accent", "clock"),
}
RELATIONS: Final = {"iterates": "iterates", "replicates": "replicates", "retests": "replicates"}
"""The relation that the draft of a follow-up has: a retest of a launch replicates its experiment."""
ENGINES: Final = {
    "collapsed": "importance sampling",
    "sampled": "the sampled model (NUTS)",
    "none": "no model",
}
ATTRIBUTIONS: Final = {
    "lmdi": "log-mean Divisia index (LMDI)",
    "shapley": "Shapley values",
    "none": "nothing",
}
LEVERS: Final = {
    "velocity": "Experiments a quarter",
    "win_rate": "Share of experiments that ship",
    "effect_size": "What a launch is worth by then",
    "sensitivity": "Standard error of an experiment",
}
PARAMETERS: Final = {
    "kappa": "Share of claims that was realised (κ)",
    "mean": "Mean true effect of an experiment",
    "tau": "Spread of true effects",
    "scatter": "Scatter of launches around κ",
    "remaining": "Share of an effect that lasts",
    "weeks": "Weeks until it has worn off",
    "noise": "Noise of a week",
    "level_step": "How far the base wanders in a week",
    "slope_step": "How fast the growth of the base changes",
}
REASONS: Final = {
    "series_too_short": "The North Star needs 52 known weeks, 26 of them since the first launch.",
    "unreliable_sampling": "The model could not be computed reliably, so it says nothing.",
    "series_not_used": "Too few weeks of the North Star are known.",
    "no_weeks_to_compare": "There are no weeks to hold the period against.",
    "no_known_weeks": "None of the compared weeks is known.",
    "no_common_weeks": "No week is known of the North Star and of all its inputs.",
    "no_target": "The North Star has no target.",
    "target_passed": "The day of the target has passed.",
    "target_too_far": "The target is more than two years away.",
    "no_history": "No experiment on the North Star has ended yet.",
    "no_effects": "No experiment has measured an effect on the North Star.",
    "no_recent_weeks": "The last weeks of the North Star are not known.",
    "not_in_the_tree": "Some inputs of the tree have no values.",
    "series_too_short_for_a_backtest": "There are too few weeks to try the ledger on an earlier day.",
}
METHODS: Final = {
    "E3": "What inputs account for in an observed change: LMDI, or Shapley values where there is a sum",
    "E4": "Intervals of that, from how the compared weeks differ",
    "F1": "All experiments together, each shrunk towards the population of all",
    "F2": "The sum of what shipped, with what is known of the choice",
    "F3": "Holdouts: what was realised of what was claimed",
    "F4": "Chances of the wrong sign, and harmful ships",
    "F6": "The ledger: launches, season, outside influences, base and noise add up in every draw",
    "F7": "The stagnation alarm: the growth of the base, as it was known week by week",
    "F8": "Forecast without launches, and with as many as there usually are",
    "G8": "Whether the North Star's formula is fit to steer by",
    "H6": "Growth review",
}
_LITTLE, _SOME = 0.9, 0.6
I80: Final = f"80{PERCENT}:"
I95: Final = f"95{PERCENT}:"


def reason(code: str | None) -> str:
    """Why something is not there, as a sentence."""
    return REASONS.get(code or "") or words.reason(code)


def per_cent_of(log_lift: float | None) -> str:
    """A log lift as a relative change."""
    return formats.change(None if log_lift is None else expm1(log_lift))


def log_interval(lower: float | None, upper: float | None) -> str:
    """An interval of log lifts as one of relative changes."""
    return formats.between(*(None if end is None else expm1(end) for end in (lower, upper)))


def rounded(value: float | None, lower: float | None = None, upper: float | None = None, *, sign: bool = True) -> str:
    """An amount with as many digits as its interval allows."""
    width = None if lower is None or upper is None else upper - lower
    return amount(value, step_for(width, value), sign=sign)


def interval(lower: float | None, upper: float | None, *, sign: bool = True) -> str:
    """The ends of an interval of amounts."""
    if lower is None or upper is None:
        return formats.NOTHING
    step = step_for(upper - lower, upper)
    return f"{amount(lower, step, sign=sign)} to {amount(upper, step, sign=sign)}"


def told(line: LedgerLine, unit: str) -> str:
    """A line in a sentence: `+1,260,000 h (80 %: +740,000 to +1,830,000)`."""
    shown = rounded(line.units, line.lower_80, line.upper_80)
    return f"{shown}{_of(unit)} ({I80} {interval(line.lower_80, line.upper_80)})"


def answer(document: GrowthReviewResult, name: str) -> str:
    """The page in a sentence or two."""
    ledger = document.ledger
    if ledger.observed_units is None or ledger.observed_log is None:
        return f"How {name} changed cannot be said. {reason(ledger.reason)}"
    up = ledger.observed_units > 0
    moved = "rose" if up else "fell"
    change = rounded(abs(ledger.observed_units), sign=False)
    first = f"{name} {moved} by {change}{_of(ledger.unit)} ({formats.change(expm1(ledger.observed_log))}) "
    against = f"against the weeks from {formats.day(ledger.compared_begins_at)} on."
    lines = {line.component: line for line in ledger.lines if line.key is None}
    if "launches" not in lines:
        return f"{first}{against} {reason(ledger.reason) if ledger.reason else 'Nothing was launched.'}"
    base = f"; nothing on record explains {told(lines['base'], ledger.unit)}" if "base" in lines else ""
    return f"{first}{against} Launches account for {told(lines['launches'], ledger.unit)}{base}."


def kappa_sentence(ledger: Ledger) -> str:
    """What was realised of what was claimed, and whether anything but the prior says so."""
    if ledger.kappa is None:
        return f"How much of the claims was realised is not estimable. {reason(ledger.reason)}"
    said = (
        f"Of what was claimed, {formats.share(round(ledger.kappa, 2))} was realised "
        f"({I80} {_shares(ledger.kappa_lower_80, ledger.kappa_upper_80)})."
    )
    if ledger.kappa_contraction is not None:
        said += f" {contraction(ledger.kappa_contraction)}"
    return said


def contraction(ratio: float) -> str:
    """What the data added to the prior: the posterior over the prior standard deviation, in words."""
    left = formats.share(round(ratio, 2))
    if ratio >= _LITTLE:
        return f"That is prior: the weeks and holdouts left {left} of its spread, so they say next to nothing about it."
    if ratio >= _SOME:
        return f"The weeks and holdouts say a little about it: they left {left} of the spread that the prior had."
    return f"The weeks and holdouts say much about it: they left {left} of the spread that the prior had."


def forecast_sentence(found: TargetForecast, unit: str) -> str:
    """Whether the target will be hit, without further launches and with as many as usual."""
    if found.target is None or found.target_at is None:
        return reason("no_target")
    goal = f"{formats.number(found.target, 4)}{_of(unit)} by {formats.day(found.target_at)}"
    if found.chance_to_hit is None:
        return f"Whether {goal} will be reached cannot be said. {reason(found.reason)}"
    said = (
        f"Without further launches {goal} is reached with a chance of {formats.probability(found.chance_to_hit)}"
        f" ({rounded(found.median_at_target, found.lower_80_at_target, found.upper_80_at_target, sign=False)} expected,"
        f" {I80} {interval(found.lower_80_at_target, found.upper_80_at_target, sign=False)})"
    )
    if found.chance_with_programme is None:
        return said + f". {reason(found.reason)}" if found.reason else said + "."
    return (
        f"{said}, with as many launches as there usually are with {formats.probability(found.chance_with_programme)}."
    )


def needed_sentence(found: TargetForecast) -> str:
    """How many experiments would make it likely; empty where nobody asked."""
    if found.chance_with_programme is None:
        return ""
    usual = f"{found.experiments_per_quarter or 0:.1f}"
    if found.experiments_needed is None:
        return f"There are {usual} experiments a quarter; no number of them gives a chance of 80{PERCENT}."
    needed = formats.plural(found.experiments_needed, "experiment")
    return f"There are {usual} experiments a quarter; {needed} until then give a chance of 80{PERCENT}."


def lever_number(lever: Lever, value: float | None) -> str:
    """A lever's value in its own unit."""
    if value is None:
        return "cannot do it alone"
    if lever.lever == "velocity":
        return formats.number(value)
    return (
        formats.spread(expm1(value))
        if lever.lever == "sensitivity"
        else (formats.share(round(value, 3)) if lever.lever == "win_rate" else formats.change(expm1(value)))
    )


def alarm(found: Stagnation) -> Label:
    """The state of the alarm."""
    if found.slope is None:
        return NOT_WATCHED
    return ALARM if found.alarm else TURNED if found.changed else NO_ALARM


def stagnation_sentence(found: Stagnation) -> str:
    """The growth that nothing on record explains, and how sure it is that it is gone."""
    if found.slope is None:
        return f"Growth that nothing on record explains is not estimable. {reason(found.reason)}"
    said = (
        f"The base changes by {formats.change(expm1(found.slope))} a week "
        f"({I80} {log_interval(found.slope_lower_80, found.slope_upper_80)})."
    )
    if found.chances:
        said += f" The chance that it does not grow is {formats.probability(found.chances[-1])}."
    if found.changed:
        said += " The last four weeks would be surprising after all before them."
    return said


def holdout_sentence(found: RealisedAgainstClaimed) -> str:
    """What a holdout measured beside what its launches had claimed."""
    if found.realised is None:
        return f"{found.name}: {reason(found.reason)}"
    interval_of_it = log_interval(found.realised_lower_95, found.realised_upper_95)
    said = (
        f"{found.name}: its {formats.plural(found.launches, 'launch', 'launches')} brought "
        f"{per_cent_of(found.realised)} ({I95} {interval_of_it}) together"
    )
    if found.claimed is None:
        return f"{said}; nothing is known of what they had claimed."
    said += f", where {per_cent_of(found.claimed)} was claimed."
    if found.kappa is None:
        return said
    if found.kappa_unbounded or found.kappa_lower is None or found.kappa_upper is None:
        return f"{said} What share that is cannot be bounded: the claim may as well be nothing."
    share = formats.share(round(found.kappa, 2))
    return f"{said} That is {share} of it ({I95} {_shares(found.kappa_lower, found.kappa_upper)})."


def headline_number(
    value: float | None, unit: str, *, units: str = "", sign: bool = False, ends: tuple[float, float] | None = None
) -> str:
    """A number that reviews are compared by; `unit` is its kind, `units` that of the North Star."""
    if value is None:
        return formats.NOTHING
    if unit == "share":
        return formats.share(round(value, 3))
    if unit == "lift":
        return formats.change(value)
    if unit == "count":
        return formats.number(round(value))
    return rounded(value, *(ends or (None, None)), sign=sign) + _of(units)


def headline_interval(ends: tuple[float, float], unit: str) -> str:
    """The interval of such a number."""
    if unit == "share":
        return _shares(*ends)
    return formats.between(*ends) if unit == "lift" else interval(*ends)


def moved(number: ChangedNumber, unit: str) -> str:
    """How a headline number changed since the review before, in its own unit."""
    if number.before is None or number.now is None:
        return formats.NOTHING
    difference = number.now - number.before
    if number.unit == "share":
        return amount(difference * 100, 0.1) + " points"
    if number.unit == "count":
        return formats.gain(round(difference))
    if number.unit == "lift":
        return amount(difference * 100, 0.01) + " points"
    return rounded(difference, sign=True) + _of(unit)


def prior_of(code: str) -> str:
    """Another prior of the base, in words."""
    factor = code.rpartition(" x ")[2]
    return {"0.5": "wanders half as much", "2": "wanders twice as much"}.get(factor, code)


def method_list(ids: list[str]) -> list[tuple[str, str]]:
    """Methods of a review with what they are."""
    known: Mapping[str, str] = {**words.METHODS, **METHODS}
    return [(identity, known.get(identity, "")) for identity in ids]


def _of(unit: str) -> str:
    return f" {unit}" if unit else ""


def _shares(lower: float | None, upper: float | None) -> str:
    if lower is None or upper is None:
        return formats.NOTHING
    low, high = (f"{round(end * 100):d}".replace("-", formats.MINUS) for end in (lower, upper))
    return f"{low} to {high}{PERCENT}"
