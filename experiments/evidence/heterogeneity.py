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
class _Families:
    """Every metric x treatment x dimension of a block, in that order.

    `keys` (F,) name them, `labels` (F,) their levels; arrays (F, S) are padded with nan (units with 0).
    """

    keys: list[tuple[str, str, str]]
    labels: list[tuple[str, ...]]
    value: Floats
    error: Floats
    units: Ints
    scores: Floats
    relative: Bools
    reversed: Bools


def heterogeneity(
    plan: AnalysisPlan, blocks: Sequence[Block], shapes: Sequence[BlockShapes], heads: Sequence[Effects]
) -> list[Heterogeneity]:
    """Tests of all primary, guardrail and North Star metrics. Cells of `heads` are (1 + segments,), everybody first."""
    found = [_families(plan, *part) for part in zip(blocks, shapes, heads, strict=True)]
    tested = [(families, _tests(plan, families)) for families in found if families is not None]
    if not tested:
        return []
    # One correction over all tests of the result.
    corrected = adjusted(np.concatenate([numbers["p_value"] for _, numbers in tested]), "benjamini_hochberg")
    ends = np.cumsum([len(families.keys) for families, _ in tested])[:-1]
    return [
        item
        for (families, numbers), p in zip(tested, np.split(corrected, ends), strict=True)
        for item in _documents(plan, families, {**numbers, "p_value_adjusted": p})
    ]


def _tests(plan: AnalysisPlan, families: _Families) -> dict[str, Floats]:
    value, error, relative = families.value, families.error, families.relative
    test = q_test(value, error)
    trend = linear_trend(np.where(np.isnan(families.scores), np.nan, value), error, families.scores)
    return {
        "q": test.q,
        "p_value": test.p_value,
        "i_squared": test.i_squared,
        "tau": between_levels(np.where(relative[:, None], value, np.nan), error, _scale(plan, test.centre)),
        "trend": np.where(relative, trend.slope.value, np.nan),
        "trend_p_value": trend.slope.p_value,
    }


def _scale(plan: AnalysisPlan, centre: Floats) -> Floats:
    """Segments may differ although the overall effect is nil: effects are at least as large as the prior expects."""
    return np.maximum(np.abs(np.nan_to_num(centre)), plan.estimation.prior_scale)


def _documents(plan: AnalysisPlan, families: _Families, numbers: dict[str, Floats]) -> list[Heterogeneity]:
    two_way = {two_way_name(*pair) for pair in plan.two_way_segments}
    shown = [
        i for i, (_, _, dimension) in enumerate(families.keys) if dimension in two_way and bool(families.relative[i])
    ]
    drawn = dict(zip(shown, _shrunken(plan, families, shown), strict=True)) if shown else {}
    levels = usable(families.value, families.error).sum(axis=-1).tolist()
    relative, turned = families.relative.tolist(), families.reversed.tolist()
    columns = {name: nulls(array) for name, array in numbers.items()}
    return [
        Heterogeneity(
            metric_key=metric,
            variant_key=variant,
            dimension=dimension,
            levels=levels[i],
            reversed=turned[i],
            effects=drawn.get(i, []),
            reason=TOO_FEW_SEGMENTS if levels[i] < 2 else None if relative[i] else NO_RELATIVE_EFFECT,
            **{name: values[i] for name, values in columns.items()},
        )
        for i, (metric, variant, dimension) in enumerate(families.keys)
    ]


def _shrunken(plan: AnalysisPlan, families: _Families, shown: list[int]) -> list[list[SegmentEffect]]:
    """Every level's own and shrunken effect, of some families."""
    lifts, error, level = families.value[shown], families.error[shown], plan.estimation.ci_level
    pooled = shrink(lifts, error, _scale(plan, q_test(lifts, error).centre), level)
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
            SegmentEffect(
                segment=label, n=int(families.units[family, j]), **{name: rows[i][j] for name, rows in columns.items()}
            )
            for j, label in enumerate(families.labels[family])
        ]
        for i, family in enumerate(shown)
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


def _families(plan: AnalysisPlan, block: Block, shapes: BlockShapes, head: Effects) -> _Families | None:
    cells: dict[str, list[int]] = {}
    for cell, (dimension, _) in enumerate(block.moments.segments, start=1):
        cells.setdefault(dimension, []).append(cell)
    watched = [m for m, metric in enumerate(shapes.metrics) if is_modelled(plan, metric)]
    if not cells or not watched:
        return None
    order = [*plan.segments, *(two_way_name(*pair) for pair in plan.two_way_segments)]
    dimensions = sorted(cells, key=lambda name: order.index(name) if name in order else len(order))
    labels = [tuple(block.moments.segments[cell - 1][1] for cell in cells[name]) for name in dimensions]
    width = max(len(names) for names in labels)
    # (dimensions, levels) into cells; padding points at everybody and is blanked.
    index = np.array([cells[name] + [0] * (width - len(cells[name])) for name in dimensions])
    here = index > 0

    def spread(array: Floats) -> Floats:
        """(metrics, treatments, dimensions, levels)"""
        return np.where(here, np.moveaxis(array[index][..., watched], (3, 2), (0, 1)), np.nan)

    lifts, differences = head.lift, head.difference
    value, error = spread(lifts.log_value), spread(lifts.log_standard_error)
    change, change_error = spread(differences.value), spread(differences.standard_error)
    relative = (usable(value, error).sum(axis=-1) >= 2) | (usable(change, change_error).sum(axis=-1) < 2)
    whole, whole_error = (a[0][:, watched].T[:, :, None] for a in (differences.value, differences.standard_error))
    units = (head.units[:, 1:] + head.units[:, :1]).astype(np.float64)
    scores = np.array([_scores(names, width) for names in labels])

    def flat(array: Floats) -> Floats:
        return np.ascontiguousarray(array).reshape(-1, width)

    keys = [
        (shapes.metrics[m].metric_key, variant.key, name)
        for m in watched
        for variant in plan.variants[1:]
        for name in dimensions
    ]
    return _Families(
        keys=keys,
        labels=labels * (len(keys) // len(labels)),
        value=flat(np.where(relative[..., None], value, change)),
        error=flat(np.where(relative[..., None], error, change_error)),
        units=np.nan_to_num(flat(spread(units))).astype(np.int64),
        scores=flat(np.broadcast_to(scores, value.shape)),
        relative=relative.ravel(),
        reversed=_reversed(whole, whole_error, change, change_error).ravel(),
    )


def _reversed(whole: Floats, whole_error: Floats, parts: Floats, errors: Floats) -> Bools:
    """Every level (last axis of `parts`) against the whole, and the whole or the levels together clear of zero."""
    known = usable(parts, errors)
    against = (np.sign(parts) == -np.sign(whole)[..., None]) | ~known
    within = q_test(parts, errors)
    together = np.abs(np.nan_to_num(within.centre)) > CLEARLY * np.nan_to_num(within.centre_error, nan=np.inf)
    clear = together | (np.abs(whole) > CLEARLY * whole_error)
    return np.asarray((known.sum(axis=-1) >= 2) & usable(whole, whole_error) & against.all(axis=-1) & clear)


def _as_lift(log_lift: Floats) -> Any:
    """Nested lists of fractions; a bound beyond any number is no bound."""
    return nulls(np.expm1(np.where(np.abs(log_lift) < LARGEST_LOG, log_lift, np.nan)))


def _scores(labels: Sequence[str], width: int) -> Floats:
    """(width,) ranks of levels whose names begin with different numbers (bins of tenure, age, spend); else nan.

    Levels without a number ("none", "other") stay out of the trend; fewer than three numbers are no order.
    """
    matches = [_NUMBER.match(label) for label in labels]
    numbers = np.array([float(match.group(1)) if match else np.nan for match in matches])
    scores = np.full(width, np.nan)
    named = np.flatnonzero(np.isfinite(numbers))
    if len(named) < 3 or len(named) < len(numbers) - 2 or len(set(numbers[named].tolist())) < len(named):
        return scores
    scores[named] = np.argsort(np.argsort(numbers[named]))
    return scores
