"""What some kinds of metrics show beside their effect, about everybody at the last look.

Parts of a ratio (A4), a cap (A9), who answered a survey (A13), the steps of a funnel (A2, A4). Parts, steps and
uncapped twins are estimated like the metric itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from experiments.evidence.funnel_effects import funnel_effects
from experiments.evidence.shapes import BlockShapes
from experiments.evidence.survey_effects import survey_effects
from experiments.evidence.twins import Twins, twins_of
from experiments.plan import AnalysisPlan
from experiments.result import CapEffect, FunnelStepEffect, PartEffect, RatioParts, SurveyEffect
from experiments.types import finite
from stats.estimate import MetricShape
from stats.moment_set import MomentSet
from stats.moments import Floats


@dataclass(frozen=True, slots=True)
class Details:
    """Of one metric and treatment."""

    ratio: RatioParts | None = None
    cap: CapEffect | None = None
    survey: SurveyEffect | None = None
    funnel: list[FunnelStepEffect] | None = None


def details(plan: AnalysisPlan, block: BlockShapes, data: MomentSet) -> dict[tuple[int, int], Details]:
    """By position of the metric and of the treatment; metrics with nothing more to show are left out."""
    treatments = range(len(plan.variants) - 1)
    found: dict[tuple[int, int], Details] = {}
    shapes = [*block.uncapped.values(), *(part for parts in block.parts.values() for part in parts)]
    answering = block.responded if block.cluster_size is not None else {}
    response_p: dict[int, Floats] = {}
    if shapes or answering:
        twins = twins_of(plan, block, data, (*shapes, *answering.values()))
        for i, (m, before) in enumerate(block.uncapped.items()):
            cap = _cap(block, data, m)
            if cap is None:
                continue
            share = _share_cut(block, data, block.shapes[m], before)
            for v in treatments:
                found[m, v] = Details(
                    cap=CapEffect(
                        cap=cap,
                        share_control=finite(share[0]),
                        share_treatment=finite(share[v + 1]),
                        uncapped_lift=finite(twins.lift.value[v, i]),
                        uncapped_ci_lower=finite(twins.lift.ci_lower[v, i]),
                        uncapped_ci_upper=finite(twins.lift.ci_upper[v, i]),
                    )
                )
        for i, m in enumerate(block.parts):
            at = len(block.uncapped) + 2 * i
            for v in treatments:
                parts = RatioParts(numerator=_part(twins, at, v), denominator=_part(twins, at + 1, v))
                found[m, v] = replace(found.get((m, v), Details()), ratio=parts)
        response_p = {m: twins.difference.p_value[:, len(shapes) + i] for i, m in enumerate(answering)}
    for (m, v), survey in survey_effects(plan, block, data, response_p).items():
        found[m, v] = replace(found.get((m, v), Details()), survey=survey)
    for (m, v), steps in funnel_effects(plan, block, data).items():
        found[m, v] = replace(found.get((m, v), Details()), funnel=steps)
    return found


def _part(twins: Twins, at: int, v: int) -> PartEffect:
    mean, lift = twins.arms.estimates.unadjusted[0], twins.lift
    return PartEffect(
        mean_control=finite(mean[0, at]),
        mean_treatment=finite(mean[v + 1, at]),
        lift=finite(lift.value[v, at]),
        ci_lower=finite(lift.ci_lower[v, at]),
        ci_upper=finite(lift.ci_upper[v, at]),
    )


def _cap(block: BlockShapes, data: MomentSet, m: int) -> float | None:
    """The cap in use: of a ratio, that of its numerator."""
    found = data.capped.get(data.columns[block.shapes[m].value])
    if found is not None:
        return finite(found.cap)
    planned = block.metrics[m].spec.cap
    return None if planned is None else planned.value


def _share_cut(block: BlockShapes, data: MomentSet, capped: MetricShape, before: MetricShape) -> Floats:
    """(V,) share of the mean that the cap cut: of a ratio, of its numerator. nan where there is no mean to cut from."""
    if {capped.value, before.value} & block.invalid.keys():
        return np.full(len(data.variants), np.nan)
    after, whole = data.last.mean[:, capped.value], data.last.mean[:, before.value]
    known = (whole != 0) & (data.last.count > 0)
    return np.where(known, (whole - after) / np.where(known, np.abs(whole), 1.0), np.nan)
