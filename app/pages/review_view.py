"""A growth review as its page and its report show it. Pure: documents never change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from math import expm1
from typing import Final

from app.charts.attribution import attribution_chart
from app.charts.forecast import forecast_chart
from app.charts.ledger import claims_chart, parts, waterfall, weeks_chart, whole
from app.charts.theme import Spec
from app.pages import review_words
from app.pages.formats import between, change, day, probability, share
from experiments.result import Check, GrowthReviewResult, LedgerComponent, LedgerLaunchEffect, LedgerLine

TOP_LAUNCHES: Final = 5
MOST_LAUNCHES: Final = 12
_ORDER: Final = {"fail": 0, "warn": 1, "pass": 2}


@dataclass(frozen=True, slots=True)
class Figure:
    """A headline number: what it is, its interval, how it changed since the review before, its method."""

    label: str
    value: str
    note: str
    since: str
    method: str


@dataclass(frozen=True, slots=True)
class ReviewView:
    """`name` is the North Star's. Charts are None where there is nothing to draw; their tables are in the document."""

    document: GrowthReviewResult
    name: str
    compared: str
    answer: str
    figures: Sequence[Figure]
    forecast: Spec | None
    waterfall: Spec | None
    grades: Spec | None
    launches: Spec | None
    outside: Spec | None
    weeks: Spec | None
    claims: Spec | None
    attribution: Spec | None
    whole: Sequence[LedgerLine]
    parts: Sequence[LedgerLine]
    top: Sequence[LedgerLaunchEffect]
    checks: Sequence[Check]


def review_view(document: GrowthReviewResult, *, name: str, names: Mapping[str, str]) -> ReviewView:
    """`names` are those of metrics and series by key."""
    ledger, forecast = document.ledger, document.forecast
    lines = [_named(line, names) for line in ledger.lines if line.key is not None]
    grades = [line for line in lines if (line.key or "").startswith("grade:")]
    of_launches = sorted(
        (line for line in lines if (line.key or "").startswith("launch:")), key=lambda line: -abs(line.units)
    )
    outside = [line for line in lines if line.component == "outside"]
    top = top_launches(ledger.launches)
    shares = document.attribution
    return ReviewView(
        document=document,
        name=name,
        compared=_compared(document),
        answer=review_words.answer(document, name),
        figures=figures(document),
        forecast=forecast_chart(forecast, name=name, unit=document.unit) if len(forecast.weeks) > 1 else None,
        waterfall=waterfall(ledger) if ledger.lines else None,
        grades=parts(grades, unit=ledger.unit) if grades else None,
        launches=parts(of_launches[:MOST_LAUNCHES], unit=ledger.unit) if of_launches else None,
        outside=parts(outside, unit=ledger.unit) if outside else None,
        weeks=weeks_chart(ledger, name=name) if len(ledger.weeks) > 1 else None,
        claims=claims_chart(top) if top else None,
        attribution=attribution_chart(shares, names, unit=document.unit) if shares.parts else None,
        whole=whole(ledger),
        parts=[*grades, *of_launches, *outside],
        top=top,
        checks=sorted(document.checks, key=lambda check: _ORDER[check.status]),
    )


def top_launches(launches: Sequence[LedgerLaunchEffect]) -> list[LedgerLaunchEffect]:
    """Those that moved most of the period; where units are not known, those believed to be largest."""
    ordered = sorted(launches, key=lambda item: (-abs(item.units or 0.0), -abs(item.shrunk)))
    return ordered[:TOP_LAUNCHES]


def figures(document: GrowthReviewResult) -> list[Figure]:
    """The headline: what is known of it, with intervals and what changed since the review before."""
    ledger, numbers, unit = document.ledger, document.headline, document.unit
    lines = {line.component: line for line in ledger.lines if line.key is None}
    before = {number.name: number for number in document.changes}

    def since(name: str) -> str:
        number = before.get(name)
        if number is None or number.before is None:
            return ""
        return f"before: {review_words.headline_number(number.before, number.unit, units=unit, sign=name != 'level')}"

    def of_line(component: LedgerComponent) -> tuple[str, str]:
        line = lines.get(component)
        if line is None:
            return "–", "not estimable"
        return (
            review_words.rounded(line.units, line.lower_80, line.upper_80),
            f"{review_words.I80} {review_words.interval(line.lower_80, line.upper_80)}",
        )

    total = next((item for item in document.programme.totals if item.leads), None)
    found = [
        Figure(
            "Change of the North Star",
            review_words.rounded(ledger.observed_units),
            f"{change(expm1(ledger.observed_log))} on average" if ledger.observed_log is not None else "not estimable",
            since("observed"),
            "F6",
        ),
        Figure("of which launches", *of_line("launches"), since("launches"), "F6"),
        Figure("of which nothing on record", *of_line("base"), since("base"), "F6"),
        Figure(
            "Realised of what was claimed",
            share(round(ledger.kappa, 2)) if ledger.kappa is not None else "–",
            f"{review_words.I80} {share(round(ledger.kappa_lower_80, 2))} to {share(round(ledger.kappa_upper_80, 2))}"
            if ledger.kappa_lower_80 is not None and ledger.kappa_upper_80 is not None
            else "not estimable",
            since("kappa"),
            "F6",
        ),
        Figure(
            "All ships together, corrected",
            change(numbers.get("programme_lift")),
            f"{review_words.I80} {between(total.lower_80, total.upper_80)}" if total else "not estimable",
            since("programme_lift"),
            "F1",
        ),
        Figure(
            "Chance to hit the target",
            probability(document.forecast.chance_with_programme)
            if document.forecast.chance_with_programme is not None
            else probability(document.forecast.chance_to_hit),
            f"{probability(document.forecast.chance_to_hit)} without further launches"
            if document.forecast.chance_to_hit is not None
            else review_words.reason(document.forecast.reason),
            since("chance_with_programme"),
            "F8",
        ),
    ]
    return found


@lru_cache(maxsize=32)
def stored_review_view(result_id: str, body: bytes, name: str, names: tuple[tuple[str, str], ...]) -> ReviewView:
    """The view of a stored document; `result_id` and what it is called are all that it depends on."""
    document = GrowthReviewResult.model_validate_json(body)
    return review_view(document, name=name, names=dict(names))


def _compared(document: GrowthReviewResult) -> str:
    """The weeks that were held against each other; those of the ledger may be fewer than the period has."""
    ledger = document.ledger
    ends = ledger.ends_at - timedelta(days=1), ledger.compared_ends_at - timedelta(days=1)
    return f"{day(ledger.begins_at)} to {day(ends[0])} against {day(ledger.compared_begins_at)} to {day(ends[1])}"


def _named(line: LedgerLine, names: Mapping[str, str]) -> LedgerLine:
    known = names.get(line.key or "") if line.component == "outside" else None
    return line if known is None else line.model_copy(update={"name": known})
