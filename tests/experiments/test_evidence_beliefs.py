"""The prior each metric is analysed with, what the document says about it, and what other priors would have said."""

from datetime import timedelta

import numpy as np
import pytest

from experiments.definitions import Beliefs, Estimation, Sequential
from experiments.plan import PlannedPrior
from stats.bayes.normal import posterior
from stats.bayes.prior import Family, Prior
from tests.experiments.evidence_cases import END, document, moment_set, plan_of, planned, row_of, spec, variants

N = 4000
COMPONENTS = [(0.7, 0.001, 0.008), (0.3, 0.001, 0.03)]


@pytest.fixture(scope="module")
def values() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    arm = rng.integers(0, 2, N)
    return np.stack([10 + 0.25 * arm + rng.normal(0, 4, N), 5 - 0.1 * arm + rng.normal(0, 2, N)], axis=1), arm


def learned(experiments: int = 12) -> PlannedPrior:
    scale = float(np.sqrt(sum(w * (m**2 + s**2) for w, m, s in COMPONENTS) - 0.001**2))
    return PlannedPrior(
        prior_id="p1", version=3, experiments=experiments, mean=0.001, scale=scale, components=COMPONENTS
    )


def built(values, beliefs: Beliefs | None = None, prior: PlannedPrior | None = None, **options):
    metrics = [planned(spec("spend"), "primary", prior=prior), planned(spec("visits", direction="decrease"))]
    estimation = Estimation(cuped=False, beliefs=beliefs or Beliefs(), **options)
    plan = plan_of(metrics, estimation=estimation)
    return document(plan, moment_set(plan, *values))


def test_a_learned_prior_is_used_for_its_metric_and_no_other(values):
    result = built(values, prior=learned())
    spend, visits = row_of(result, "spend"), row_of(result, "visits")
    log_lift, error = np.log1p(spend.lift), spend.standard_error / (1 + spend.lift)
    prior = Prior(Family.LEARNED, 0.001, learned().scale, "", tuple(COMPONENTS))
    belief = posterior(np.array(log_lift), np.array(error), prior)
    assert spend.chance_to_win == pytest.approx(float(belief.chance_to_win), rel=1e-9)
    assert spend.posterior_lift == pytest.approx(float(belief.lift), rel=1e-9)
    assert spend.prior_source == "learned from 12 experiments (version 3)"
    assert visits.prior_source == "default: Normal(0, 0.05) on the log lift"
    use = {item.metric_key: item for item in result.priors}
    assert (use["spend"].family, use["spend"].prior_id, use["spend"].experiments) == ("learned", "p1", 12)
    assert (use["visits"].family, use["visits"].prior_id) == ("normal", None)


def test_a_learned_prior_is_left_alone_when_the_plan_states_its_own(values):
    row = row_of(built(values, Beliefs(prior="stated"), learned(), prior_scale=0.02), "spend")
    assert row.prior_source == "plan: Normal(0, 0.02) on the log lift"


def test_without_a_prior_the_posterior_is_the_likelihood(values):
    row = row_of(built(values, Beliefs(prior="flat")), "spend")
    assert row.posterior_lift == pytest.approx(row.lift, rel=1e-4)
    assert [row.hdi_lower, row.hdi_upper] == pytest.approx([row.ci_lower, row.ci_upper], rel=2e-3)


def test_a_metric_that_should_fall_wins_by_falling(values):
    row = row_of(built(values), "visits")
    assert row.lift < 0 < row.chance_to_win
    assert row.chance_to_win > 0.5


def test_other_priors_stand_beside_the_planned_one(values):
    result = built(values, prior=learned())
    (shown,) = result.prior_sensitivity
    assert [item.prior for item in shown.alternatives] == [
        "as planned",
        "half as wide",
        "twice as wide",
        "fat tails",
        "default",
        "no prior",
    ]
    by_name = {item.prior: item for item in shown.alternatives}
    row = row_of(result, "spend")
    assert by_name["as planned"].chance_to_win == row.chance_to_win
    assert by_name["no prior"].posterior_lift == pytest.approx(row.lift, rel=1e-4)
    lifts = [by_name[name].posterior_lift for name in ("half as wide", "twice as wide", "no prior")]
    assert lifts == sorted(lifts), "a narrower prior pulls more towards its mean"


@pytest.mark.parametrize(("threshold", "robust"), [(0.6, True), (0.8, False)])
def test_an_effect_is_robust_when_every_prior_leads_to_the_same_side(values, threshold, robust):
    (shown,) = built(values, Beliefs(chance_to_win=threshold), learned()).prior_sensitivity
    chances = [item.chance_to_win for item in shown.alternatives if item.prior != "no prior"]
    assert shown.robust is robust, chances


def test_looks_carry_beliefs_for_what_decides(values):
    result = built(values)
    spend = [look for look in result.looks if look.metric_key == "spend"]
    visits = [look for look in result.looks if look.metric_key == "visits"]
    assert spend[-1].chance_to_win == pytest.approx(row_of(result, "spend").chance_to_win, rel=1e-9)
    assert visits[-1].chance_to_win is None
    assert spend[-1].expected_loss_of_not_shipping - spend[-1].expected_loss == pytest.approx(
        np.log1p(spend[-1].posterior_lift), rel=1e-6
    )


def test_the_frequentist_engine_says_nothing_about_beliefs(values):
    result = built(values, engine="frequentist")
    assert result.priors == [] and result.prior_sensitivity == []
    assert row_of(result, "spend").chance_to_win is None
    assert result.looks[-1].chance_to_win is None


def several_arms(engine: str = "both"):
    rng = np.random.default_rng(8)
    arm = rng.integers(0, 4, 8000)
    spend = 10 + np.array([0.0, 0.1, 0.6, 0.2])[arm] + rng.normal(0, 4, 8000)
    plan = plan_of([planned(spec("spend"), "primary")], variants(4), estimation=Estimation(cuped=False, engine=engine))
    return document(plan, moment_set(plan, spend[:, None], arm))


def test_of_several_variants_each_has_its_chance_to_be_best():
    result = several_arms()
    chances = {arm.variant_key: arm.chance_to_be_best for arm in result.best_variants}
    assert list(chances) == ["control", "v1", "v2", "v3"]
    assert sum(chances.values()) == pytest.approx(1, abs=1e-3)
    assert max(chances, key=chances.get) == "v2"
    losses = {arm.variant_key: arm.expected_loss for arm in result.best_variants}
    assert min(losses, key=losses.get) == "v2" and losses["control"] > losses["v3"] > 0
    assert several_arms("frequentist").best_variants == []


def test_one_treatment_has_a_chance_to_win_and_needs_no_ranking(values):
    assert built(values).best_variants == []


def test_without_a_prior_nothing_is_believed_before_the_planned_end(values):
    fixed = Sequential(method="fixed")
    metrics = [planned(spec("spend"), "primary")]
    options = Estimation(cuped=False, beliefs=Beliefs(prior="flat"), sequential=fixed)
    plan = plan_of(metrics, estimation=options, planned_end_at=END + timedelta(days=14))
    moments = moment_set(plan, values[0][:, :1], values[1])
    early = document(plan, moments, stopped_at=None)
    assert row_of(early, "spend").lift is not None
    assert row_of(early, "spend").chance_to_win is None
    assert early.prior_sensitivity == [] and early.densities == [] and early.looks[-1].chance_to_win is None
    assert "withheld until the planned end" in early.monitoring
