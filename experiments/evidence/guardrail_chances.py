"""The posterior chance that guardrails stay within their margins (METHODS A10, C5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.special as sc

from experiments.evidence.beliefs import metric_prior
from experiments.evidence.waiting import log_lift
from experiments.plan import AnalysisPlan
from experiments.result import GuardrailChance, Row
from experiments.types import finite
from stats.bayes.normal import posterior

_SAME: Final = 1e-6


def guardrail_chances(plan: AnalysisPlan, rows: Sequence[Row]) -> list[GuardrailChance]:
    """One entry per row over everybody that has a margin; none without the Bayesian engine.

    A row whose beliefs are withheld has no chance. Where a model of units gave the row its beliefs, the chance is that
    of the normal with the same mean and interval.
    """
    if plan.estimation.engine == "frequentist":
        return []
    return [
        GuardrailChance(
            metric_key=row.metric_key,
            variant_key=row.variant_key,
            non_inferiority_margin=row.non_inferiority_margin,
            chance=_chance(plan, row, row.non_inferiority_margin),
        )
        for row in rows
        if row.segment is None and row.non_inferiority_margin is not None
    ]


def _chance(plan: AnalysisPlan, row: Row, margin: float) -> float | None:
    seen = log_lift(row)
    if seen is None or row.chance_to_win is None or row.posterior_lift is None:
        return None
    metric = next(metric for metric in plan.metrics if metric.metric_key == row.metric_key)
    belief = posterior(np.array(seen[0]), np.array(seen[1]), metric_prior(plan, metric), direction=row.direction)
    if abs(float(belief.chance_to_win) - row.chance_to_win) < _SAME:
        return finite(float(belief.chance_within(np.array(margin))))
    if row.hdi_lower is None or row.hdi_upper is None:
        return None
    width = np.log1p(row.hdi_upper) - np.log1p(row.hdi_lower)
    sd = width / (2 * sc.ndtri(0.5 + row.ci_level / 2))
    edge = np.log1p(-min(margin, 1 - 1e-12)) if row.direction == "increase" else np.log1p(margin)
    z = (np.log1p(row.posterior_lift) - edge) / sd
    return finite(float(sc.ndtr(z if row.direction == "increase" else -z)))
