"""The words for programmes, holdouts and learned links: methods of a total, reasons, and what checks are called."""

from math import expm1
from typing import Final

from app.charts.numbers import PERCENT
from app.pages import formats, words
from experiments.result import LinkEstimate, RealisedAgainstClaimed

TOTALS: Final = {
    "full_bayes": "Shrunk together",
    "naive_sum": "Sum of the claims",
    "lee_shen": "Lee and Shen",
    "lee_shen_posterior": "Lee and Shen, on beliefs",
    "james_stein": "James and Stein",
    "plug_in": "Empirical Bayes",
    "winners_only": "From winners only",
}
"""Methods of a total (METHODS F2), the one that leads first."""
TOPLINES: Final = {
    "measured": "share of the company measured",
    "declared": "share of the company stated",
    "everybody": "taken to be about everybody",
}
CHECKS: Final = {
    "completeness": "Completeness",
    "losers_on_record": "Losers on record",
    "choice_among_variants": "Chosen among variants",
    "reach": "Share of the company",
    "against_recommendation": "Shipped against the recommendation",
    "sample_ratio": "Split of users",
    "contamination": "Contamination",
    "length": "Time held",
    "precision": "Precision",
    "unclaimed_launches": "Launches without a claim",
    "time_live": "Time its launches were out",
    "replicated_ships": "Shipped again",
    "links_completeness": "Completeness",
    "link_without_each_team": "Without each team",
}
REASONS: Final = {
    "nothing_shipped": "Nothing has shipped yet, so there is no total.",
    "no_effects": "No experiment has an effect that can be counted yet.",
    "no_claims": "None of its launches has a claim: no shipped experiment is behind them.",
    "never_analysed": "It was never analysed.",
    "not_estimable": "Its effect could not be estimated.",
    "unreliable": "A check failed, so its numbers are not used.",
    "declared_invalid": "It was declared invalid.",
    "correlation_uncertain": "It is not certain enough that true effects on the two go together.",
    "one_input": "The tree has one input only.",
    "too_many_inputs": "The tree has too many inputs to judge them together.",
    "one_formula": "Together the inputs all but make up the North Star, so none can be held still while another moves.",
    "too_few_experiments": "Fewer than 8 experiments measured it.",
    "not_sampled": "The model of all inputs together gave no answer.",
}


def reason(code: str | None) -> str:
    """Why a programme, a holdout or a link has no number, as a sentence."""
    if code and " " in code:
        return f"{code[0].upper()}{code[1:]}."
    return REASONS[code] if code in REASONS else words.reason(code)


def check(name: str) -> str:
    """What a check is called."""
    return CHECKS.get(name) or words.titled(name)


def lift(log_lift: float) -> str:
    """A log lift as the lift that it is: `+3.1 %`."""
    return formats.change(expm1(log_lift))


def lifts(lower: float | None, upper: float | None) -> str:
    """An interval of log lifts: `+1.1 % to +5.0 %`."""
    return formats.NOTHING if lower is None or upper is None else formats.between(expm1(lower), expm1(upper))


def slope(value: float | None) -> str:
    """What a move of 1 % has been worth: `1.09 %`."""
    return formats.NOTHING if value is None else f"{value:.2f}{PERCENT}".replace("-", formats.MINUS)


def slopes(lower: float | None, upper: float | None) -> str:
    """An interval of slopes: `0.88 % to 1.30 %`."""
    return formats.NOTHING if lower is None or upper is None else f"{slope(lower)} to {slope(upper)}"


def rate(value: float | None) -> str:
    """A share that may be negative, or more than all: `23 %`, `−10 %`."""
    return formats.NOTHING if value is None else f"{value * 100:.0f}{PERCENT}".replace("-", formats.MINUS)


def realised(found: RealisedAgainstClaimed) -> str:
    """How much of what was claimed came true, or why that cannot be said."""
    if found.reason:
        return f"Not estimable. {reason(found.reason)}"
    if found.kappa_unbounded:
        return "Any share of the claim may have come true: what was claimed may as well be nothing."
    if found.kappa is None or found.kappa_lower is None or found.kappa_upper is None:
        return "Not estimable. What was claimed is nothing."
    said = (
        f"{rate(found.kappa)} of what was claimed came true "
        f"(95{PERCENT} interval: {rate(found.kappa_lower)} to {rate(found.kappa_upper)})."
    )
    if found.kappa_lower <= 0:
        said += " Nothing at all is possible."
    if found.kappa_lower <= 1 <= found.kappa_upper:
        said += " All of it is possible."
    return said


def link_sentence(link: LinkEstimate, *, input_name: str, north_star_name: str) -> str:
    """What a move of the input has been worth, or why nobody can say."""
    if link.slope is None:
        return f"Not estimable. {reason(link.reason)}"
    return (
        f"Where experiments moved {input_name} by 1{PERCENT}, {north_star_name} moved by {slope(link.slope)} "
        f"(80{PERCENT} interval: {slopes(link.slope_lower_80, link.slope_upper_80)})."
    )


def usable_sentence(link: LinkEstimate) -> str:
    """Whether the input may stand for the North Star, with the correlation that decides."""
    if link.correlation is None or link.correlation_lower_80 is None or link.correlation_upper_80 is None:
        return ""
    known = (
        f"The correlation of true effects is {link.correlation:.2f} (80{PERCENT} interval: "
        f"{link.correlation_lower_80:.2f} to {link.correlation_upper_80:.2f}); the chance that it is beyond 0.3 is "
        f"{formats.probability(link.chance_correlation)}"
    ).replace("-", formats.MINUS)
    if link.usable:
        return f"{known}: the input may stand for the North Star where the North Star is too noisy."
    return f"{known}, and 90{PERCENT} are needed: whatever the slope, a gain here is no proof of one there."
