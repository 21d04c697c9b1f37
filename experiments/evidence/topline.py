"""What an experiment's effect would be on the whole company (METHODS E5).

The company is everybody with facts in the weeks of exposure. Those in the experiment stand for all who would have been
reached at full coverage. What variants did to them is taken out first: shares are of the North Star without the change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np
import scipy.special as sc

from experiments.columns import company_specs, layout
from experiments.evidence.arms import joint_estimates
from experiments.evidence.contract import Block, EvidenceContext
from experiments.evidence.rows import nulls
from experiments.evidence.series import metric_values
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import ReachWeek, Row, ToplineImpact
from experiments.types import finite
from stats.estimate import MetricShape
from stats.lift import lift, log_lift_covariance
from stats.moment_set import Reach
from stats.moments import Floats
from stats.topline import ToplineReason, of_lift, share_of_metric

NO_FULL_WEEK: Final = "no_full_week"
SHARE_NOT_DEFINED: Final = "share_not_defined"
_WEEK: Final = timedelta(days=7)
_STEP: Final = 1e-5
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Company:
    """What reach says of the company without the change, by hash bucket and week.

    `whole` (B, W, C) are its totals and `part` (B, W, C) those of everybody who would be reached at full coverage;
    `share_of_units` (W,) is the share of units that part is. `change` (V-1, C) are the columns' log lifts (nan: not
    estimable) with their `covariance` (V-1, C, C).
    """

    columns: tuple[str, ...]
    whole: Floats
    part: Floats
    share_of_units: Floats
    change: Floats
    covariance: Floats

    @property
    def totals(self) -> Floats:
        """(W, C) the company's totals."""
        return np.asarray(self.whole.sum(axis=0))


def company_of(
    plan: AnalysisPlan,
    rows: Sequence[Row],
    blocks: Sequence[Block],
    shapes: Sequence[BlockShapes],
    context: EvidenceContext,
) -> Company | None:
    """The company beside the experiment; None where the data do not say, or a column holds what is no number."""
    home = next(((b, s) for b, s in zip(blocks, shapes, strict=True) if b.moments.reach is not None), None)
    if home is None:
        return None
    block, known = home
    reach = block.moments.reach
    assert reach is not None
    if reach.withdrawn or not reach.weeks:
        return None
    change, covariance = _changes(plan, rows, block, known, reach)
    by_arm, left = reach.exposed, np.exp(-np.nan_to_num(change))
    caused = (by_arm[..., 1:, :] * (1 - left)).sum(axis=-2)
    coverage = _coverage_by_week(plan, context, reach.weeks)
    units = reach.exposed_units.sum(axis=(0, 2)) / coverage / np.maximum(reach.company_units.sum(axis=0), 1)
    return Company(
        columns=reach.columns,
        whole=reach.company - caused,
        part=(by_arm.sum(axis=-2) - caused) / coverage[:, None],
        share_of_units=np.minimum(units, 1.0),
        change=change,
        covariance=covariance,
    )


def topline_impact(
    plan: AnalysisPlan, rows: Sequence[Row], blocks: Sequence[Block], company: Company | None
) -> list[ToplineImpact]:
    """One entry per treatment; empty without a North Star, and for variants that are the same on purpose."""
    if plan.north_star is None or plan.purpose == "aa":
        return []
    key = plan.north_star.spec.metric_key
    overall = {row.variant_key: row for row in rows if row.segment is None and row.metric_key == key}
    found = []
    for v, variant in enumerate(plan.variants[1:]):
        row = overall.get(variant.key)
        blank = _blank(plan, key, variant.key)
        if row is None or row.lift is None or not row.standard_error or row.lift <= -1:
            reason = (row.reason if row else None) or "no_relative_effect_of_north_star"
            found.append(blank.model_copy(update={"reason": reason}))
        elif plan.data == "summary":
            found.append(_declared(plan, row, blank))
        else:
            found.append(_measured(plan, row, v, blank, company, _why_not(plan, blocks)))
    return found


def log_lift_of(row: Row) -> tuple[float, float]:
    """A row's log lift and its standard error; the lift must be above -1."""
    assert row.lift is not None and row.standard_error is not None
    return float(np.log1p(row.lift)), row.standard_error / (1 + row.lift)


def _blank(plan: AnalysisPlan, metric_key: str, variant_key: str) -> ToplineImpact:
    source = "measured"
    if plan.data == "summary":
        source = "everybody" if plan.north_star_share is None else "declared"
    empty = ("share", "share_standard_error", "share_of_units", "log_lift", "standard_error", "lift", "ci_lower")
    return ToplineImpact.model_validate(
        {
            **dict.fromkeys((*empty, "ci_upper", "naive_lift")),
            "metric_key": metric_key,
            "variant_key": variant_key,
            "source": source,
            "ci_level": plan.estimation.ci_level,
            "reach": [],
            "estimable": False,
        }
    )


def _declared(plan: AnalysisPlan, row: Row, blank: ToplineImpact) -> ToplineImpact:
    """Summaries know no company: its share is declared, or the experiment is taken to be on everybody."""
    declared = plan.north_star_share
    share, error = (1.0, 0.0) if declared is None else (declared.value, declared.standard_error)
    value, spread = of_lift(*log_lift_of(row), share, error)
    return _with_effect(blank, float(value), float(spread), share=share, error=error)


def _measured(
    plan: AnalysisPlan, row: Row, v: int, blank: ToplineImpact, company: Company | None, why_not: str
) -> ToplineImpact:
    if company is None:
        return blank.model_copy(update={"reason": why_not})
    shares = share_of_metric(company.part[..., 0], company.whole[..., 0], scale=1.0)
    # Where everybody is reached the share is one to the last digits, and known without error.
    over = shares.share > 1 + 3 * shares.standard_error + _ROUNDING
    reach = [
        ReachWeek(week=week, share=min(share, 1.0), share_standard_error=error)
        for week, (share, error, beyond) in enumerate(
            zip(nulls(shares.share), nulls(shares.standard_error), over.tolist(), strict=True)
        )
        if share is not None and error is not None and not beyond
    ]
    units = float(company.share_of_units[-1])
    seen = blank.model_copy(update={"reach": reach, "share_of_units": units, "naive_lift": units * (row.lift or 0.0)})
    reason = ToplineReason.SHARE_ABOVE_ONE if over[-1] else shares.reason[-1]
    if reason:
        return seen.model_copy(update={"reason": str(reason)})
    share, error = reach[-1].share, reach[-1].share_standard_error
    value, spread = _effect(plan, row, v, company, share, error)
    if not np.isfinite([value, spread]).all():
        return seen.model_copy(update={"reason": SHARE_NOT_DEFINED})
    return _with_effect(seen, value, spread, share=share, error=error)


def _with_effect(blank: ToplineImpact, value: float, spread: float, *, share: float, error: float) -> ToplineImpact:
    half = float(sc.ndtri(0.5 + blank.ci_level / 2)) * spread
    lower, middle, upper = (finite(float(np.expm1(value + shift))) for shift in (-half, 0.0, half))
    return blank.model_copy(
        update={
            "share": share,
            "share_standard_error": error,
            "log_lift": value,
            "standard_error": spread,
            "lift": middle,
            "ci_lower": lower,
            "ci_upper": upper,
            "estimable": True,
        }
    )


def _why_not(plan: AnalysisPlan, blocks: Sequence[Block]) -> str:
    reach = next((block.moments.reach for block in blocks if block.moments.reach is not None), None)
    if reach is None:
        return SHARE_NOT_DEFINED
    return "non_finite_values" if reach.withdrawn else NO_FULL_WEEK


def _effect(plan: AnalysisPlan, row: Row, v: int, company: Company, share: float, error: float) -> tuple[float, float]:
    """The company's log lift and its error in the last week: of a total by its share, else through its columns."""
    if len(company.columns) == 1:
        value, spread = of_lift(*log_lift_of(row), share, error)
        return float(value), float(spread)
    assert plan.north_star is not None
    specs, key = company_specs(plan), plan.north_star.spec.metric_key
    whole, part = company.whole[:, -1], company.part[:, -1]

    def log_topline(change: Floats, without: Floats, reached: Floats) -> Floats:
        moved = without + reached * np.expm1(change)
        before, after = (
            metric_values(specs, columns=company.columns, totals=totals)[key] for totals in (without, moved)
        )
        with np.errstate(all="ignore"):
            return np.asarray(np.log(after / before))

    change, totals, reached = company.change[v], whole.sum(axis=0), part.sum(axis=0)
    step = _STEP * np.eye(len(change))
    slope = (log_topline(change + step, totals, reached) - log_topline(change - step, totals, reached)) / (2 * _STEP)
    # Leaving out one bucket at a time: the columns' shares are those of the same units.
    again = log_topline(change, totals - whole, reached - part)
    buckets = len(whole)
    by_units = (buckets - 1) / buckets * float(((again - again.mean()) ** 2).sum())
    variance = float(slope @ company.covariance[v] @ slope) + by_units
    return float(log_topline(change, totals, reached)), float(np.sqrt(variance))


def _changes(
    plan: AnalysisPlan, rows: Sequence[Row], block: Block, known: BlockShapes, reach: Reach
) -> tuple[Floats, Floats]:
    """(V-1, C) log lifts of the North Star's columns and (V-1, C, C) their covariance: a total's own is its row's."""
    assert plan.north_star is not None
    treatments, width = len(plan.variants) - 1, len(reach.columns)
    change, covariance = np.full((treatments, width), np.nan), np.full((treatments, width, width), np.nan)
    if width == 1:
        key = plan.north_star.spec.metric_key
        place = {variant.key: v for v, variant in enumerate(plan.variants[1:])}
        for row in rows:
            about_all = row.segment is None and row.metric_key == key
            if about_all and row.lift is not None and row.lift > -1 and row.standard_error is not None:
                value, error = log_lift_of(row)
                change[place[row.variant_key]], covariance[place[row.variant_key]] = value, error**2
        return change, covariance
    shapes = _column_shapes(plan, known, reach.columns)
    if len(shapes) < width:
        return change, covariance
    picked = replace(known, shapes=tuple(shapes[name] for name in reach.columns))
    estimates = joint_estimates(picked, block.moments, plan.estimation.cuped)
    return lift(estimates).log_value, log_lift_covariance(estimates)


def _column_shapes(plan: AnalysisPlan, known: BlockShapes, columns: Sequence[str]) -> Mapping[str, MetricShape]:
    """Every column as a mean per unit; those of surveys, whose scores are no total, are missing."""
    places = layout(list(company_specs(plan).values()))
    found: dict[str, MetricShape] = {}
    for key, where in places.metrics.items():
        position = known.position(key)
        if position is None:
            continue
        if where.denominator is None:
            found[places.names[where.value]] = known.shapes[position]
        elif position in known.parts:
            found[places.names[where.value]], found[places.names[where.denominator]] = known.parts[position]
    return {name: shape for name, shape in found.items() if name in columns}


def _coverage_by_week(plan: AnalysisPlan, context: EvidenceContext, weeks: int) -> Floats:
    """(W,) the mean share of eligible traffic that was enrolled in each week."""
    stages = context.coverage or ((context.started_at, plan.coverage),)
    seconds = np.array([(at - context.started_at).total_seconds() for at, _ in stages])
    seconds[0] = 0.0
    share = np.array([coverage for _, coverage in stages])
    begin = _WEEK.total_seconds() * np.arange(weeks)[:, None]
    end = begin + _WEEK.total_seconds()
    until = np.append(seconds[1:], np.inf)
    inside: Floats = np.clip(np.minimum(end, until) - np.maximum(begin, seconds), 0.0, None)
    return np.asarray((inside * share).sum(axis=1) / inside.sum(axis=1))
