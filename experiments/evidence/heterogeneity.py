"""Whether segments differ in effect: one test per metric, treatment and dimension, corrected together (METHODS A15).

Effects are compared as log lifts, because a segment with twice the baseline has twice the absolute effect of the same
change; where fewer than two levels have a log lift, as differences. One-way dimensions also have a hierarchical model
(`segments`); the shrunken effects of two-way dimensions come from here, in closed form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special as sc

from experiments.evidence.contract import Block
from experiments.evidence.effects import Effects
from experiments.evidence.facts import check
from experiments.evidence.rows import nulls
from experiments.evidence.segments import is_modelled
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Check, Heterogeneity, SegmentEffect
from stats.heterogeneity import between_levels, linear_trend, q_test, shrink, usable
from stats.moments import Bools, Floats, Ints
from stats.multiplicity import adjusted

TOO_FEW_SEGMENTS = "too_few_segments"
NO_RELATIVE_EFFECT = "no_relative_effect"
CLEARLY = 1.96
"""Simpson's reversal is worth a warning when one of the two opposite effects is clear of zero, else it is noise."""
LARGEST_LOG = 100.0
_NUMBER = re.compile(r"^\s*[<>≥≤=~]*\s*(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, eq=False)
class _Family:
    """One metric, treatment and dimension; arrays (S,) over its levels."""

    metric_key: str
    variant_key: str
    dimension: str
    labels: tuple[str, ...]
    value: Floats
    error: Floats
    units: Ints
    relative: bool
    reversed: bool


def heterogeneity(
    plan: AnalysisPlan, blocks: Sequence[Block], shapes: Sequence[BlockShapes], heads: Sequence[Effects]
) -> list[Heterogeneity]:
    """Tests of all primary, guardrail and North Star metrics. Cells of `heads` are (1 + segments,), everybody first."""
    families = [
        family
        for block, known, head in zip(blocks, shapes, heads, strict=True)
        for family in _families(plan, block, known, head)
    ]
    if not families:
        return []
    width = max(len(family.labels) for family in families)
    value = np.array([np.pad(f.value, (0, width - len(f.value)), constant_values=np.nan) for f in families])
    error = np.array([np.pad(f.error, (0, width - len(f.error)), constant_values=np.nan) for f in families])
    scores = np.array([_scores(family, width) for family in families])
    test, trend = q_test(value, error), linear_trend(np.where(np.isnan(scores), np.nan, value), error, scores)
    relative = np.array([family.relative for family in families])
    # Segments may differ although the overall effect is nil: effects are at least as large as the prior expects.
    scale = np.maximum(np.abs(np.nan_to_num(test.centre)), plan.estimation.prior_scale)
    level = plan.estimation.ci_level
    lifts = np.where(relative[:, None], value, np.nan)
    p_adjusted = adjusted(test.p_value, "benjamini_hochberg")
    numbers = [
        nulls(a) for a in (test.q, test.p_value, p_adjusted, test.i_squared, between_levels(lifts, error, scale))
    ]
    slope, slope_p = nulls(np.where(relative, trend.slope.value, np.nan)), nulls(trend.slope.p_value)
    two_way = {two_way_name(*pair) for pair in plan.two_way_segments}
    shown = [i for i, family in enumerate(families) if family.dimension in two_way and family.relative]
    drawn = dict(
        zip(
            shown, _shrunken([families[i] for i in shown], lifts[shown], error[shown], scale[shown], level), strict=True
        )
    )
    return [
        Heterogeneity(
            metric_key=family.metric_key,
            variant_key=family.variant_key,
            dimension=family.dimension,
            levels=int(test.levels[i]),
            q=numbers[0][i],
            p_value=numbers[1][i],
            p_value_adjusted=numbers[2][i],
            i_squared=numbers[3][i],
            tau=numbers[4][i],
            reversed=family.reversed,
            trend=slope[i],
            trend_p_value=slope_p[i],
            effects=drawn.get(i, []),
            reason=TOO_FEW_SEGMENTS if test.levels[i] < 2 else None if family.relative else NO_RELATIVE_EFFECT,
        )
        for i, family in enumerate(families)
    ]


def _shrunken(
    families: Sequence[_Family], lifts: Floats, error: Floats, scale: Floats, level: float
) -> list[list[SegmentEffect]]:
    """Every level's own and shrunken effect; arrays (families, levels)."""
    pooled = shrink(lifts, error, scale, level)
    half = float(sc.ndtri(0.5 + level / 2)) * error
    columns = {
        "raw_lift": _as_lift(lifts),
        "raw_ci_lower": _as_lift(lifts - half),
        "raw_ci_upper": _as_lift(lifts + half),
        "lift": _as_lift(pooled.mean),
        "hdi_lower": _as_lift(pooled.lower),
        "hdi_upper": _as_lift(pooled.upper),
        "probability_sign_differs": nulls(pooled.sign_differs),
    }
    return [
        [
            SegmentEffect(segment=label, n=int(family.units[j]), **{name: rows[i][j] for name, rows in columns.items()})
            for j, label in enumerate(family.labels)
        ]
        for i, family in enumerate(families)
    ]


def two_way_name(first: str, second: str) -> str:
    """The dimension of two attributes together."""
    return f"{first} × {second}"


def reversal_check(found: Sequence[Heterogeneity]) -> list[Check]:
    """Simpson's paradox: the whole moves against every one of its parts."""
    if not found:
        return []
    turned = [f"{item.metric_key} of {item.variant_key} by {item.dimension}" for item in found if item.reversed]
    if not turned:
        return [check("segments_reversed", "pass", "No overall effect points against all of its segments.")]
    return [
        check(
            "segments_reversed",
            "warn",
            f"The overall effect points against every segment: {', '.join(turned)} (Simpson's paradox).",
            "Stratify by this dimension (`stratify_by`), and find out why its mix differs between variants.",
        )
    ]


def _families(plan: AnalysisPlan, block: Block, shapes: BlockShapes, head: Effects) -> list[_Family]:
    cells: dict[str, list[int]] = {}
    for cell, (dimension, _) in enumerate(block.moments.segments, start=1):
        cells.setdefault(dimension, []).append(cell)
    order = [*plan.segments, *(two_way_name(*pair) for pair in plan.two_way_segments)]
    dimensions = sorted(cells, key=lambda name: order.index(name) if name in order else len(order))
    found: list[_Family] = []
    lifts, differences = head.lift, head.difference
    for m, metric in enumerate(shapes.metrics):
        if not is_modelled(plan, metric):
            continue
        for v, variant in enumerate(plan.variants[1:]):
            for dimension in dimensions:
                pick = np.array(cells[dimension])
                value, error = lifts.log_value[pick, v, m], lifts.log_standard_error[pick, v, m]
                change, change_error = differences.value[pick, v, m], differences.standard_error[pick, v, m]
                relative = bool(usable(value, error).sum() >= 2 or usable(change, change_error).sum() < 2)
                whole = float(differences.value[0, v, m]), float(differences.standard_error[0, v, m])
                found.append(
                    _Family(
                        metric_key=metric.metric_key,
                        variant_key=variant.key,
                        dimension=dimension,
                        labels=tuple(block.moments.segments[cell - 1][1] for cell in cells[dimension]),
                        value=value if relative else change,
                        error=error if relative else change_error,
                        units=head.units[pick, v + 1, m] + head.units[pick, 0, m],
                        relative=relative,
                        reversed=_reversed(*whole, change, change_error),
                    )
                )
    return found


def _reversed(whole: float, whole_error: float, parts: Floats, errors: Floats) -> bool:
    """Every level against the whole, and the whole or the levels together clear of zero."""
    known: Bools = usable(parts, errors)
    if known.sum() < 2 or not usable(np.array(whole), np.array(whole_error)):
        return False
    if (np.sign(parts[known]) != -np.sign(whole)).any():
        return False
    within = q_test(parts, errors)
    clear = abs(whole) > CLEARLY * whole_error or abs(float(within.centre)) > CLEARLY * float(within.centre_error)
    return bool(clear)


def _as_lift(log_lift: Floats) -> Any:
    """Nested lists of fractions; a bound beyond any number is no bound."""
    return nulls(np.expm1(np.where(np.abs(log_lift) < LARGEST_LOG, log_lift, np.nan)))


def _scores(family: _Family, width: int) -> Floats:
    """(width,) ranks of levels whose names begin with different numbers (bins of tenure, age, spend); else nan.

    Levels without a number ("none", "other") stay out of the trend; fewer than three numbers are no order.
    """
    matches = [_NUMBER.match(label) for label in family.labels]
    numbers = np.array([float(match.group(1)) if match else np.nan for match in matches])
    scores = np.full(width, np.nan)
    named = np.flatnonzero(np.isfinite(numbers))
    if len(named) < 3 or len(named) < len(numbers) - 2 or len(set(numbers[named].tolist())) < len(named):
        return scores
    scores[named] = np.argsort(np.argsort(numbers[named]))
    return scores
