"""What a reader of a ledger must know: its honesty rules as checks, and its story in sentences (METHODS F6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from experiments.evidence.review.data import Compared, Told
from experiments.plan import ReviewPlan
from experiments.result import Check, Ledger, LedgerComponent
from stats.ledger.collapsed import FEWEST_WEEKS, FEWEST_WEEKS_AFTER, UNRELIABLE

_CONFLICT: Final = 0.9
_REFUSALS: Final = {
    "series_too_short": "The weeks that are known are too few to be reconciled with what was launched; claims are only "
    "shrunk.",
    "no_weeks_to_compare": "The period has no known week to be held against; claims are only shrunk.",
    "unreliable_sampling": "The engine could not vouch for its numbers, so none are shown.",
}
_WORDS: Final[tuple[tuple[LedgerComponent, str], ...]] = (
    ("launches", "Launches account for"),
    ("base", "Nothing on record explains"),
    ("season", "The season makes"),
)
_LEARNED_LITTLE: Final = 0.8


def checks(plan: ReviewPlan, told: Told, pairs: Compared, ledger: Ledger) -> list[Check]:
    """Every rule that can be broken, as passed, warned or failed."""
    return [
        _length(plan),
        _pairs(pairs),
        _sampling(ledger),
        _same_week(ledger),
        _influences(told),
        *_holdouts(told),
        _conflict(ledger),
        _contraction(ledger),
        *_backtest(ledger),
        *_wandering(ledger),
    ]


def story(plan: ReviewPlan, ledger: Ledger) -> list[str]:
    """The ledger in a few sentences, each with its interval."""
    return list(_sentences(plan, ledger))


def _length(plan: ReviewPlan) -> Check:
    known = sum(value is not None and value > 0 for value in plan.values)
    first = min((t for each in plan.launches for t, share in enumerate(each.coverage) if share > 0), default=None)
    since = known if first is None else sum(value is not None and value > 0 for value in plan.values[first:])
    enough = known >= FEWEST_WEEKS and (first is None or since >= FEWEST_WEEKS_AFTER)
    after = "" if first is None else f", {since} of them since the first launch"
    return Check(
        name="series_length",
        status="pass" if enough else "fail",
        detail=f"{known} weeks of the North Star are known{after}.",
        remedy=""
        if enough
        else (
            f"A ledger needs {FEWEST_WEEKS} weeks, {FEWEST_WEEKS_AFTER} of them since the first launch: push the "
            "history of the North Star as a series. Until then claims are only shrunk."
        ),
    )


def _pairs(pairs: Compared) -> Check:
    missing = int((~pairs.known).sum())
    if not pairs.known.any():
        return Check(
            name="compared_weeks",
            status="fail",
            detail="No week of the period has a known week to be held against.",
            remedy="Compare with the previous period, or push earlier weeks of the North Star.",
        )
    return Check(
        name="compared_weeks",
        status="warn" if missing else "pass",
        detail=f"{int(pairs.known.sum())} weeks are held against others; {missing} are not known.",
        remedy="Push the values of the missing weeks." if missing else "",
    )


def _sampling(ledger: Ledger) -> Check:
    bad = ledger.reason == UNRELIABLE
    ess = ledger.diagnostics.get("ess")
    worth = "" if ess is None else f" are worth {ess:.0f} independent ones"
    return Check(
        name="sampling",
        status="fail" if bad else "pass",
        detail=f"Draws of the {ledger.engine} engine{worth}.",
        remedy="Make the review with the sampled engine, or with fewer outside influences." if bad else "",
    )


def _same_week(ledger: Ledger) -> Check:
    shared = [each.launch_key for each in ledger.launches if not each.alone_in_its_week]
    return Check(
        name="launches_in_the_same_week",
        status="warn" if shared else "pass",
        detail=f"{len(shared)} launches began in the same week as another: only their experiments tell them apart."
        if shared
        else "Every launch began in a week of its own.",
        remedy=f"Read {', '.join(shared[:5])} together, or roll out a week apart next time." if shared else "",
    )


def _influences(told: Told) -> Check:
    return Check(
        name="outside_influences",
        status="warn" if told.unused else "pass",
        detail=f"{len(told.influences)} outside influences are in the ledger"
        + (f"; {', '.join(told.unused)} is unknown in too many weeks or never changes." if told.unused else "."),
        remedy="Push their missing weeks, or take them off the North Star." if told.unused else "",
    )


def _holdouts(told: Told) -> Iterator[Check]:
    """Holdouts that measured something, and not what the ledger could use."""
    if told.unused_holdouts:
        yield Check(
            name="holdouts_used",
            status="warn",
            detail=f"{', '.join(told.unused_holdouts)} is not used: a check of it fails, it ended before these weeks, "
            "or it was kept from launches that are not in them.",
            remedy="See its checks, and review the period in which its launches began.",
        )


def _conflict(ledger: Ledger) -> Check:
    chance = ledger.chance_kappa_below_half
    conflict = ledger.estimable and chance is not None and chance > _CONFLICT
    return Check(
        name="claims_visible",
        status="warn" if conflict else "pass",
        detail="How much of what was claimed was realised is not known."
        if chance is None
        else f"The chance that less than half of what was claimed was realised is {chance:.2f}.",
        remedy="Claimed lifts are not visible in the North Star: check their topline, and hold some users out."
        if conflict
        else "",
    )


def _contraction(ledger: Ledger) -> Check:
    ratio = ledger.kappa_contraction
    little = ratio is not None and ratio > _LEARNED_LITTLE
    return Check(
        name="series_speaks",
        status="warn" if little else "pass",
        detail="The series was not used, or there is no claim that it could speak about."
        if ratio is None
        else f"The series leaves {ratio:.0%} of the prior's uncertainty about the share of claims that was realised.",
        remedy="A holdout says more than years of the chart." if little else "",
    )


def _backtest(ledger: Ledger) -> Iterator[Check]:
    found = ledger.backtest
    if found is not None:
        yield Check(
            name="backtest",
            status="pass" if found.inside else "warn",
            detail=f"What came in the {found.weeks} weeks after {found.origin.date()} was "
            f"{'inside' if found.inside else 'outside'} the 80 % interval of the ledger of that day.",
            remedy="" if found.inside else "Look for what is not on record: an influence, a launch, an incident.",
        )


def _wandering(ledger: Ledger) -> Iterator[Check]:
    """Whether the launch line hangs on how much the base may wander beforehand (rule iii)."""
    line = next((each for each in ledger.lines if each.component == "launches" and each.key is None), None)
    if line is not None and ledger.alternatives:
        outside = [each.prior for each in ledger.alternatives if not line.lower_80 <= each.units <= line.upper_80]
        yield Check(
            name="prior_of_the_base",
            status="warn" if outside else "pass",
            detail="With the base wandering half or twice as much beforehand, the launch line "
            + ("leaves its 80 % interval." if outside else "stays within its 80 % interval."),
            remedy="Trust the launch line no more than its alternatives agree." if outside else "",
        )


def _sentences(plan: ReviewPlan, ledger: Ledger) -> Iterator[str]:
    unit = f" {plan.unit}" if plan.unit else ""
    if not ledger.estimable:
        yield _REFUSALS.get(ledger.reason or "", "Nothing can be reconciled.")
        return
    assert ledger.observed_units is not None
    yield f"The North Star changed by {_number(ledger.observed_units)}{unit} over the compared weeks."
    lines = {each.component: each for each in ledger.lines if each.key is None}
    for component, words in _WORDS:
        line = lines.get(component)
        if line is not None:
            interval = f"[80 %: {_number(line.lower_80)} to {_number(line.upper_80)}]"
            claimed = "" if line.claimed_units is None else f", against {_number(line.claimed_units)} claimed"
            yield f"{words} {_number(line.units)}{unit} {interval}{claimed}."
    if ledger.kappa is not None:
        yield (
            f"Of what was claimed, {ledger.kappa:.0%} was realised "
            f"[80 %: {ledger.kappa_lower_80:.0%} to {ledger.kappa_upper_80:.0%}]."
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
