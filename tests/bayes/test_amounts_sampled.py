"""Models of amounts as sampled: exact integrals, models a user would write on rows, calibration (METHODS C2, I1)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps

from stats.bayes.models import hurdle_lognormal, student_t
from stats.bayes.models.fit import Question, fit
from stats.bayes.models.hurdle_lognormal import HurdleBaseline, HurdleLognormalQuestion
from stats.bayes.normal import prior_mixture
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Draws, Sampling
from tests.bayes.agreement import assert_moments, assert_same, sampled
from tests.bayes.calibration import calibrate
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories import hurdle_lognormal as revenue
from tests.bayes.stories import student_t as latency

pytestmark = [pytest.mark.simulation, pytest.mark.xdist_group("pymc"), pytest.mark.timeout(900)]

LEARNED = Prior(Family.LEARNED, 0.01, 0.03, "test", ((0.3, -0.01, 0.02), (0.7, 0.02, 0.03)))
PRIORS = [Prior.default(), Prior.default(Family.STUDENT_T4), LEARNED]
CAREFUL = Sampling(draws=4000, patience_seconds=120.0)


def draws_of(question: Question, program_of: ProgramOf, seed: int = 1) -> Draws:
    draws = program_of(question.definition, question.size).sample(question.data(), CAREFUL, seed=seed)
    assert draws.divergences == 0
    return draws


def exact_log_lift(question: HurdleLognormalQuestion) -> tuple[float, float]:
    """Mean and sd of the log lift of two arms: both halves by quadrature, component by component of the prior."""
    base, (_, scale) = question.baseline, (0, question.prior.scale)
    lift = np.linspace(-12 * scale, 12 * scale, 1201)
    # The rate: the control's log rate integrated out at every lift.
    log_rate = np.linspace(-2.2, -1.2, 401)[:, None]
    log_density = sps.norm(*base.log_rate).logpdf(log_rate)
    for rate, buyers, units in zip((log_rate, log_rate + lift), question.buyers, question.units, strict=True):
        log_density = log_density + buyers * rate + (units - buyers) * np.log1p(-np.exp(rate))
    by_rate = sc.logsumexp(log_density, axis=0)
    # The order: log sigma and the control's mu integrated out.
    by_order = np.full(lift.shape, -np.inf)
    for log_sigma in np.linspace(-0.6, 0.2, 121):
        variance = np.exp(2 * log_sigma)
        mu = np.linspace(-0.25, 0.25, 301)[:, None] + question.log_mean[0]
        log_density = sps.norm(*base.log_sigma).logpdf(log_sigma) + sps.norm(*base.log_order).logpdf(mu + variance / 2)
        for at, a in ((mu, 0), (mu + lift, 1)):
            squares = question.log_squares[a] + question.buyers[a] * (question.log_mean[a] - at) ** 2
            log_density = log_density - question.buyers[a] * log_sigma - squares / (2 * variance)
        by_order = np.logaddexp(by_order, sc.logsumexp(log_density, axis=0))
    mixture = prior_mixture(question.prior)
    rows = []
    for weight, mean, sd in zip(mixture.weight, mixture.mean, mixture.sd, strict=True):
        half = sps.norm(mean / 2, sd / np.sqrt(2)).logpdf(lift)
        evidence, moments = np.log(max(weight, 1e-300)), []
        for part in (by_rate, by_order):
            log_weight = part - part.max() + half
            evidence += sc.logsumexp(log_weight)
            share = np.exp(log_weight - sc.logsumexp(log_weight))
            centre = share @ lift
            moments.append((centre, share @ (lift - centre) ** 2))
        rows.append((evidence, moments[0][0] + moments[1][0], moments[0][1] + moments[1][1]))
    evidence, means, variances = np.array(rows).T
    share = np.exp(evidence - sc.logsumexp(evidence))
    mean = share @ means
    return float(mean), float(np.sqrt(share @ (variances + (means - mean) ** 2)))


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family)
def test_sampled_revenue_equals_the_integral(prior: Prior, program_of: ProgramOf) -> None:
    rows = revenue.make_rows(np.random.default_rng(1), 1500, arms=2)
    question = revenue.question_of(rows, prior, revenue.BASELINE, own_sigma=False)
    lift = question.monitored(draws_of(question, program_of))["log_lift[1]"]
    assert_moments(lift, *exact_log_lift(question), "log lift")


def test_sampled_revenue_without_opinions_equals_the_conjugate_forms(program_of: ProgramOf) -> None:
    rows = revenue.make_rows(np.random.default_rng(2), 800)
    vague = HurdleBaseline((-1.5, 1e3), (3.0, 1e3), (0.0, 1e3))
    question = revenue.question_of(rows, Prior.flat(), vague, own_sigma=False)
    monitored = question.monitored(draws_of(question, program_of))
    buyers, failures = question.buyers, question.units - question.buyers
    # Flat in the log of a rate is Beta(buyers, failures + 1); flat in mu and log sigma makes logs Student-t.
    rate = sc.digamma(buyers) - sc.digamma(buyers + failures + 1)
    rate_variance = sc.polygamma(1, buyers) - sc.polygamma(1, buyers + failures + 1)
    order_variance = question.log_squares.sum() / (buyers.sum() - len(buyers) - 2) / buyers
    for v in (1, 2):
        mean = rate[v] - rate[0] + question.log_mean[v] - question.log_mean[0]
        variance = rate_variance[v] + rate_variance[0] + order_variance[v] + order_variance[0]
        assert_moments(monitored[f"log_lift[{v}]"], float(mean), float(np.sqrt(variance)), f"log lift {v}")


def test_sums_of_revenue_give_the_posterior_of_rows(program_of: ProgramOf) -> None:
    rows = revenue.make_rows(np.random.default_rng(3), 600)
    question = revenue.question_of(rows, baseline=revenue.BASELINE, own_sigma=False)
    monitored = question.monitored(draws_of(question, program_of))
    kept = ("log_lift", "rate_lift", "log_sigma", "log_order")
    by_rows = sampled(revenue.row_level(rows), kept, seed=3)
    for v in (1, 2):
        assert_same(monitored[f"log_lift[{v}]"], by_rows["log_lift"][..., v - 1], f"log lift {v}")
        assert_same(monitored[f"log_rate_lift[{v}]"], by_rows["rate_lift"][..., v - 1], f"lift of the rate {v}")
    assert_same(monitored["log_sigma[0]"], by_rows["log_sigma"], "log sigma")


def test_bins_of_values_give_the_posterior_of_rows(program_of: ProgramOf) -> None:
    rows = latency.make_rows(np.random.default_rng(4), 400)
    question = latency.question_of(rows, baseline=latency.BASELINE)
    monitored = question.monitored(draws_of(question, program_of))
    by_rows = sampled(latency.row_level(rows), ("log_lift", "log_location", "log_scale", "tail"), seed=4)
    for v in (1, 2):
        assert_same(monitored[f"log_lift[{v}]"], by_rows["log_lift"][..., v - 1], f"log lift {v}")
    for a in range(3):
        assert_same(monitored[f"log_scale[{a}]"], by_rows["log_scale"][..., a], f"log scale {a}")
    assert_same(np.log(monitored["location[0]"]), by_rows["log_location"], "log location")
    assert_same(monitored["log_tail"], np.log(by_rows["tail"]), "log(nu - 1)")


@pytest.mark.parametrize("story", [revenue, latency], ids=["hurdle_lognormal", "student_t"])
def test_a_larger_size_class_gives_the_same_answer(story, program_of: ProgramOf) -> None:  # type: ignore[no-untyped-def]
    rows = story.make_rows(np.random.default_rng(5), 1000, arms=3)
    question = story.question_of(rows)
    padded = {name: _wider(name, values, 8) for name, values in question.data().items()}
    one = question.monitored(draws_of(question, program_of))
    other = program_of(question.definition, 8).sample(padded, CAREFUL, seed=6)
    for name, draws in question.monitored(other).items():
        assert_same(draws, one[name], name)


def _wider(name: str, values: np.ndarray, size: int) -> np.ndarray:
    if name in ("lift_prior", "baseline", "priors", "scales", "middle"):
        return values
    arms = 0 if name == "counts" else values.ndim - 1
    gap = [(0, size - 3 if axis == arms else 0) for axis in range(values.ndim)]
    return np.pad(values, gap, constant_values=1.0 if name == "width" else 0.0)


@pytest.mark.parametrize(
    ("simulate", "definition"),
    [
        (revenue.simulate, hurdle_lognormal.DEFINITION),
        (revenue.simulate_own_sigmas, hurdle_lognormal.DEFINITION),
        (latency.simulate, student_t.DEFINITION),
    ],
    ids=["hurdle_lognormal", "own_sigmas", "student_t"],
)
def test_truths_from_the_prior_rank_uniformly_in_their_posteriors(simulate, definition, program_of: ProgramOf) -> None:  # type: ignore[no-untyped-def]
    found = calibrate(simulate, program_of(definition, 3), 300, seed=7)
    assert min(found.p_values().values()) > 0.001, found.p_values()
    # 300 fits at 90 %: 4 standard errors.
    assert all(abs(covered - 0.9) < 4 * np.sqrt(0.09 / 300) for covered in found.coverage().values())
    assert found.divergent <= 3


def test_a_tail_that_is_not_lognormal_is_seen_after_sampling(program_of: ProgramOf) -> None:
    rng = np.random.default_rng(8)
    rows = revenue.make_rows(rng, 5000)
    good = fit(revenue.question_of(rows), program_of, Sampling(), seed=8)
    pareto = revenue.Rows(rows.arm, (rows.amount > 0) * 5.0 * (1 + rng.pareto(1.6, len(rows.arm))))
    bad = fit(revenue.question_of(pareto), program_of, Sampling(), seed=8)
    assert good.status == bad.status == "ok"
    assert all(check.passed for check in good.checks)
    assert not all(check.passed for check in bad.checks if check.statistic == "arithmetic_mean")
    assert not any(check.passed for check in bad.checks if check.statistic == "percentile_99")
