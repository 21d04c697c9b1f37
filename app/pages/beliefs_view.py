"""What to believe of each comparison: the posterior, what being wrong costs, what more data are worth, and how much of

it all comes from the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1
from typing import Final

from app.charts.chances import best_of_many
from app.charts.forest import ROLES
from app.charts.losses import loss_over_time, loss_values
from app.charts.posterior import posterior
from app.charts.sensitivity import sensitivity_forest
from app.charts.theme import Spec
from app.charts.waiting import waiting_chart
from app.pages import formats
from app.pages.engines_view import small_share
from app.pages.naming import Names
from app.pages.over_time_view import FEW_LOOKS, MAX_COMPARISONS
from app.pages.words import reason
from experiments.result import (
    BestVariant,
    Density,
    ExperimentResult,
    Look,
    PriorSensitivity,
    PriorUse,
    Row,
    WaitingValue,
)

PRIORS: Final = {
    "as planned": "As planned",
    "half as wide": "Half as wide",
    "twice as wide": "Twice as wide",
    "fat tails": "Same width, fat tails",
    "default": "The default prior",
    "no prior": "No prior at all",
}
_SHAPES: Final = {"normal": "normal", "student_t4": "with fat tails"}


@dataclass(frozen=True, slots=True)
class Belief:
    """One metric and arm; pictures are None where there is nothing to draw.

    `accepted` is the largest loss that the plan accepts, in lift of this metric; `horizon` how long a change counts.
    """

    name: str
    row: Row
    density: Spec | None
    rope: float | None
    prior: PriorUse | None
    prior_sentence: str
    losses: Spec | None
    looks: Sequence[Look]
    accepted: float | None
    waiting: WaitingValue | None
    waiting_chart: Spec | None
    waiting_sentence: str
    sensitivity: PriorSensitivity | None
    sensitivity_chart: Spec | None


@dataclass(frozen=True, slots=True)
class Best:
    """All arms of one metric: which is best, and what choosing each would lose."""

    name: str
    arms: Sequence[BestVariant]
    chart: Spec
    sentence: str


@dataclass(frozen=True, slots=True)
class Beliefs:
    comparisons: Sequence[Belief]
    best: Sequence[Best]

    @property
    def empty(self) -> bool:
        return not (self.comparisons or self.best)


def beliefs(document: ExperimentResult, ordered: Sequence[Row], names: Names, rope: float = 0.0) -> Beliefs:
    """Of comparisons that have any, in the order of roles; `rope` is the plan's half-width on the log lift."""
    densities: dict[tuple[str, str], Density] = {(d.metric_key, d.variant_key): d for d in document.densities}
    waiting = {(item.metric_key, item.variant_key): item for item in document.waiting}
    sensitivity = {(item.metric_key, item.variant_key): item for item in document.prior_sensitivity}
    priors = {item.metric_key: item for item in document.priors}
    found: list[Belief] = []
    for row in sorted((row for row in ordered if row.role != "monitor"), key=lambda row: ROLES.index(row.role)):
        key = (row.metric_key, row.variant_key)
        density, wait, other = densities.get(key), waiting.get(key), sensitivity.get(key)
        if density is None and other is None and (wait is None or not wait.curve):
            continue
        looks = [look for look in document.looks if (look.metric_key, look.variant_key) == key]
        prior, accepted = priors.get(row.metric_key), accepted_loss(document, *key)
        drawn = loss_values(looks) if row.role == "primary" else []
        found.append(
            Belief(
                name=names.comparison(*key),
                row=row,
                density=_density(density, row, prior, rope) if density else None,
                rope=expm1(rope) if rope else None,
                prior=prior,
                prior_sentence=prior_sentence(prior, row.prior_source),
                losses=loss_over_time(looks, threshold=accepted, metric_name=row.metric_name)
                if len(drawn) >= FEW_LOOKS
                else None,
                looks=[look for look in looks if look.expected_loss is not None],
                accepted=accepted,
                waiting=wait,
                waiting_chart=waiting_chart(wait, metric_name=row.metric_name) if wait and wait.curve else None,
                waiting_sentence=waiting_sentence(wait) if wait else "",
                sensitivity=other,
                sensitivity_chart=sensitivity_forest(other, PRIORS, metric_name=row.metric_name)
                if other and any(item.hdi_lower is not None for item in other.alternatives)
                else None,
            )
        )
    return Beliefs(found[:MAX_COMPARISONS], _best(document, names))


def _density(density: Density, row: Row, prior: PriorUse | None, rope: float) -> Spec:
    interval = None
    if row.hdi_lower is not None and row.posterior_lift is not None and row.hdi_upper is not None:
        interval = (row.hdi_lower, row.posterior_lift, row.hdi_upper)
    return posterior(
        density,
        direction=row.direction,
        metric_name=row.metric_name,
        interval=interval,
        rope=(expm1(-rope), expm1(rope)) if rope else None,
        prior=(prior is None or prior.family != "flat") and any(density.prior),
    )


def accepted_loss(document: ExperimentResult, metric_key: str, variant_key: str) -> float | None:
    """The plan's largest acceptable loss as a loss of this metric: losses of the North Star come through its link."""
    limits = [item.loss_threshold for item in document.decisions if item.loss_threshold is not None]
    if not limits:
        return None
    for effect in document.north_star:
        if effect.variant_key != variant_key or effect.metric_key == metric_key:
            continue
        for item in effect.inputs:
            if item.metric_key == metric_key and item.edge == "definitional" and item.elasticity:
                return limits[0] / abs(item.elasticity)
    return limits[0]


def prior_sentence(prior: PriorUse | None, source: str | None = None) -> str:
    """What was believed before the data, and why; the link to a learned prior is the page's."""
    if prior is None:
        return f"Prior: {source}." if source else ""
    if prior.family == "flat":
        return "No prior: every effect was as likely as any other, and the data alone speak."
    low, high = (formats.change(expm1(prior.mean + sign * 2 * prior.scale)) for sign in (-1, 1))
    width = f"has most true effects within {low} to {high}."
    if prior.family == "learned":
        return f"The prior, learned from {formats.plural(prior.experiments or 0, 'past experiment')}, {width}"
    origin = "The default prior" if prior.source.startswith("default") else "The plan's prior"
    return f"{origin} ({_SHAPES[prior.family]}) {width}"


def waiting_sentence(wait: WaitingValue) -> str:
    """Whether more data are worth their days, in a sentence or two."""
    if wait.days_worth_waiting is None:
        return f"What more data are worth cannot be said. {reason(wait.reason)}"
    if wait.days_worth_waiting > 0:
        gain = days_of(wait.net_gain or 0.0)
        days = formats.plural(round(wait.days_worth_waiting), "day")
        said = f"Testing {days} more is expected to gain {gain} of the metric over deciding now."
    else:
        said = "Deciding now is expected to be best: more data would cost more than they could change."
    return said + (f" {reason(wait.reason)}" if wait.reason else "")


def days_of(value: float) -> str:
    """A gain in days of a metric: `1.3 days' worth`."""
    return f"{formats.number(value, 2)} days’ worth"


def _best(document: ExperimentResult, names: Names) -> list[Best]:
    found = []
    for metric_key in dict.fromkeys(arm.metric_key for arm in document.best_variants):
        arms = [arm for arm in document.best_variants if arm.metric_key == metric_key]
        if len(arms) < 2:
            continue
        likeliest, cheapest = (
            max(arms, key=lambda arm: arm.chance_to_be_best),
            min(arms, key=lambda arm: arm.expected_loss),
        )
        said = f"{names.variant(likeliest.variant_key)} is the best with a chance of "
        said += f"{formats.probability(likeliest.chance_to_be_best)}. "
        if cheapest is likeliest:
            said += f"Choosing it loses {small_share(likeliest.expected_loss)} on average, the least of all."
        else:
            said += (
                f"Choosing {names.variant(cheapest.variant_key)} loses least on average, "
                f"{small_share(cheapest.expected_loss)}: where it is not the best, it is not far behind."
            )
        found.append(
            Best(
                name=names.metric(metric_key),
                arms=arms,
                chart=best_of_many(arms, names.variants, metric_name=names.metric(metric_key)),
                sentence=said,
            )
        )
    return found
