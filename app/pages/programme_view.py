"""A programme as its page shows it. Pure: documents never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import expm1
from typing import Final

from app.charts.interval_rows import IntervalRow, interval_rows
from app.charts.numbers import PERCENT
from app.charts.programme import MOST_ROWS, cumulative_chart, effects_forest, wins_chart
from app.charts.pulled import in_words
from app.charts.theme import Spec
from app.pages import formats, programme_words
from experiments.result import (
    Check,
    ProgrammeResult,
    RealisedAgainstClaimed,
    ShrunkEffect,
    TotalEstimate,
)

_Z_80: Final = 1.2815515655446004
_Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class EffectLine:
    """One experiment in the table, as lifts: claimed with a 95 % interval, believed with both."""

    effect: ShrunkEffect
    claimed: str
    claimed_interval: str
    believed: str
    interval_80: str
    interval_95: str


@dataclass(frozen=True, slots=True)
class EffectGroup:
    """Experiments that shipped, or that did not; `chart` is None where there are none."""

    key: str
    title: str
    chart: Spec | None
    summary: str
    lines: Sequence[EffectLine]


@dataclass(frozen=True, slots=True)
class HoldoutLine:
    """A holdout against its launches; `chart` is None where neither side has a number."""

    holdout: RealisedAgainstClaimed
    sentence: str
    chart: Spec | None
    troubled: Sequence[Check]
    passed: Sequence[Check]


@dataclass(frozen=True, slots=True)
class ProgrammeView:
    """`sentence` is the answer or why there is none; charts are None where there is nothing to draw."""

    document: ProgrammeResult
    sentence: str
    lead: TotalEstimate | None
    claimed: TotalEstimate | None
    wins_sentence: str
    population_sentence: str
    completeness_sentence: str
    unexplained_missing: int
    cumulative: Spec | None
    totals: Spec | None
    wins: Spec | None
    groups: Sequence[EffectGroup]
    holdouts: Sequence[HoldoutLine]
    troubled: Sequence[Check]
    passed: Sequence[Check]


@lru_cache(maxsize=16)
def stored_programme_view(body: bytes) -> ProgrammeView:
    """The view of a document as it was stored."""
    return programme_view(ProgrammeResult.model_validate_json(body))


def programme_view(document: ProgrammeResult) -> ProgrammeView:
    """The total first, then how it came about, then what it can be trusted with."""
    lead = next((each for each in document.totals if each.leads), None)
    claimed = next((each for each in document.totals if each.method == "naive_sum"), None)
    name = document.metric_name
    checks = [document.completeness.check, *document.checks]
    return ProgrammeView(
        document=document,
        sentence=_sentence(document, lead, claimed),
        lead=lead,
        claimed=claimed,
        wins_sentence=_wins(document),
        population_sentence=_population(document),
        completeness_sentence=_completeness(document),
        unexplained_missing=max(
            0, document.completeness.started - document.completeness.analysed - len(document.completeness.missing)
        ),
        cumulative=cumulative_chart(document.cumulative, document.data_as_of, metric_name=name)
        if len(document.cumulative) > 1
        else None,
        totals=_totals_chart(document) if document.totals else None,
        wins=wins_chart(document.effects, wins=document.wins_for_80 or 0, metric_name=name)
        if any(each.share_of_total is not None for each in document.effects)
        else None,
        groups=[group for group in (_group(document, shipped=True), _group(document, shipped=False)) if group.lines],
        holdouts=[holdout_line(each) for each in document.holdouts],
        troubled=[each for each in checks if each.status != "pass"],
        passed=[each for each in checks if each.status == "pass"],
    )


def holdout_line(found: RealisedAgainstClaimed) -> HoldoutLine:
    """What was realised beside what was claimed, with 80 and 95 % intervals."""
    sides = (
        ("Claimed by its launches", found.claimed, found.claimed_sd, False),
        ("Realised, by the holdout", found.realised, found.realised_standard_error, True),
    )
    known = [(label, mean, sd, leads) for label, mean, sd, leads in sides if mean is not None and sd is not None]
    rows = [
        IntervalRow(
            label=label,
            numbers=in_words(expm1(mean), expm1(mean - _Z_80 * sd), expm1(mean + _Z_80 * sd)),
            lift=expm1(mean),
            inner=(expm1(mean - _Z_80 * sd), expm1(mean + _Z_80 * sd)),
            outer=(expm1(mean - _Z_95 * sd), expm1(mean + _Z_95 * sd)),
            leads=leads,
        )
        for label, mean, sd, leads in known
    ]
    return HoldoutLine(
        holdout=found,
        sentence=programme_words.realised(found),
        chart=interval_rows(rows, description=f"{found.name}: claimed and realised") if rows else None,
        troubled=[each for each in found.checks if each.status != "pass"],
        passed=[each for each in found.checks if each.status == "pass"],
    )


def _sentence(document: ProgrammeResult, lead: TotalEstimate | None, claimed: TotalEstimate | None) -> str:
    if not document.estimable or lead is None or claimed is None:
        return f"Not estimable. {programme_words.reason(document.reason)}"
    said = (
        f"What shipped is believed to have moved {document.metric_name} by {formats.change(lead.lift)} in total "
        f"(80{PERCENT} interval: {formats.between(lead.lower_80, lead.upper_80)})."
    )
    return f"{said} The experiments themselves had claimed {formats.change(claimed.lift)}."


def _wins(document: ProgrammeResult) -> str:
    wins = document.wins_for_80
    if wins is None:
        return "The total is not a gain, so there are no few that make most of it."
    of = formats.plural(document.shipped, "shipped experiment")
    if wins == 1:
        return f"A single win makes 80{PERCENT} of the total, of {of}."
    return f"{wins} wins make 80{PERCENT} of the total, of {of}."


def _population(document: ProgrammeResult) -> str:
    if document.mean is None or document.tau is None:
        if not document.selection_corrected_by_assumption:
            return ""
        return "Effects are corrected one by one, under an assumed spread: losers are not on record."
    mean, tau = document.mean, document.tau
    return (
        f"True effects of all experiments lie around {formats.change(expm1(mean.mean))} "
        f"({formats.between(expm1(mean.lower), expm1(mean.upper))}) and differ by {formats.spread(tau.mean)} "
        f"({formats.spread(tau.lower)} to {formats.spread(tau.upper)}; a standard deviation)."
    )


def _completeness(document: ProgrammeResult) -> str:
    found = document.completeness
    return f"{found.analysed} of {formats.plural(found.started, 'experiment')} that ran and ended are counted."


def _totals_chart(document: ProgrammeResult) -> Spec:
    rows = [
        IntervalRow(
            label=programme_words.TOTALS[each.method],
            numbers=in_words(each.lift, each.lower_80, each.upper_80),
            lift=each.lift,
            inner=_ends(each.lower_80, each.upper_80),
            outer=_ends(each.lower_95, each.upper_95),
            leads=each.leads,
        )
        for each in document.totals
    ]
    return interval_rows(
        rows, description=f"{document.metric_name}: total of what shipped, by {len(rows)} methods", axis_title="Total"
    )


def _ends(lower: float | None, upper: float | None) -> tuple[float, float] | None:
    return None if lower is None or upper is None else (lower, upper)


def _group(document: ProgrammeResult, *, shipped: bool) -> EffectGroup:
    inside = [each for each in document.effects if each.shipped == shipped]
    mean = None if document.mean is None else document.mean.mean
    said = "shipped" if shipped else "did not ship"
    summary = (
        f"Hollow: claimed. Filled, with its 80{PERCENT} interval: believed, given all the others. "
        "Dashed: the centre of all experiments."
    )
    if len(inside) > MOST_ROWS:
        summary += f" The {MOST_ROWS} of {len(inside)} that are farthest from nothing."
    return EffectGroup(
        key="shipped" if shipped else "other",
        title=f"{'Shipped' if shipped else 'Not shipped'} ({len(inside)})",
        chart=effects_forest(
            inside, mean=mean, description=f"{document.metric_name}: experiments that {said}, claimed and believed"
        )
        if inside
        else None,
        summary=summary,
        lines=[_line(each) for each in sorted(inside, key=lambda each: -each.shrunk)],
    )


def _line(effect: ShrunkEffect) -> EffectLine:
    reach = _Z_95 * effect.claimed_standard_error
    lower_80, upper_80, lower_95, upper_95 = (
        expm1(end)
        for end in (effect.shrunk_lower_80, effect.shrunk_upper_80, effect.shrunk_lower_95, effect.shrunk_upper_95)
    )
    return EffectLine(
        effect=effect,
        claimed=formats.change(expm1(effect.claimed)),
        claimed_interval=formats.between(expm1(effect.claimed - reach), expm1(effect.claimed + reach)),
        believed=formats.change(expm1(effect.shrunk)),
        interval_80=formats.between(lower_80, upper_80),
        interval_95=formats.between(lower_95, upper_95),
    )
