"""The ledger's document: lines that add up, launches, what the series says, and what it cannot (METHODS F6)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from experiments.evidence.review.data import Compared, Told
from experiments.evidence.review.ledger_checks import checks, story
from experiments.plan import LedgerLaunch, ReviewPlan
from experiments.result import (
    Backtest,
    Ledger,
    LedgerAlternative,
    LedgerComponent,
    LedgerLaunchEffect,
    LedgerLine,
    LedgerWeek,
)
from experiments.result.launches import ModelParameter
from stats.ledger import backtest as backtesting
from stats.ledger import sensitivity
from stats.ledger.collapsed import UNRELIABLE
from stats.ledger.contract import COMPONENTS, Array, Component, LedgerFit
from stats.ledger.lines import Contrast, contrast, logarithmic_mean, weekly

NO_PAIRS: Final = "no_weeks_to_compare"
_NAMES: Final[dict[Component, str]] = {
    "launches": "Launches",
    "season": "Season",
    "outside": "Outside influences",
    "base": "Base: nothing on record",
    "noise": "Noise",
}
_80: Final = (0.1, 0.9)
_95: Final = (0.025, 0.975)
_BACKTEST_WEEKS: Final = 13


def ledger(plan: ReviewPlan, told: Told, pairs: Compared, fit: LedgerFit, *, seed: int) -> Ledger:
    """The reconciliation over the pairs of weeks. Without enough of them only what is believed of launches is shown."""
    reason = fit.reason or (None if pairs.known.any() else NO_PAIRS)
    series_used = fit.level.shape[1] > 0
    found = contrast(fit, pairs.after[pairs.known], pairs.before[pairs.known]) if reason is None else None
    values = np.array([np.nan if value is None else value for value in plan.values])
    now, then = values[pairs.after[pairs.known]], values[pairs.before[pairs.known]]
    claimed = _claimed_units(told, pairs, now, then)
    alternatives = _alternatives(fit, found, seed)
    tested = _backtest(plan, told, seed) if reason is None else None
    trusted = fit.reason != UNRELIABLE
    # Where nothing was claimed there is no share of it: what is left is the prior.
    learned = trusted and bool((told.data.source >= 0).any()) and (series_used or bool(told.holdouts))
    kappa = fit.scalars["kappa"]
    contraction = sensitivity.contraction(fit).get("kappa") if series_used and learned else None
    lower, upper = _quantiles(kappa, _80)
    document = Ledger(
        begins_at=pairs.begins_at,
        ends_at=pairs.ends_at,
        compared_begins_at=pairs.compared_begins_at,
        compared_ends_at=pairs.compared_ends_at,
        unit=plan.unit,
        observed_units=float((now - then).sum()) if pairs.known.any() else None,
        observed_log=float(np.log(now / then).mean()) if pairs.known.any() else None,
        claimed_units=None if found is None else _sum(claimed),
        lines=[] if found is None else list(_lines(told, found, claimed)),
        weeks=_weeks(plan, fit) if found is not None else [],
        launches=_launches(told, fit, found) if trusted else [],
        parameters=[_parameter(name, draws) for name, draws in fit.scalars.items()] if trusted else [],
        kappa=float(kappa.mean()) if learned else None,
        kappa_lower_80=lower if learned else None,
        kappa_upper_80=upper if learned else None,
        kappa_contraction=contraction,
        chance_kappa_below_half=float((kappa < 0.5).mean()) if learned else None,
        persistence_source=_persistence_source(told),
        alternatives=alternatives,
        backtest=tested,
        engine=fit.engine,
        diagnostics={name: float(value) for name, value in fit.diagnostics.items() if np.isfinite(value)},
        checks=[],
        estimable=found is not None,
        reason=reason,
    )
    return document.model_copy(update={"checks": checks(plan, told, pairs, document), "story": story(plan, document)})


def same_week(launches: tuple[LedgerLaunch, ...]) -> list[bool]:
    """Whether another launch began in the same week."""
    weeks = [_monday(each.first_at) for each in launches]
    return [weeks.count(week) > 1 for week in weeks]


def _lines(told: Told, found: Contrast, claimed: Array) -> Iterator[LedgerLine]:
    """Whole components, the parts of launches and of outside influences, and what was observed.

    Of what is not on record at all there is no line: nothing was estimated.
    """
    recorded = {"launches": bool(told.launches), "outside": bool(told.influences)}
    for component in COMPONENTS:
        if not recorded.get(component, True):
            continue
        yield _line(
            component,
            None,
            _NAMES[component],
            found.units[component],
            found.log[component],
            claimed=_sum(claimed) if component == "launches" else None,
        )
    grades = np.array([each.evidence_grade for each in told.launches])
    for grade in sorted(set(grades)):
        of_grade = np.flatnonzero(grades == grade)
        yield _line(
            "launches",
            f"grade:{grade}",
            f"Launches of grade {grade}" if grade != "U" else "Launches that nothing measured",
            found.launches_units[:, of_grade].sum(axis=1),
            found.launches_log[:, of_grade].sum(axis=1),
            grade=str(grade),
            claimed=_sum(claimed[of_grade]),
        )
    for j, each in enumerate(told.launches):
        yield _line(
            "launches",
            f"launch:{each.launch_key}",
            each.name,
            found.launches_units[:, j],
            found.launches_log[:, j],
            grade=each.evidence_grade,
            claimed=_sum(claimed[[j]]),
        )
    for p, key in enumerate(told.influences):
        yield _line("outside", key, key, found.outside_units[:, p], found.outside_log[:, p])
    yield _line("observed", None, "Observed", np.array([found.observed_units]), np.array([found.observed_log]))


def _line(
    component: LedgerComponent,
    key: str | None,
    name: str,
    units: Array,
    log: Array,
    *,
    grade: str | None = None,
    claimed: float | None = None,
) -> LedgerLine:
    lower_80, upper_80 = _quantiles(units, _80)
    lower_95, upper_95 = _quantiles(units, _95)
    log_lower, log_upper = _quantiles(log, _80)
    return LedgerLine(
        component=component,
        key=key,
        name=name,
        evidence_grade=grade,
        units=float(units.mean()),
        lower_80=lower_80,
        upper_80=upper_80,
        lower_95=lower_95,
        upper_95=upper_95,
        log_mean=float(log.mean()),
        log_lower_80=log_lower,
        log_upper_80=log_upper,
        chance_positive=float((units > 0).mean()),
        claimed_units=claimed,
    )


def _launches(told: Told, fit: LedgerFit, found: Contrast | None) -> list[LedgerLaunchEffect]:
    """Claimed, believed, in the ledger. What is believed of a blind launch is what is believed of its kind."""
    shared = same_week(told.launches)
    documents = []
    for j, each in enumerate(told.launches):
        source = int(told.data.source[j])
        believed = fit.delta[:, source] if source >= 0 else fit.theta[:, j] / fit.scalars["kappa"]
        shrunk, realised = _quantiles(believed, _80), _quantiles(fit.theta[:, j], _80)
        units = None if found is None else found.launches_units[:, j]
        bounds = (None, None) if units is None else _quantiles(units, _80)
        documents.append(
            LedgerLaunchEffect(
                launch_key=each.launch_key,
                name=each.name,
                first_at=each.first_at,
                evidence_grade=each.evidence_grade,
                experiment_key=each.experiment_key,
                claimed=float(told.data.estimate[source]) if source >= 0 else None,
                claimed_standard_error=float(told.data.error[source]) if source >= 0 else None,
                shrunk=float(believed.mean()),
                shrunk_lower_80=shrunk[0],
                shrunk_upper_80=shrunk[1],
                realised=float(fit.theta[:, j].mean()),
                realised_lower_80=realised[0],
                realised_upper_80=realised[1],
                units=None if units is None else float(units.mean()),
                units_lower_80=bounds[0],
                units_upper_80=bounds[1],
                alone_in_its_week=not shared[j],
            )
        )
    return documents


def _claimed_units(told: Told, pairs: Compared, now: Array, then: Array) -> Array:
    """What the claims (J,) would come to over the pairs, at the coverage of each week; nan for blind launches."""
    coverage, known = told.data.coverage, pairs.known
    weight = logarithmic_mean(now, then)
    change = coverage[pairs.after[known]] - coverage[pairs.before[known]]
    claim = np.where(told.data.source >= 0, np.append(told.data.estimate, np.nan)[told.data.source], np.nan)
    return np.asarray((weight @ change) * claim, dtype=np.float64)


def _sum(claimed: Array) -> float | None:
    """Of those that claimed something; None where none did."""
    return None if np.isnan(claimed).all() else float(np.nansum(claimed))


def _weeks(plan: ReviewPlan, fit: LedgerFit) -> list[LedgerWeek]:
    found = weekly(fit)
    return [
        LedgerWeek(
            week=week,
            observed=plan.values[t],
            without_launches=float(found.without_launches.mean[t]),
            without_lower_80=float(found.without_launches.lower[t]),
            without_upper_80=float(found.without_launches.upper[t]),
            launches=float(found.launches.mean[t]),
            launches_lower_80=float(found.launches.lower[t]),
            launches_upper_80=float(found.launches.upper[t]),
            season=float(found.season.mean[t]),
            outside=float(found.outside.mean[t]),
            base=float(found.base.mean[t]),
        )
        for t, week in enumerate(plan.weeks)
    ]


def _alternatives(fit: LedgerFit, found: Contrast | None, seed: int) -> list[LedgerAlternative]:
    """The launch line with the base wandering half and twice as much beforehand (rule iii)."""
    if found is None:
        return []
    return [
        LedgerAlternative(
            prior=f"level_step x {each.factor:g}",
            units=each.units_mean,
            lower_80=each.units_lower,
            upper_80=each.units_upper,
        )
        for each in sensitivity.level_step_alternatives(fit, found, seed=seed)
    ]


def _backtest(plan: ReviewPlan, told: Told, seed: int) -> Backtest | None:
    """The ledger of 13 weeks ago (rule vi); None where there is too little before that."""
    found = backtesting.backtest(told.data, told.priors, seed=seed, weeks=_BACKTEST_WEEKS)
    if found.reason:
        return None
    return Backtest(
        origin=plan.weeks[found.origin],
        weeks=found.weeks,
        predicted=found.predicted,
        lower_80=found.lower,
        upper_80=found.upper,
        observed=found.observed,
        inside=found.inside,
        share_of_weeks_inside=found.share_of_weeks_inside,
    )


def _parameter(name: str, draws: Array) -> ModelParameter:
    lower, upper = _quantiles(draws, _95)
    return ModelParameter(name=name, mean=float(draws.mean()), lower=lower, upper=upper)


def _persistence_source(told: Told) -> str:
    measured = int(np.isfinite(told.data.remaining).sum())
    if measured:
        return f"experiments: {measured} of {len(told.launches)} launches measured how much of their effect lasts"
    if told.holdouts:
        return "prior and holdout: no launch measured how much of its effect lasts"
    return "prior: no launch measured how much of its effect lasts, and the series cannot say"


def _quantiles(draws: Array, levels: tuple[float, float]) -> tuple[float, float]:
    lower, upper = np.quantile(draws, levels)
    return float(lower), float(upper)


def _monday(at: datetime) -> datetime:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())
