"""What the models of the library are, in sentences for people who did not write them (METHODS C2, C4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LIKELIHOODS: Final = {
    "beta_binomial": (
        "Who converts",
        "Each unit converts or not, and each arm has its own rate: conversions are counted, not approximated, which "
        "matters where they are few.",
    ),
    "gamma_poisson": (
        "Rare events, counted",
        "Events come at a rate that is the same for all units of an arm; counts are Poisson.",
    ),
    "negative_binomial": (
        "Events of units that differ",
        "Each unit has events at its own rate, some many more than others; the spread is estimated from the counts.",
    ),
    "hurdle_lognormal": (
        "Who buys, and for how much",
        "A unit buys or not; what a buyer spends is lognormal. The lift is that of buying times that of the amount.",
    ),
    "student_t": (
        "Values with heavy tails",
        "Values lie symmetrically around a centre, with far ones likelier than under a normal: single extremes say "
        "less.",
    ),
}
"""By model: a title and a sentence. They describe the units of one metric, all arms at once."""

FAMILIES: Final = {
    "arms": (
        "All variants together",
        "Variants of one experiment are alike: each is pulled towards the rest by as much as its data are weak, which "
        "takes the luck out of the best of many.",
    ),
    "metrics": (
        "All metrics together",
        "A variant that helps tends to help several metrics: each metric's effect hears what the others say, with "
        "how their errors move together.",
    ),
    "replications": (
        "Replications together",
        "Experiments on the same hypothesis share an effect and differ around it: what all of them say, and what a "
        "further one would find.",
    ),
}
"""By purpose, for models of exchangeable effects."""

STATISTICS: Final = {
    "conversions": "Conversions",
    "events": "Events",
    "variance over mean": "Variance over mean",
    "share of zeros": "Share of units without any",
    "variance": "Variance between units",
    "arithmetic_mean": "Mean of the amounts",
    "percentile_99": "99 % point",
    "quantile_skewness": "Skewness",
    "largest_standardised_residual": "Largest outlier, in standard errors",
}
METHODS: Final = {"nuts": "by sampling (NUTS)", "grid": "on a grid", "closed_form": "in closed form"}
MATTERS: Final = 0.05
"""Above this the posterior moves with the prior (power scaling)."""

_PARAMETERS: Final = {
    "mean": ("Common effect", "lift"),
    "between": ("Spread between effects", "spread"),
    "tau": ("Spread between effects", "spread"),
    "next": ("Effect of a further replication", "lift"),
    "next_same_sign": ("Chance that a further one points the same way", "chance"),
    "common": ("Share of effects that is common", "chance"),
    "sigma": ("Spread of log amounts", "number"),
    "rate_lift": ("Lift of who buys", "lift"),
    "order_lift": ("Lift of the amount", "lift"),
    "dispersion": ("How alike units are (dispersion)", "number"),
    "nu": ("Weight of the tails (degrees of freedom)", "number"),
    "scale": ("Spread around the centre", "number"),
    "mean_minus_location": ("Mean beyond the centre", "number"),
}
_STANDARDISED: Final = {
    "mean": ("Common effect, in units of each metric's prior", "number"),
    "between": ("Spread between metrics, in the same units", "number"),
}
_OF_ARM: Final = re.compile(r"(\w+)\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class ParameterWords:
    """A hyper-parameter's name for people and how its numbers are written: `lift`, `spread`, `chance`, `number`."""

    name: str
    kind: str


def parameter_words(name: str, purpose: str, arms: Mapping[int, str]) -> ParameterWords:
    """`rate_lift[1]` of the second arm is `Lift of who buys, One page`; unknown names stay, readable."""
    indexed = _OF_ARM.fullmatch(name)
    key = indexed[1] if indexed else name
    known = _STANDARDISED if purpose == "metrics" and key in _STANDARDISED else _PARAMETERS
    title, kind = known.get(key, (key.replace("_", " ").capitalize(), "number"))
    if indexed:
        title += f", {arms.get(int(indexed[2]), indexed[2])}"
    return ParameterWords(title, kind)


def statistic_words(name: str) -> str:
    """What a predictive check looks at."""
    return STATISTICS.get(name, name.replace("_", " ").capitalize())
