"""What each road to moments can do, and why not: one reads rows, the other leaves them where they are.

What a plan asks for and a road cannot do is left out of the result with its reason; it never is a number.
"""

from dataclasses import dataclass
from typing import Final, Literal

type Support = Literal["yes", "no"]

QUANTILE_NOT_COMPILED: Final = "not_compiled"
"""The reason of a quantile metric whose single facts would have to leave the warehouse."""


@dataclass(frozen=True, slots=True)
class Capability:
    """A feature on both roads; `reason` says why the compiled road lacks it, and what it does otherwise."""

    feature: str
    embedded: Support
    compiled: Support
    reason: str = ""


CAPABILITIES: Final = (
    Capability("means, proportions, ratios, surveys, retention, funnels, participation", "yes", "yes"),
    Capability("further covariates, new units without a history", "yes", "yes"),
    Capability("open windows", "yes", "yes", "one statement for each look"),
    Capability("caps: fixed, pooled quantile, quantile before exposure", "yes", "yes"),
    Capability("segments, two-way segments, strata, stages of a ramp", "yes", "yes"),
    Capability("clustered randomisation", "yes", "yes"),
    Capability("triggers, row filters, mapped units", "yes", "yes"),
    Capability("likelihoods of single units", "yes", "yes", "units by value leave the warehouse, not who they are"),
    Capability(
        "hash buckets for the jackknife", "yes", "yes", "buckets are by MD5 there, so its intervals differ a little"
    ),
    Capability("quantiles of units, closed window", "yes", "yes", "units by value leave the warehouse"),
    Capability(
        "quantiles of units, open window or clustered",
        "yes",
        "no",
        "who a value belongs to would have to leave the warehouse; refused as not_compiled",
    ),
    Capability("quantiles of single facts", "yes", "no", "every fact would have to leave; refused as not_compiled"),
    Capability("effects by days since exposure", "yes", "yes", "one statement for each metric that is followed"),
    Capability("effects by days of capped metrics", "yes", "no", "a day of a capped value is no window; left out"),
    Capability("screen of concurrent experiments", "yes", "yes", "those of one place; one more statement"),
    Capability("share of the North Star's company", "yes", "yes", "one statement for each of its sources"),
    Capability(
        "weeks of North Stars, series of launches", "yes", "yes", "totals by period; sources may be in several places"
    ),
    Capability("history of metrics for planning", "yes", "yes", "those of each place; its curve is a second statement"),
    Capability("facts of more than 1e290 in size", "yes", "no", "count as infinite: sums must not overflow"),
)
