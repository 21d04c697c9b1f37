"""Companies whose truth is known, two years and sixty experiments each, and what every screen says of them.

Each is drawn anew by the generator behind the demo (`stats.company.listening`): t4 effects of which eight tenths become
real once everybody has the change (with a scatter of 0.2 %), a third of the launches lose half of their effect within
weeks, six launches that nobody measured, an outage, a dispute, a holdout of one in twenty for half a year. Northlift is
told what the registry would tell it; that service sends summaries, without days of exposure or facts of its own, so
that persistence and projections are not on its screens: they are in the next study. A screen passes if its 80 %
intervals hold the truth in 80 % of companies; "≥" stands where more is allowed: companies are all drawn with the same
scales (noise, wandering, realisation), which the ledger's priors hold for uncertain, so that it may say less than it
could. Where a company has several intervals, the tolerance is three standard errors over companies, not over intervals.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np

from experiments.definitions import ReviewSpec
from experiments.evidence.attribution import WeeksOfTree, attribution
from experiments.evidence.programme import programme_result
from experiments.evidence.review.data import compared, told
from experiments.plan import ReviewPlan
from stats.company.listening import Listening, generate
from stats.company.listening.launches import KAPPA
from stats.company.listening.story import PEEKED, PLACE, WEEKS
from stats.ledger import backtest, collapsed, lines
from stats.ledger.contract import COMPONENTS, Array, LedgerFit
from stats.ledger.forecast import Forecast, forecast
from tests.listening_plans import programme_plan, review_plan
from tests.validation.cells import Cell, Rule

SEED = 20401
COMPANIES = 80
ENDS = date(2026, 5, 27)
LEVEL = 0.8
Z80, Z95 = 1.2815515655446004, 1.959963984540054
SLACK = 0.02
"""Truths that no model knows exactly: pairs in each other's way, one effect of a gamed input, persistence in weeks."""
CONTRASTS = {"a year earlier": "year_earlier", "the quarter before": "previous_period"}
HORIZONS = (1, 4, 13, 26)
GROWTHS = (0.96, 1.0, 1.03, 1.06, 1.1)
TOP = 5
_NO_PROMISE = ("claimed", "top: claimed", "top: fades", "top: lasts")
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
EFFECTS, LEDGER, AHEAD, EXACT = "Screens: effects", "Screens: the ledger", "Screens: what lies ahead", "Screens: sums"


@dataclass(frozen=True, slots=True)
class Said:
    """One interval of a screen beside the truth. Where a screen says a chance, `value`, the truth is 0 or 1."""

    truth: float
    value: float
    lower: float
    upper: float

    @property
    def held(self) -> bool:
        return self.lower <= self.truth <= self.upper


type Company = dict[str, list[Said]]


def measured(part: float = 1.0) -> list[Cell]:
    """Experiments, programme, holdout. The topline of every experiment that ended and can be trusted (of one of a pair,
    what it does beside the other's test); what is believed of it once all others are known, also for the shipped alone,
    which were chosen for large estimates; the programme's total; the holdout, and the rate of realised to claimed with
    Fieller's interval (95 %). The naive sum of what shipped is there to see what selection does.
    """
    found = [_measured(company_of(seed)) for seed in _seeds(part)]
    return [
        *_cells(EFFECTS, "topline of an experiment", found, "topline", slack=0.005),
        *_cells(EFFECTS, "topline of the peeker", found, "peeked", "report"),
        *_cells(EFFECTS, "an effect, shrunk", found, "shrunk"),
        *_cells(EFFECTS, "an effect that shipped, shrunk", found, "shipped", "at_least"),
        *_cells(EFFECTS, "an effect that shipped, as measured", found, "shipped as measured", "report"),
        *_cells(EFFECTS, "programme total", found, "total"),
        *_cells(EFFECTS, "programme total, naive sum", found, "naive total", "report"),
        *_cells(EFFECTS, "holdout", found, "holdout", slack=0.005),
        *_cells(EFFECTS, "holdout: realised to claimed, 95 %", found, "rate", "at_least", level=0.95),
    ]


def reconciled(part: float = 1.0) -> list[Cell]:
    """The ledger of the last quarter, against a year earlier and against the quarter before: every component in hours,
    the share that was realised (kappa), and of the five launches that claimed most what they became in the ledger, at
    full coverage and in hours. One persistence is learned for all launches that did not measure their own: hours of
    those that lose half of their effect are held a little less often, those of the others more. "backtest" is the sum
    of the last 13 weeks as foreseen by the ledger of the day before.
    """
    found = [_ledger(seed)[0] for seed in _seeds(part)]
    cells = []
    for name in CONTRASTS:
        for component in COMPONENTS:
            cells += _cells(LEDGER, f"{component}, against {name}", found, f"{name}: {component}", "at_least")
    for what, key in (
        ("kappa", "kappa"),
        ("all launches, last quarter", "launched"),
        ("all launches, as claimed", "claimed"),
        ("a top launch, shrunk", "top: shrunk"),
        ("a top launch at full coverage", "top: realised"),
        ("a top launch in hours against a year earlier", "top: units"),
        ("the same, of those that lose half of their effect", "top: fades"),
        ("the same, of those that lose nothing", "top: lasts"),
        ("a top launch, as claimed", "top: claimed"),
        ("backtest of 13 weeks", "backtest"),
    ):
        cells += _cells(LEDGER, what, found, key, "report" if key in _NO_PROMISE else "at_least")
    return cells


def ahead(part: float = 1.0) -> list[Cell]:
    """Forecasts from the last week on, without another launch, 1 to 26 weeks ahead; what came includes campaigns, which
    forecasts hold at their mean. The chance to hit a target: five targets from 0.96 to 1.1 times the last four weeks,
    13 and 26 weeks ahead, by what the screen says of them; as many must be hit.
    """
    found = [_ledger(seed)[1] for seed in _seeds(part)]
    cells = []
    for week in HORIZONS:
        cells += _cells(AHEAD, f"forecast, {week} week{'s' * (week > 1)} ahead", found, f"week {week}", "at_least")
    for low, high in itertools.pairwise(BINS):
        cells += _hits(found, low, high)
    return cells


def sums(part: float = 1.0) -> list[Cell]:
    """What must hold exactly: components of the ledger add up to the observed change in every draw; inputs account for
    all of it and each for its logarithmic mean (METHODS E3); numbers are relative to the North Star.
    """
    gaps = np.array([(_ledger(seed)[2], *_gaps(company_of(seed))) for seed in _seeds(part)])
    quantities = ("ledger: components add up", "attribution: inputs add up", "attribution: each input is its own")
    return [
        Cell(EXACT, {"screen": name}, "largest gap", float(gap), 0.0, len(gaps), "at_most", within=tolerance)
        for name, gap, tolerance in zip(quantities, gaps.max(axis=0), (1e-9, 1e-12, 1e-12), strict=True)
    ]


def _seeds(part: float) -> range:
    return range(SEED, SEED + max(2, round(COMPANIES * part)))


@functools.cache
def company_of(seed: int) -> Listening:
    """The same company for every screen."""
    return generate(ENDS, seed=seed)


def _plan(company: Listening, contrast: str) -> ReviewPlan:
    plan = review_plan(company)
    spec = ReviewSpec.model_validate({**plan.review.model_dump(), "compare_with": CONTRASTS[contrast]})
    return plan.model_copy(update={"review": spec})


def _measured(company: Listening) -> Company:
    truth = company.truth
    tried, launched = truth.trials, truth.launches
    plan = programme_plan(company)
    result = programme_result(plan, analysis_id="", data_as_of=company.ended_at, code_version="")
    found: Company = {}
    for effect, believed in zip(plan.effects, result.effects, strict=True):
        k = PLACE[effect.experiment_key]
        assert effect.topline_log_lift is not None and effect.topline_standard_error is not None
        true, value = float(tried.true_topline[k]), effect.topline_log_lift
        half = Z80 * effect.topline_standard_error
        plain = Said(true, value, value - half, value + half)
        found.setdefault("peeked" if effect.experiment_key == PEEKED else "topline", []).append(plain)
        shrunk = Said(true, believed.shrunk, believed.shrunk_lower_80, believed.shrunk_upper_80)
        found.setdefault("shrunk", []).append(shrunk)
        if effect.shipped:
            found.setdefault("shipped", []).append(shrunk)
            found.setdefault("shipped as measured", []).append(plain)
    totals = {total.method: total for total in result.totals}
    for name, method in (("total", "full_bayes"), ("naive total", "naive_sum")):
        total = totals[method]  # type: ignore[index]  # names of methods are literals
        assert total.lower_80 is not None and total.upper_80 is not None
        found[name] = [Said(float(np.expm1(truth.programme)), total.lift, total.lower_80, total.upper_80)]
    held = truth.holdout
    half = Z80 * held.standard_error
    found["holdout"] = [Said(held.true_log_lift, held.log_lift, held.log_lift - half, held.log_lift + half)]
    (rate,) = result.holdouts
    if rate.kappa is not None and rate.kappa_lower is not None and rate.kappa_upper is not None:
        claimed = float(launched.effect[launched.held_out & (launched.source >= 0)].sum())
        found["rate"] = [Said(held.true_log_lift / claimed, rate.kappa, rate.kappa_lower, rate.kappa_upper)]
    return found


@functools.cache
def _ledger(seed: int) -> tuple[Company, Company, float]:
    """What the ledger and its forecasts say of a company, and by how much the ledger's components miss the change.

    One fit serves all screens; it is too large to be kept.
    """
    company = company_of(seed)
    given = told(review_plan(company))
    fit = collapsed.fit(given.data, given.priors, seed=seed, draws=1000)
    assert not fit.reason, fit.reason
    ledger, gap = _lines(company, fit)
    past = backtest.backtest(given.data, given.priors, seed=seed, draws=600)
    if not past.reason:
        ledger["backtest"] = [Said(past.observed, past.predicted, past.lower, past.upper)]
    return ledger, _forecasts(company, forecast(fit, max(HORIZONS), seed=seed)), gap


def _lines(company: Listening, fit: LedgerFit) -> tuple[Company, float]:
    seen, launched = company.truth.weeks, company.truth.launches
    parts = {
        "launches": seen.launched.sum(axis=1),
        "season": seen.season,
        "outside": seen.outside.sum(axis=1),
        "base": seen.base,
        "noise": seen.noise,
    }
    assert fit.data is not None
    source, estimate = fit.data.source, fit.data.estimate
    known = source >= 0
    top = np.flatnonzero(known)[np.argsort(-estimate[source[known]])[:TOP]]
    found: Company = {"kappa": [_said(KAPPA, fit.scalars["kappa"])]}
    gap = 0.0
    for name in CONTRASTS:
        pairs = compared(_plan(company, name))
        change = lines.contrast(fit, pairs.after, pairs.before)
        worth = lines.logarithmic_mean(seen.hours[pairs.after], seen.hours[pairs.before])
        for component in COMPONENTS:
            true = worth @ (parts[component][pairs.after] - parts[component][pairs.before])
            found[f"{name}: {component}"] = [_said(float(true), change.units[component])]
        whole = np.sum([change.units[component] for component in COMPONENTS], axis=0)
        gap = max(gap, float(np.abs(whole - change.observed_units).max() / seen.hours[pairs.after].sum()))
        if name == "a year earlier":
            moved = worth @ (seen.launched[pairs.after] - seen.launched[pairs.before])
            for j in top:
                said = _said(float(moved[j]), change.launches_units[:, j])
                found.setdefault("top: units", []).append(said)
                found.setdefault("top: fades" if launched.remaining[j] < 1 else "top: lasts", []).append(said)
    quarter = slice(WEEKS - 13, WEEKS)
    total = np.einsum("stj,sj->s", fit.path[:, quarter], fit.theta) / 13
    added = float(seen.launched[quarter].sum(axis=1).mean())
    found["launched"] = [_said(added, total)]
    weight = fit.data.coverage[quarter].mean(axis=0)
    claimed = float(weight[known] @ estimate[source[known]])
    half = Z80 * float(np.sqrt(weight[known] ** 2 @ fit.data.error[source[known]] ** 2))
    found["claimed"] = [Said(added, claimed, claimed - half, claimed + half)]
    found["top: realised"] = [_said(float(launched.theta[j]), fit.theta[:, j]) for j in top]
    found["top: shrunk"] = [_said(float(launched.effect[j]), fit.delta[:, source[j]]) for j in top]
    found["top: claimed"] = [
        Said(float(launched.theta[j]), float(at), float(at - Z80 * error), float(at + Z80 * error))
        for j, at, error in zip(top, estimate[source[top]], fit.data.error[source[top]], strict=True)
    ]
    return found, gap


def _forecasts(company: Listening, seen: Forecast) -> Company:
    hours = company.truth.weeks.hours
    found: Company = {}
    for week in HORIZONS:
        found[f"week {week}"] = [_said(float(np.log(hours[WEEKS - 1 + week])), seen.log_values[:, week - 1])]
    recent = float(hours[WEEKS - 4 : WEEKS].mean())
    found["hit"] = [
        Said(float(hours[WEEKS - 1 + week] >= growth * recent), seen.chance_above(growth * recent, week - 1), 0, 1)
        for week in (13, 26)
        for growth in GROWTHS
    ]
    return found


def _gaps(company: Listening) -> tuple[float, float]:
    """How far inputs are from accounting for the change, and from what each must account for."""
    plan = _plan(company, "a year earlier")
    pairs = compared(plan)
    known = WeeksOfTree(plan.weeks, plan.values, plan.inputs)
    found = attribution(
        plan.north_star.spec, plan.names, known, after=pairs.after.tolist(), before=pairs.before.tolist(), seed=1
    )
    hours = np.array(plan.values, dtype=np.float64)
    now, then = hours[pairs.after], hours[pairs.before]
    assert found.change is not None
    added = abs(sum(part.units for part in found.parts) - found.change) / now.sum()
    worth = lines.logarithmic_mean(now, then)
    own = 0.0
    for each in found.parts:
        values = np.array(plan.inputs[each.metric_key], dtype=np.float64)
        exact = worth @ np.log(values[pairs.after] / values[pairs.before])
        own = max(own, abs(each.units - float(exact)) / now.sum())
    return added, own


def _said(truth: float, draws: Array) -> Said:
    lower, upper = np.quantile(draws, (0.1, 0.9))
    return Said(truth, float(draws.mean()), float(lower), float(upper))


def _cells(
    table: str,
    screen: str,
    companies: Iterable[Company],
    key: str,
    rule: Rule = "equal",
    *,
    slack: float = SLACK,
    level: float = LEVEL,
) -> list[Cell]:
    """How often intervals hold the truth, and how wide they are beside the errors of their centres."""
    said = [company[key] for company in companies if company.get(key)]
    every = [each for company in said for each in company]
    shares = np.array([np.mean([each.held for each in company]) for company in said])
    # Of several intervals of a company the errors go together: nobody knows how much, so companies say it.
    apart = max(float(shares.var()) / len(said), level * (1 - level) / len(every))
    case = {"screen": screen}
    reach = 3 * float(np.sqrt(apart)) + slack
    held = Cell(table, case, "coverage", float(shares.mean()), level, len(every), rule, slack, within=reach)
    error = np.array([each.value - each.truth for each in every])
    half = np.array([(each.upper - each.lower) / 2 for each in every]) / (Z80 if level == LEVEL else Z95)
    wide = float(np.sqrt((half**2).mean() / (error**2).mean()))
    width = Cell(table, case, "half width / that of errors", wide, 1.0, len(every), "report")
    return [held, width]


def _hits(companies: list[Company], low: float, high: float) -> list[Cell]:
    """Targets of one company are hit or missed together: the tolerance is that of chances which always are."""
    last = np.nextafter(high, 2) if high == 1 else high
    by_company = [[each for each in company["hit"] if low <= each.value < last] for company in companies]
    every = [each for company in by_company for each in company]
    if not every:
        return []
    spread = [sum(float(np.sqrt(each.value * (1 - each.value))) for each in company) for company in by_company]
    return [
        Cell(
            AHEAD, {"screen": f"chance to hit a target, said to be {low:.0%} to {high:.0%}"}, "hit",
            float(np.mean([each.truth for each in every])), float(np.mean([each.value for each in every])), len(every),
            within=3 * float(np.linalg.norm(spread)) / len(every) + SLACK,
        )
    ]  # fmt: skip
