"""Who answered a survey, and what a difference in response could have done to its result (METHODS A13)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import SurveyEffect
from experiments.types import finite
from stats.moment_set import MomentSet
from stats.moments import Floats, Ints
from stats.survey import lee_bounds


def survey_effects(
    plan: AnalysisPlan, block: BlockShapes, data: MomentSet, clustered_p: Mapping[int, Floats]
) -> dict[tuple[int, int], SurveyEffect]:
    """By position of the survey metric and of the treatment, where the pass kept the answers.

    The test of equal response rates takes units as independent; with clusters, `clustered_p` (V-1,) replaces it.
    """
    found: dict[tuple[int, int], SurveyEffect] = {}
    asked = _asked(block, data)
    for m, metric in enumerate(block.metrics):
        answers = data.responses.get(metric.metric_key)
        if metric.spec.kind != "survey" or answers is None or set(block.shapes[m].columns) & block.invalid.keys():
            continue
        bounds = lee_bounds(answers.scores, answers.respondents, asked, plan.estimation.ci_level)
        p = clustered_p.get(m, bounds.rate_p_value)
        for v in range(len(asked) - 1):
            found[m, v] = SurveyEffect(
                response_rate_control=finite(bounds.control_rate[v]),
                response_rate_treatment=finite(bounds.treatment_rate[v]),
                response_p_value=finite(p[v]),
                bound_lower=finite(bounds.lower[v]),
                bound_upper=finite(bounds.upper[v]),
            )
    return found


def _asked(block: BlockShapes, data: MomentSet) -> Ints:
    """(V,) units at the last look; a survey is answered by units also where clusters were randomised."""
    if block.cluster_size is None:
        return data.last.count
    return np.rint(data.last.mean[:, block.cluster_size] * data.last.count).astype(np.int64)
