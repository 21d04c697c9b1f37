"""Whether other experiments on the same units change this one's effect (METHODS A16).

All pairs of treatments, of all overlapping experiments and primary metrics, are screened together: Benjamini-Hochberg
at q = 0.1, and intervals at the false-coverage level that belongs to it (Benjamini & Yekutieli 2005), so an interval
clear of zero and a corrected p-value below q are the same statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.definitions import Role
from experiments.evidence.contract import Block
from experiments.evidence.facts import check
from experiments.evidence.rows import nulls
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Check, Interaction
from stats.estimate import MetricShape
from stats.interaction import Interactions, association, interactions
from stats.multiplicity import adjusted, fcr_level

FALSE_DISCOVERIES = 0.1
NOT_INDEPENDENT = 0.0005
"""Assignments of two experiments are called dependent below this p (as strict as a sample ratio mismatch)."""
_POWER = "An interaction needs about 16 times the units of a main effect of its size, so small ones go unseen (A16)."


@dataclass(frozen=True, slots=True, eq=False)
class _Screen:
    """One other experiment: its treatments, the metrics, and arrays (W-1, V-1, M) of what was found."""

    experiment_key: str
    others: tuple[str, ...]
    metrics: tuple[str, ...]
    found: Interactions


def screened(plan: AnalysisPlan, blocks: Sequence[Block], shapes: Sequence[BlockShapes]) -> list[Interaction]:
    """Interactions with every concurrent experiment; empty when the plan does not screen or nothing overlaps."""
    screens = _screens(plan, blocks, shapes)
    if not screens:
        return []
    p = np.concatenate([screen.found.p_value.ravel() for screen in screens])
    q = adjusted(p, "benjamini_hochberg")
    tests = int(np.isfinite(p).sum())
    level = float(fcr_level(q <= FALSE_DISCOVERIES, 1 - FALSE_DISCOVERIES, max(tests, 1)))
    documents: list[Interaction] = []
    start = 0
    for screen in screens:
        found = screen.found
        size = found.p_value.size
        corrected = q[start : start + size].reshape(found.p_value.shape)
        start += size
        lower, upper = found.interval(level)
        reported = (corrected <= FALSE_DISCOVERIES) & ((lower > 0) | (upper < 0)) & found.material
        names = ("interaction", "standard_error", "ci_lower", "ci_upper", "p_value", "p_value_adjusted")
        arrays = (found.value, found.standard_error, lower, upper, found.p_value, corrected)
        numbers = {name: nulls(array) for name, array in zip(names, arrays, strict=True)}
        documents += [
            Interaction(
                experiment_key=screen.experiment_key,
                variant_key=variant.key,
                other_variant_key=other,
                metric_key=metric,
                **{name: values[w][v][m] for name, values in numbers.items()},
                reported=bool(reported[w, v, m]),
                reason=str(found.reason[w, v, m]) or None,
            )
            for m, metric in enumerate(screen.metrics)
            for v, variant in enumerate(plan.variants[1:])
            for w, other in enumerate(screen.others)
        ]
    return documents


def interaction_checks(plan: AnalysisPlan, blocks: Sequence[Block], found: Sequence[Interaction]) -> list[Check]:
    """Which pairs interfere, and whether any other experiment's assignment depends on this one's."""
    unread = _unread(blocks)
    if not found:
        return unread
    return [_interference(found), *_assignments(plan, blocks), *unread]


def _unread(blocks: Sequence[Block]) -> list[Check]:
    unread = {key: why for block in blocks for key, why in block.moments.unscreened.items()}
    if not unread:
        return []
    detail = "; ".join(f"{key}: {why}" for key, why in sorted(unread.items()))
    remedy = "Make the exposures of these experiments readable, or decide without knowing whether they interfere."
    return [check("concurrent_unread", "warn", f"Not screened for interactions: {detail}.", remedy)]


def _interference(found: Sequence[Interaction]) -> Check:
    reported = [item for item in found if item.reported]
    keys = sorted({item.experiment_key for item in found})
    if not reported:
        detail = f"No interaction found with {_some(keys)}. {_POWER}"
        return check("interactions", "pass", detail)
    pairs = [
        f"{item.metric_key}: the effect of {item.variant_key} changes by {item.interaction:+.3g} under "
        f"{item.other_variant_key} of {item.experiment_key}"
        for item in reported
    ]
    return check(
        "interactions",
        "warn",
        f"{'; '.join(pairs)}. {_POWER}",
        "Decide on the effect under the variant of the other experiment that is going live, not on the average.",
        min(item.p_value_adjusted for item in reported if item.p_value_adjusted is not None),
    )


def _assignments(plan: AnalysisPlan, blocks: Sequence[Block]) -> list[Check]:
    tests = {
        key: association(cells.moments.count).p_value
        for block in blocks
        for key, cells in block.moments.concurrent.items()
    }
    dependent = [key for key, p in sorted(tests.items()) if p < NOT_INDEPENDENT / max(len(tests), 1)]
    worst = min(tests.values(), default=1.0)
    if not dependent:
        detail = "Variants were assigned independently of those of concurrent experiments."
        return [check("concurrent_assignment", "pass", detail, p_value=worst)]
    return [
        check(
            "concurrent_assignment",
            "warn",
            f"Variants depend on those of {_some(dependent)} (chi-square p = {worst:.2g}): "
            "each effect contains some of the other's.",
            "Give every experiment its own hashing salt; if both were ramped at once, compare within stages.",
            worst,
        )
    ]


def _screens(plan: AnalysisPlan, blocks: Sequence[Block], shapes: Sequence[BlockShapes]) -> list[_Screen]:
    if not plan.estimation.screen_interactions or plan.cluster is not None:
        return []
    found: list[_Screen] = []
    for block, known in zip(blocks, shapes, strict=True):
        wanted = _primary(known)
        for key, cells in sorted(block.moments.concurrent.items()):
            if not wanted or min(cells.moments.cells) < 2:
                continue
            result = interactions(cells.moments, [shape for _, shape in wanted], plan.estimation.cuped, known.invalid)
            found.append(_Screen(key, cells.variants[1:], tuple(metric for metric, _ in wanted), result))
    return found


def _primary(known: BlockShapes) -> list[tuple[str, MetricShape]]:
    """Primary metrics with moments of their own: quantiles have none."""
    return [
        (metric.metric_key, shape)
        for i, (metric, shape) in enumerate(zip(known.metrics, known.shapes, strict=True))
        if metric.role is Role.PRIMARY and i not in known.quantiles
    ]


def _some(keys: Sequence[str], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{', '.join(keys[:most])}{more}"
