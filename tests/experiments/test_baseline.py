"""Baselines of metrics that are no plain means plan like means."""

import numpy as np
import pytest

from experiments.columns import layout
from experiments.evidence import baseline_result
from experiments.plan import BaselinePlan
from experiments.types import canonical_json
from stats.moment_set import MomentSet, QuantileCells
from stats.moments import Moments
from stats.quantile import quantile_estimates, summarise
from tests.experiments.evidence_cases import END, planned, spec


def test_baselines_of_surveys_and_quantiles_plan_like_means():
    """The standard error is sd / sqrt(units), counting units that did not answer or have no events."""
    rng = np.random.default_rng(4)
    n = 4000
    answered = rng.random(n) < 0.3
    answers = np.where(answered, 1.0 + rng.poisson(0.5, n), 0.0)
    scores = np.where(answered, np.round(rng.normal(1.0, 2.0, n) * answers), 0.0)
    metrics = [
        planned(spec("nps", "survey")),
        planned(spec("latency", "quantile", quantile=0.9, quantile_of="event")),
        planned(spec("missing", "quantile", quantile=0.5)),
        planned(spec("refused", "quantile", quantile=0.5)),
    ]
    plan = BaselinePlan(unit_type="user", metrics=metrics, fact_sources=[])
    names = layout([metric.spec for metric in metrics]).names
    assert len(names) == 3  # scores, answers, responded
    values = np.column_stack([scores, answers, answered.astype(float)])
    overall = Moments.from_rows(values, np.zeros(n, dtype=int), (1, 1))
    unit = rng.integers(0, n // 2, 9000)
    summary = summarise(rng.gamma(2, 50, n // 2)[unit] + rng.normal(0, 5, 9000), unit, np.zeros(9000), (1, 1), 0.9)
    empty = summarise([], [], [], (0, 1), 0.9)
    moments = MomentSet(
        names,
        ("all",),
        (END,),
        overall,
        (),
        Moments.empty((0, 1), len(names)),
        overall.count,
        quantiles={"latency": QuantileCells(summary, empty)},
        refused={"refused": "non_finite_values"},
    )
    found = baseline_result(plan, moments, [n], analysis_id="b", data_as_of=END, code_version="test")
    canonical_json(found.model_dump(mode="json"))
    nps, latency, missing, refused = found.metrics
    mean = scores.sum() / answers.sum()
    assert nps.mean == pytest.approx(mean)
    assert nps.sd == pytest.approx(((scores - mean * answers) / answers.mean()).std(ddof=1), rel=1e-9)
    value, variance, _ = quantile_estimates(summary)
    assert latency.mean == value[0, 0] and latency.cuped_r_squared == 0.0
    assert latency.sd is not None and latency.sd**2 / n == pytest.approx(variance[0, 0])
    assert (missing.mean, missing.sd, missing.reason) == (None, None, "no_data")
    assert (refused.mean, refused.sd, refused.reason) == (None, None, "non_finite_values")


def test_a_formula_s_baseline_carries_the_covariance_of_its_inputs():
    rng = np.random.default_rng(5)
    rows = rng.multivariate_normal([10.0, 5.0], [[4.0, 1.5], [1.5, 1.0]], 4000)
    metrics = [planned(spec("a")), planned(spec("b")), planned(spec("per_b", "formula", formula="a / b"))]
    plan = BaselinePlan(unit_type="user", metrics=metrics, fact_sources=[])
    overall = Moments.from_rows(rows, np.zeros(4000, dtype=int), (1, 1))
    moments = MomentSet(("a", "b"), ("all",), (END,), overall, (), Moments.empty((0, 1), 2), overall.count)
    found = baseline_result(plan, moments, [4000], analysis_id="b", data_as_of=END, code_version="test").metrics[2]
    mean = rows.mean(axis=0)
    influence = rows[:, 0] / mean[1] - rows[:, 1] * mean[0] / mean[1] ** 2
    assert found.mean == pytest.approx(mean[0] / mean[1])
    assert found.sd == pytest.approx(influence.std(ddof=1), rel=1e-9)
