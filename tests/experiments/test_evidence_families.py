"""Families of effects: which arms, metrics and replications are shrunk together, and from which estimates."""

from typing import Any

import numpy as np
import pytest

from experiments.definitions import Direction, Estimation, MetricSpec
from experiments.evidence import Draft, ModelRequest, PastReplication
from experiments.evidence.fitted import fitted_model
from experiments.plan import AnalysisPlan, PlannedMetric, PlannedPrior
from experiments.result import ExperimentResult, Row
from experiments.types import canonical_json
from stats.bayes.models.arms import ArmsQuestion
from stats.bayes.models.exchangeable import Exchangeable, pool_questions
from stats.bayes.models.metrics import MetricsQuestion
from stats.bayes.models.replications import ReplicationsQuestion
from tests.experiments.evidence_cases import draft, moment_set, plan_of, planned, row_of, spec, variants


def plan_with(*metrics: PlannedMetric, arms: int = 2, **options: Any) -> AnalysisPlan:
    options = {"cuped": False} | options
    estimation = {name: options.pop(name) for name in list(options) if name in Estimation.model_fields}
    return plan_of(metrics, variants(arms), estimation=Estimation(**estimation), **options)


def metrics(*keys: str) -> list[PlannedMetric]:
    return [planned(spec(key), "primary" if i == 0 else "secondary") for i, key in enumerate(keys)]


def drafted(plan: AnalysisPlan, values: np.ndarray, arm: np.ndarray, **context: Any) -> Draft:
    return draft(plan, moment_set(plan, values, arm), **context)


def requests(found: Draft, purpose: str) -> list[ModelRequest]:
    return [request for request in found.model_requests if request.purpose == purpose]


def units(arms: int, width: int, n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """(n arms, width) positive correlated values whose means differ by arm."""
    rng = np.random.default_rng(4)
    arm = np.repeat(np.arange(arms), n)
    common = rng.gamma(4.0, 1.0, len(arm))
    values = np.stack([common + rng.gamma(3.0, 1.0, len(arm)) for _ in range(width)], axis=1)
    return values * (1 + 0.02 * arm)[:, None], arm


def log_lift(row: Row) -> tuple[float, float]:
    assert row.lift is not None and row.standard_error is not None
    return float(np.log1p(row.lift)), row.standard_error / (1 + row.lift)


def test_many_arms_of_a_primary_metric_are_asked_about_together_with_the_lifts_of_their_rows() -> None:
    plan = plan_with(*metrics("a", "b"), arms=5)
    found = drafted(plan, *units(5, 2))
    (request,) = requests(found, "arms")
    question = request.question
    assert isinstance(question, ArmsQuestion)
    assert (request.metric_key, request.arms) == ("a", ("control", "v1", "v2", "v3", "v4"))
    family = question.hierarchy()
    rows = [log_lift(row_of(found.document, "a", key)) for key in request.arms[1:]]
    lifts = question.log_means[1:] - question.log_means[0]
    np.testing.assert_allclose(lifts, [value for value, _ in rows], rtol=1e-12)
    np.testing.assert_allclose(np.hypot(question.errors[1:], question.errors[0]), [error for _, error in rows])
    assert len(family.value) == 4
    asked = request.effects[2]
    assert (asked.metric_key, asked.variant_key) == ("a", "v3")
    assert asked.raw_lift == pytest.approx(row_of(found.document, "a", "v3").lift)
    assert asked.raw_ci_lower == pytest.approx(row_of(found.document, "a", "v3").ci_lower, rel=1e-6)


def test_two_treatments_are_too_few_and_an_arm_without_an_estimate_is_left_out() -> None:
    assert not requests(drafted(plan_with(*metrics("a"), arms=3), *units(3, 1)), "arms")
    values, arm = units(5, 1)
    values[arm == 2] = 0.0
    (request,) = requests(drafted(plan_with(*metrics("a"), arms=5), values, arm), "arms")
    assert request.arms == ("control", "v1", "v3", "v4")
    assert [effect.variant_key for effect in request.effects] == ["v1", "v3", "v4"]


def test_all_metrics_of_a_treatment_are_asked_about_with_the_covariance_of_their_errors() -> None:
    used = metrics("a", "b", "c", "d")
    used[3] = used[3].model_copy(update={"direction": Direction.DECREASE})
    used.append(planned(spec("watched"), "monitor"))
    values, arm = units(3, 5)
    found = drafted(plan_with(*used, arms=3), values, arm)
    first, second = requests(found, "metrics")
    assert (first.variant_key, second.variant_key, first.metric_key) == ("v1", "v2", None)
    question = second.question
    assert isinstance(question, MetricsQuestion)
    assert [effect.metric_key for effect in second.effects] == ["a", "b", "c", "d"]
    assert question.scales.tolist() == [0.05, 0.05, 0.05, -0.05]
    control, treated = (values[arm == v][:, :4] for v in (0, 2))
    expected = sum(np.cov(part / part.mean(axis=0), rowvar=False) / len(part) for part in (control, treated))
    np.testing.assert_allclose(question.covariance, expected, rtol=1e-9)
    np.testing.assert_allclose(question.estimates, np.log(treated.mean(axis=0) / control.mean(axis=0)), rtol=1e-9)
    assert second.notes == ()


def test_a_metric_that_others_already_say_does_not_prove_that_effects_are_tiny() -> None:
    """c is nearly a, and total is a formula of a and b: only the first of each counts."""
    values, arm = units(2, 6)
    values[:, 2] = values[:, 0] + 1e-3 * values[:, 2]
    formula = MetricSpec(key="total", name="Total", kind="formula", formula="a + b")
    used = [*metrics("a", "b", "c", "d", "e", "f"), planned(formula)]
    (request,) = requests(drafted(plan_with(*used), values, arm), "metrics")
    assert [effect.metric_key for effect in request.effects] == ["a", "b", "d", "e", "f"]
    assert request.notes == ("Left out, because the others already say it: c, Total.",)
    assert not requests(drafted(plan_with(*used[:4]), values[:, :4], arm), "metrics"), "three are too few"


def past(experiment: str, value: float, variant: str = "v1", metric: str = "a") -> PastReplication:
    return PastReplication(experiment, metric, variant, value, 0.02)


def test_replications_of_a_primary_metric_are_pooled_with_this_experiment_first() -> None:
    plan, data = plan_with(*metrics("a", "b")), units(2, 2)
    others = (past("first", 0.1), past("other", 0.2, metric="b"), past("renamed", 0.3, variant="new"))
    found = drafted(plan, *data, replications=others)
    (request,) = requests(found, "replications")
    question = request.question
    assert isinstance(question, ReplicationsQuestion)
    value, error = log_lift(row_of(found.document, "a"))
    np.testing.assert_allclose(question.estimates, [value, 0.1, 0.3])
    np.testing.assert_allclose(question.errors, [error, 0.02, 0.02])
    assert [effect.label for effect in request.effects] == ["checkout", "first", "renamed"]
    assert (request.metric_key, request.variant_key, request.notes) == ("a", "v1", ())
    assert request.effects[1].raw_lift == pytest.approx(np.expm1(0.1))
    assert not requests(drafted(plan, *data), "replications")


def test_of_several_treatments_only_the_one_of_the_same_key_is_the_same_treatment() -> None:
    plan = plan_with(*metrics("a"), arms=3)
    others = (past("one", 0.1, "v2"), past("two", 0.2, "new"), past("many", 0.3, "v1"), past("many", 0.4, "v2"))
    first, second = requests(drafted(plan, *units(3, 1), replications=others), "replications")
    assert [effect.label for effect in first.effects] == ["checkout", "many"]
    assert [effect.label for effect in second.effects] == ["checkout", "one", "many"]
    alone = plan_with(*metrics("a"))
    (only,) = requests(drafted(alone, *units(2, 1), replications=others[2:]), "replications")
    assert [effect.label for effect in only.effects] == ["checkout", "many"]
    assert not requests(
        drafted(alone, *units(2, 1), replications=(past("x", 0.1, "p"), past("x", 0.1, "q"))), "replications"
    )


def test_a_learned_prior_that_may_know_the_replications_is_told() -> None:
    learned = PlannedPrior(prior_id="p", version=1, experiments=20, mean=0.0, scale=0.03, components=[(1.0, 0.0, 0.03)])
    used = metrics("a")[0].model_copy(update={"prior": learned})
    (request,) = requests(drafted(plan_with(used), *units(2, 1), replications=(past("x", 0.1),)), "replications")
    assert "learned from past experiments" in request.notes[0]


def test_a_family_that_was_not_fitted_still_shows_what_would_have_gone_in() -> None:
    found = drafted(plan_with(*metrics("a"), arms=4), *units(4, 1))
    (request,) = requests(found, "arms")
    model = fitted_model(request, None)
    assert (model.status, model.used, model.purpose) == ("unreliable", False, "arms")
    assert [effect.lift for effect in model.effects] == [None] * 3
    assert all(effect.raw_lift is not None for effect in model.effects)


def test_answers_become_documents_beside_the_rows_which_keep_their_beliefs() -> None:
    plan = plan_with(*metrics("a", "b", "c", "d"), arms=4)
    others = tuple(past("first", 0.03, f"v{i}") for i in (1, 2, 3))
    found = drafted(plan, *units(4, 4), replications=others)
    questions = [request.question for request in found.model_requests]
    assert [request.purpose for request in found.model_requests] == ["arms", *["metrics"] * 3, *["replications"] * 3]
    fits = pool_questions([question for question in questions if isinstance(question, Exchangeable)], seed=7)
    result = found.finish((), fits)
    result = ExperimentResult.model_validate_json(canonical_json(result.model_dump(mode="json")))
    assert result.rows == found.document.rows and result.verdict == found.document.verdict
    assert {"A15", "C4"} <= set(result.methods)
    for request, model, fit in zip(found.model_requests, result.models, fits, strict=True):
        assert (model.status, model.reason, model.used, model.method) == ("ok", None, False, "grid")
        assert (model.model, model.purpose, model.seed) == ("exchangeable", request.purpose, 7)
        assert fit.effects is not None and fit.densities is not None
        assert [effect.lift for effect in model.effects] == fit.effects.lift.tolist()
        assert [effect.difference for effect in model.effects] == [None] * len(model.effects)
        assert {item.name for item in model.hyper_parameters} >= {"mean", "between"}
        assert [(d.metric_key, d.variant_key) for d in model.densities] == [
            (effect.metric_key, effect.variant_key) for effect in request.effects
        ]
        (check,) = model.checks
        assert check.variant_key == (request.variant_key or "")
    arms = result.models[0]
    assert [arm.variant_key for arm in arms.arms] == ["control", "v1", "v2", "v3"]
    assert sum(arm.chance_to_be_best or 0.0 for arm in arms.arms) == pytest.approx(1)
    top = arms.effects[2]
    assert top.lift is not None and top.raw_lift is not None and 0 < top.lift < top.raw_lift, "shrunk"
