"""Models of units: what is asked of them, and what their answers do to rows, densities and the verdict."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Beliefs, Estimation, MetricSpec
from experiments.evidence import Draft, ModelRequest
from experiments.evidence.fitted import NOT_ASKED
from experiments.evidence.models import NO_SINGLE_UNITS
from experiments.plan import AnalysisPlan
from experiments.result import ExperimentResult, FittedModel
from experiments.types import canonical_json
from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.models.fit import ModelFit
from stats.bayes.sampling.contract import Draws
from stats.unit_summary import CLUSTERED, UnitSummary
from tests.experiments.evidence_cases import draft, moment_set, north_star, plan_of, planned, row_of, spec, variants

UNITS = 4000
CONVERTED = (0.10, 0.13)
NUMBERS = (
    "chance_to_win",
    "expected_loss",
    "expected_loss_of_not_shipping",
    "rope_probability",
    "posterior_lift",
    "hdi_lower",
    "hdi_upper",
)


def conversion(key: str = "bought", **fields: Any) -> MetricSpec:
    return spec(key, "proportion", likelihood="beta_binomial", **fields)


def plan_with(*metrics: MetricSpec, arms: int = 2, **options: Any) -> AnalysisPlan:
    options = {"cuped": False} | options
    estimation = {name: options.pop(name) for name in list(options) if name in Estimation.model_fields}
    roles = ("primary", *["secondary"] * (len(metrics) - 1))
    used = [planned(metric, role) for metric, role in zip(metrics, roles, strict=True)]
    return plan_of(used, variants(arms), estimation=Estimation(**estimation), **options)


def rows_of(arms: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(n,) conversions and the arm of each unit: exact shares, no noise."""
    arm = np.repeat(np.arange(arms), UNITS)
    shares = (CONVERTED[0], *[CONVERTED[1]] * (arms - 1))
    value = np.concatenate([np.arange(UNITS) < share * UNITS for share in shares]).astype(np.float64)
    return value, arm


def summary_of(value: np.ndarray, arm: np.ndarray, **changes: Any) -> UnitSummary:
    count = np.bincount(arm)
    total = np.bincount(arm, weights=value)
    return replace(UnitSummary("beta_binomial", count, total, total - total**2 / count), **changes)


def drafted(plan: AnalysisPlan, units: dict[str, UnitSummary] | None = None, **context: Any) -> Draft:
    value, arm = rows_of(len(plan.variants))
    columns = np.tile(value[:, None], (1, len(plan.metrics)))
    known = {m.metric_key: summary_of(value, arm) for m in plan.metrics if m.spec.likelihood != "lift"}
    return draft(plan, moment_set(plan, columns, arm, units=known if units is None else units), **context)


def answer(request: ModelRequest, shift: float = 0.0) -> ModelFit:
    """The model's own summary of draws from the conjugate posterior under a flat prior; `shift` puts them elsewhere."""
    question = request.question
    assert isinstance(question, BetaBinomialQuestion)
    rng = np.random.default_rng(5)
    k, n = question.successes, question.units
    draws = rng.beta(k + 0.5, n - k + 0.5, (4, 1000, len(n))) + shift
    return question.summarise(Draws({"mean": draws}, 0), seed=3)


def finished(found: Draft, **options: Any) -> ExperimentResult:
    """As stored: through canonical JSON, by a process that only got the draft's bytes."""
    again: Draft = pickle.loads(pickle.dumps(found))
    result = again.finish((), [answer(request, **options) for request in again.model_requests])
    return ExperimentResult.model_validate_json(canonical_json(result.model_dump(mode="json")))


def only(result: ExperimentResult) -> FittedModel:
    (model,) = result.models
    return model


def test_a_metric_with_a_likelihood_asks_its_model_about_all_arms() -> None:
    found = drafted(plan_with(conversion(), spec("other"), arms=3))
    (request,) = found.model_requests
    question = request.question
    assert isinstance(question, BetaBinomialQuestion)
    assert question.units.tolist() == [UNITS] * 3
    assert question.successes.tolist() == [UNITS * share for share in (CONVERTED[0], *[CONVERTED[1]] * 2)]
    assert (question.direction, question.level, question.prior.scale) == ("increase", 0.95, 0.05)
    assert [(effect.metric_key, effect.variant_key) for effect in request.effects] == [
        ("bought", "v1"),
        ("bought", "v2"),
    ]
    assert not found.not_asked


def test_rows_take_the_beliefs_of_a_model_that_describes_the_units() -> None:
    plan = plan_with(conversion(), spec("other"), north_star=north_star("bought", "other", ["other"]))
    found = drafted(plan)
    result, before = finished(found), found.document
    model, row, was = only(result), row_of(result, "bought"), row_of(before, "bought")
    assert (model.status, model.used, model.reason) == ("ok", True, None)
    assert model.purpose == "likelihood" and model.checks and all(check.passed for check in model.checks)
    (effect,) = model.effects
    for name in NUMBERS:
        assert getattr(row, name) == getattr(effect, "lift" if name == "posterior_lift" else name)
    # A flat prior on the rates instead of one on the lift: the model is further from zero than the row was.
    assert row.posterior_lift is not None and was.posterior_lift is not None
    assert row.posterior_lift == pytest.approx(CONVERTED[1] / CONVERTED[0] - 1, abs=0.02)
    assert row.posterior_lift > was.posterior_lift + 0.05
    assert row.prior_source == f"{was.prior_source}; beta-binomial units"
    for name in set(type(row).model_fields) - {*NUMBERS, "prior_source"}:
        assert getattr(row, name) == getattr(was, name), name
    assert result.densities[:1] == model.densities != before.densities[:1]
    assert result.densities[1:] == before.densities[1:]
    assert result.north_star[0].direct.chance_to_win == row.chance_to_win
    assert "C2" in result.methods and "C2" not in before.methods
    assert [arm.variant_key for arm in model.arms] == ["control", "v1"]
    assert sum(arm.chance_to_be_best or 0 for arm in model.arms) == pytest.approx(1)


def test_the_engines_decide_on_the_beliefs_that_the_rows_have_in_the_end() -> None:
    found = drafted(plan_with(conversion(), engine="bayesian"))
    result = finished(found)
    row, was = row_of(result, "bought"), row_of(found.document, "bought")
    (decided,) = [item for item in result.decisions if item.engine == "bayesian"]
    (before,) = [item for item in found.document.decisions if item.engine == "bayesian"]
    assert decided.chance_to_win == row.chance_to_win != was.chance_to_win == before.chance_to_win
    assert decided.expected_loss == row.expected_loss


def test_rows_keep_their_beliefs_where_a_predictive_check_of_the_model_fails() -> None:
    found = drafted(plan_with(conversion()))
    result = finished(found, shift=0.03)
    model = only(result)
    assert (model.status, model.used) == ("ok", False)
    failed = next(check for check in model.checks if not check.passed)
    assert model.reason is not None and failed.statistic in model.reason and failed.variant_key in model.reason
    assert result.rows == found.document.rows and result.densities == found.document.densities


def test_rows_that_know_more_than_the_model_keep_their_beliefs() -> None:
    value, arm = rows_of()
    rng = np.random.default_rng(1)
    before = np.where(rng.random(len(value)) < 0.9, value, 1 - value)
    plan = plan_with(conversion(pre_period_days=7), cuped=True)
    found = draft(
        plan, moment_set(plan, np.column_stack([value, before]), arm, units={"bought": summary_of(value, arm)})
    )
    assert (row_of(found.document, "bought").variance_reduction or 0) > 0.05
    model = only(finished(found))
    assert model.reason is not None and not model.used and "before exposure" in model.reason

    plan = plan_with(conversion(), stratify_by=["country"])
    strata = {"strata": ("a", "b"), "stratum": np.arange(len(value)) % 2}
    found = draft(plan, moment_set(plan, value[:, None], arm, units={"bought": summary_of(value, arm)}, **strata))
    model = only(finished(found))
    assert model.reason is not None and not model.used and "strata" in model.reason


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ({"bought": summary_of(*rows_of(), reason=CLUSTERED)}, CLUSTERED),
        ({"bought": summary_of(*rows_of(), reason="non_finite_values")}, "non_finite_values"),
        ({}, NO_SINGLE_UNITS),
    ],
)
def test_units_that_cannot_be_modelled_have_a_reason_and_no_numbers(units: dict[str, UnitSummary], reason: str) -> None:
    found = drafted(plan_with(conversion()), units)
    assert not found.model_requests
    result = finished(found)
    model = only(result)
    assert (model.status, model.reason, model.used) == ("not_estimable", reason, False)
    assert not model.effects and model.diagnostics is None
    assert result.rows == found.document.rows


def test_a_model_that_fails_or_is_not_asked_costs_only_itself() -> None:
    found = drafted(plan_with(conversion()))
    (request,) = found.model_requests
    definition = request.question.definition
    broken = ModelFit(definition.name, definition.version, "unreliable", "3 divergent transitions")
    for result, reason in (
        (found.finish((), [broken]), "3 divergent transitions"),
        (found.finish(), NOT_ASKED),
    ):
        model = only(result)
        assert (model.status, model.reason, model.used) == ("unreliable", reason, False)
        assert [effect.lift for effect in model.effects] == [None]
        assert result.rows == found.document.rows and result.verdict == found.document.verdict
    with pytest.raises(ValueError, match="argument 2"):
        found.finish((), [broken, broken])


def test_nothing_is_asked_without_the_bayesian_engine_or_before_a_flat_prior_may_be_looked_at() -> None:
    assert drafted(plan_with(conversion(), engine="frequentist")).finish().models == []
    flat = plan_with(conversion(), beliefs=Beliefs(prior="flat"), sequential={"method": "fixed"})
    running = drafted(flat, stopped_at=None)
    assert not running.model_requests and not running.not_asked
    assert len(drafted(flat).model_requests) == 1


def test_a_monitored_metric_is_not_modelled() -> None:
    plan = plan_with(spec("other"), conversion())
    watched = [plan.metrics[0], planned(conversion(), "monitor")]
    assert not drafted(plan.model_copy(update={"metrics": watched})).model_requests


def test_the_cap_that_applies_is_told() -> None:
    value, arm = rows_of()
    found = drafted(plan_with(conversion()), {"bought": summary_of(value, arm, cap=120.0)})
    assert only(finished(found)).notes == ["Values above the cap of 120 count as the cap."]
