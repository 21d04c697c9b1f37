"""The closed-form Bayesian readout against brute force, and its calibration (METHODS C1, C5)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps

from stats.bayes.density import density_curves
from stats.bayes.normal import Posterior, posterior
from stats.bayes.prior import Family, Prior

NORMAL, STUDENT = Prior.default(), Prior.default(Family.STUDENT_T4)


def brute_force(estimate: float, error: float, prior: Prior, rope: float) -> dict[str, float]:
    """The same quantities on a dense grid over delta, refined around both the prior and the likelihood."""
    centres = [(estimate, error), (prior.mean, prior.scale)]
    edges = np.array([-np.log1p(rope), 0.0, np.log1p(rope)])
    x = [c + s * np.sinh(np.linspace(-8, 8, 40_001)) for c, s in centres]
    x = np.unique(np.concatenate([*x, edges - 1e-12, edges + 1e-12]))  # both sides of every step
    family = sps.norm(prior.mean, prior.scale) if prior.family is Family.NORMAL else sps.t(4, prior.mean, prior.scale)
    log_density = family.logpdf(x) - 0.5 * ((x - estimate) / error) ** 2
    density = np.exp(log_density - log_density.max())
    density /= np.trapezoid(density, x)
    mean = np.trapezoid(x * density, x)
    edge = np.log1p(rope)
    return {
        "mean": mean,
        "sd": np.sqrt(np.trapezoid((x - mean) ** 2 * density, x)),
        "chance_to_win": np.trapezoid(np.where(x > 0, density, 0), x),
        "expected_loss": np.trapezoid(np.where(x < 0, -x * density, 0), x),
        "expected_loss_of_not_shipping": np.trapezoid(np.where(x > 0, x * density, 0), x),
        "rope_probability": np.trapezoid(np.where(np.abs(x) < edge, density, 0), x),
    }


@pytest.mark.parametrize("prior", [NORMAL, STUDENT, Prior(Family.STUDENT_T4, 0.01, 0.2, "wide")])
@pytest.mark.parametrize(("estimate", "error"), [(0.02, 0.01), (-0.05, 0.3), (0.4, 0.02), (0.001, 0.0005), (0.0, 0.03)])
def test_every_quantity_equals_brute_force_integration(prior: Prior, estimate: float, error: float) -> None:
    result = posterior(np.array(estimate), np.array(error), prior, rope=0.01)
    for name, expected in brute_force(estimate, error, prior, 0.01).items():
        np.testing.assert_allclose(getattr(result, name), expected, rtol=1e-5, atol=1e-8, err_msg=name)


def test_a_normal_prior_gives_the_precision_weighted_update_and_symmetric_interval() -> None:
    result = posterior(np.array([0.03, -0.01]), np.array([0.02, 0.05]), NORMAL)
    precision = 1 / np.array([0.02, 0.05]) ** 2 + 1 / 0.05**2
    np.testing.assert_allclose(result.mean, np.array([0.03, -0.01]) / np.array([0.02, 0.05]) ** 2 / precision)
    np.testing.assert_allclose(result.sd, precision**-0.5)
    np.testing.assert_allclose(np.log1p(result.hdi_upper), result.mean + 1.959964 * result.sd, rtol=1e-6)
    np.testing.assert_allclose(result.lift, np.expm1(result.mean))


def test_the_hdi_of_a_skewed_posterior_holds_its_level_and_is_the_shortest_interval() -> None:
    estimate, error = np.array([0.12, 0.3, -0.01]), np.array([0.05, 0.06, 0.01])
    result = posterior(estimate, error, STUDENT)
    ends = np.log1p(np.stack([result.hdi_lower, result.hdi_upper], axis=-1))
    inside = np.diff(result.mixture.cdf(ends), axis=-1)[:, 0]
    np.testing.assert_allclose(inside, 0.95, atol=1e-4)
    density = result.mixture.density(ends)
    np.testing.assert_allclose(density[:, 0], density[:, 1], rtol=0.06)
    equal_tails = result.mixture.cdf(ends)[:, 0]
    assert abs(equal_tails[0] - 0.025) > 0.002


def test_for_a_metric_where_less_is_better_winning_means_going_down() -> None:
    estimate, error = np.array([-0.03]), np.array([0.01])
    up, down = posterior(estimate, error, STUDENT), posterior(estimate, error, STUDENT, direction="decrease")
    mirrored = posterior(-estimate, error, STUDENT)
    np.testing.assert_allclose(down.chance_to_win, 1 - up.chance_to_win, atol=1e-12)
    np.testing.assert_allclose(down.chance_to_win, mirrored.chance_to_win, rtol=1e-12)
    np.testing.assert_allclose(down.expected_loss, up.expected_loss_of_not_shipping, rtol=1e-9)
    assert down.mean[0] == up.mean[0] < 0


def test_a_fat_tailed_prior_gives_way_to_a_surprising_estimate_and_a_normal_one_does_not() -> None:
    estimate, error = np.array(0.5), np.array(0.05)
    assert float(posterior(estimate, error, STUDENT).mean) > 0.45
    assert float(posterior(estimate, error, Prior(Family.NORMAL, 0, 0.03, "narrow")).mean) < 0.15


def test_practical_equivalence_is_decided_by_the_whole_interval() -> None:
    result = posterior(np.array([0.0, 0.2, 0.01]), np.array([0.002, 0.01, 0.02]), NORMAL, rope=0.02)
    assert result.rope_decision.tolist() == ["equivalent", "different", "undecided"]


def test_cells_without_an_estimate_are_masked_with_a_reason_and_change_nothing_else() -> None:
    estimate, error = np.array([[0.02, np.nan], [0.01, np.inf]]), np.array([[0.01, 0.01], [0.0, 0.01]])
    result = posterior(estimate, error, STUDENT)
    assert result.estimable.tolist() == [[True, False], [False, False]]
    assert result.reason[0].tolist() == ["", "effect_not_estimable"]
    alone = posterior(np.array(0.02), np.array(0.01), STUDENT)
    for name in ("mean", "sd", "chance_to_win", "expected_loss", "hdi_lower"):
        values = getattr(result, name)
        assert values[0, 0] == getattr(alone, name)
        assert np.isnan(values[0, 1])
        assert np.isnan(values[1]).all()


def test_prior_and_posterior_curves_each_enclose_one_unit_of_probability() -> None:
    estimate, error = np.array([0.02, 0.02, np.nan]), np.array([0.002, 0.2, 0.1])
    curves = density_curves(posterior(estimate, error, NORMAL), points=401)
    assert curves.lift.shape == (3, 401)
    area = np.trapezoid(curves.posterior[:2], curves.lift[:2])
    np.testing.assert_allclose(area, 1.0, atol=2e-3)
    np.testing.assert_allclose(np.trapezoid(curves.prior[:2], curves.lift[:2]), [0.9876, 1.0], atol=3e-3)
    assert np.isnan(curves.posterior[2]).all()


def test_the_report_says_where_the_prior_came_from() -> None:
    assert posterior(np.array(0.0), np.array(1.0), NORMAL).prior_source == "default: Normal(0, 0.05) on the log lift"
    with pytest.raises(ValueError, match="positive finite scale"):
        Prior(Family.NORMAL, 0.0, 0.0, "degenerate")
    with pytest.raises(ValueError, match="rope"):
        posterior(np.array(0.0), np.array(1.0), NORMAL, rope=-0.1)


def simulated(prior: Prior, replicates: int, seed: int) -> tuple[np.ndarray, Posterior]:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(replicates) if prior.family is Family.NORMAL else rng.standard_t(4, replicates)
    truth = prior.mean + prior.scale * noise
    error = rng.uniform(0.3, 2.0, replicates) * prior.scale
    return truth, posterior(truth + error * rng.standard_normal(replicates), error, prior)


@pytest.mark.parametrize("prior", [NORMAL, STUDENT])
def test_simulation_based_calibration_ranks_are_uniform_and_chances_mean_what_they_say(prior: Prior) -> None:
    replicates = 2000
    truth, result = simulated(prior, replicates, seed=11)
    rank = result.mixture.cdf(truth[:, None])[:, 0]
    counts = np.histogram(rank, bins=20, range=(0, 1))[0]
    assert sc.chdtrc(19, ((counts - replicates / 20) ** 2 / (replicates / 20)).sum()) > 0.001
    covered = ((truth >= np.log1p(result.hdi_lower)) & (truth <= np.log1p(result.hdi_upper))).mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / replicates) + 0.005
    # P(better) is a probability: regressing the outcome on it has slope one.
    slope = np.polyfit(result.chance_to_win, (truth > 0).astype(float), 1)[0]
    assert abs(slope - 1) < 0.06


@pytest.mark.parametrize("direction", ["increase", "decrease"])
@pytest.mark.parametrize("prior", [NORMAL, STUDENT])
def test_a_guardrail_is_within_its_margin_as_often_as_draws_of_its_lift_are(prior: Prior, direction: str) -> None:
    result = posterior(np.array([0.01, -0.02, np.nan]), np.array([0.01, 0.02, 0.01]), prior, direction=direction)  # type: ignore[arg-type]
    rng = np.random.default_rng(11)
    for cell in range(2):
        weight = result.mixture.weight[cell]
        which = rng.choice(weight.size, size=100_000, p=weight)
        draws = result.mixture.mean[cell, which] + result.mixture.sd[cell, which] * rng.standard_normal(which.size)
        lifts = np.expm1(draws)
        safe = (lifts > -0.02) if direction == "increase" else (lifts < 0.02)
        assert result.chance_within(np.array(0.02))[cell] == pytest.approx(safe.mean(), abs=4 * 0.5 / np.sqrt(1e5))
    assert np.isnan(result.chance_within(np.array(0.02))[2])
    no_margin = result.chance_within(np.array(0.0))[:2]
    np.testing.assert_allclose(no_margin, result.chance_to_win[:2], rtol=1e-9)
