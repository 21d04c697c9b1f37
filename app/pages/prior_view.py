"""A learned prior as its page shows it. Pure: documents never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1

from app.charts.numbers import PERCENT
from app.charts.past_effects import MOST_ROWS, bounds, ordered, past_effects_chart
from app.charts.theme import Spec
from app.pages import formats
from app.pages.words import reason
from experiments.result import LearnedPriorResult, LearnedStratum, PastEffectShown


@dataclass(frozen=True, slots=True)
class PastLine:
    """One past effect as lifts with 95 % intervals: as measured (`raw`), and as believed."""

    effect: PastEffectShown
    raw: str
    raw_interval: str
    lift: str
    interval: str


@dataclass(frozen=True, slots=True)
class StratumLine:
    name: str
    stratum: LearnedStratum
    mean: str
    mean_interval: str
    tau: str
    tau_interval: str
    expected: str


@dataclass(frozen=True, slots=True)
class PriorView:
    """`sentence` says what was learned, or why nothing could be; `chart` is None then."""

    document: LearnedPriorResult
    sentence: str
    chart: Spec | None
    summary: str
    strata: Sequence[StratumLine]
    strata_sentence: str
    effects: Sequence[PastLine]


def prior_view(document: LearnedPriorResult, *, metric_name: str) -> PriorView:
    """The population of all experiments first, strata of their own after it."""
    whole = document.strata[0]
    learned = whole.prior_mean is not None
    summary = (
        "Hollow: as measured. Filled: what is believed of it, given all the others. Dashed: the centre of all. "
        "Above: where the true effect of the next experiment may lie, which is its prior."
    )
    if len(document.effects) > MOST_ROWS:
        summary += f" The {MOST_ROWS // 2} largest and the {MOST_ROWS // 2} smallest of {len(document.effects)}."
    return PriorView(
        document=document,
        sentence=population_sentence(whole, metric_name),
        chart=past_effects_chart(document.effects, whole, {}, metric_name=metric_name) if learned else None,
        summary=summary,
        strata=[_stratum(item) for item in document.strata],
        strata_sentence=_strata_sentence(document),
        effects=[_line(item) for item in ordered(document.effects)],
    )


def population_sentence(stratum: LearnedStratum, metric_name: str) -> str:
    """Where true effects lie, and what that makes of the next experiment before it has data."""
    if stratum.mean is None or stratum.tau is None or stratum.prior_mean is None or stratum.prior_scale is None:
        return f"Nothing was learned. {reason(stratum.reason)}"
    centre = formats.change(expm1(stratum.mean.mean))
    return (
        f"True effects on {metric_name} lie around {centre} and differ by about {formats.spread(stratum.tau.mean)} "
        f"(standard deviation). Before it has any data, the next experiment is expected to bring {_expected(stratum)}."
    )


def _expected(stratum: LearnedStratum) -> str:
    if stratum.prior_mean is None or stratum.prior_scale is None:
        return formats.NOTHING
    ends = (stratum.prior_mean + sign * 2 * stratum.prior_scale for sign in (-1, 1))
    low, high = (formats.change(expm1(end)) for end in ends)
    return f"{low} to {high}"


def _stratum(item: LearnedStratum) -> StratumLine:
    mean, tau = item.mean, item.tau
    return StratumLine(
        name=item.stratum or "All experiments",
        stratum=item,
        mean=formats.change(expm1(mean.mean)) if mean else formats.NOTHING,
        mean_interval=formats.between(expm1(mean.lower), expm1(mean.upper)) if mean else formats.NOTHING,
        tau=formats.spread(tau.mean) if tau else formats.NOTHING,
        tau_interval=f"{_plain(tau.lower)} to {_plain(tau.upper)}" if tau else formats.NOTHING,
        expected=_expected(item),
    )


def _plain(spread: float) -> str:
    return f"{spread * 100:.1f}{PERCENT}"


def _strata_sentence(document: LearnedPriorResult) -> str:
    if document.chance_strata_differ is None:
        return "Effects of all teams are taken together: fewer than two teams have 8 experiments each."
    chance = formats.probability(document.chance_strata_differ)
    if document.stratified:
        return f"Teams differ (chance {chance}): a new experiment takes the prior of its own team."
    return f"Teams are taken together: the chance that their effects differ much is {chance}."


def _line(item: PastEffectShown) -> PastLine:
    raw, raw_lower, raw_upper = bounds(item.log_lift, item.standard_error)
    lift, lower, upper = bounds(item.shrunk_log_lift, item.shrunk_sd)
    return PastLine(
        effect=item,
        raw=formats.change(raw),
        raw_interval=formats.between(raw_lower, raw_upper),
        lift=formats.change(lift),
        interval=formats.between(lower, upper),
    )
