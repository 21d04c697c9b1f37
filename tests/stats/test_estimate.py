"""Arm estimates carry the covariance that the data have, whatever the kind of metric."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stats.difference import difference
from stats.estimate import MetricShape, covariance_from_gradients, estimate
from stats.lift import lift
from stats.moments import Moments
from stats.reasons import CovariateNote, Reason
from stats.skewness import difference_skewness
from tests.stats.moment_cases import arms

SHAPES = (
    MetricShape("orders", "mean", 0, covariates=(3,)),
    MetricShape("active", "proportion", 2),
    MetricShape("orders_per_session", "ratio", 0, 1, covariates=(3, 4)),
)


def experiment(rng: np.random.Generator, units: int, replications: int = 1, variants: int = 3) -> Moments:
    """Columns orders, sessions, active, orders before, sessions before; unequal arms; cells (replications, arms)."""
    weight = np.linspace(0.2, 1.0, variants)
    sizes = np.maximum((units * weight / weight.sum()).astype(int), 3)
    arm = np.tile(np.repeat(np.arange(variants), sizes), replications)
    cell = np.repeat(np.arange(replications), sizes.sum()) * variants + arm
    taste = rng.gamma(2.0, 0.5, arm.size)
    before, after = rng.poisson(3 * taste) + 1, rng.poisson(3 * taste) + 1
    rows = np.column_stack(
        [rng.binomial(after, 0.4), after, after > 2, rng.binomial(before, 0.4), before],
    )
    return Moments.from_rows(rows, cell, (replications, variants))


def test_joint_covariance_is_the_general_gradient_algebra():
    estimates = estimate(experiment(np.random.default_rng(1), 900)[0], SHAPES)
    arms_, metrics, k = estimates.gradient.shape
    share = estimates.count / estimates.count.sum()
    rows = np.zeros((arms_, metrics, arms_, k))
    for a in range(arms_):
        for b in range(arms_):
            rows[a, :, b] = share[b] * estimates.slope + (a == b) * estimates.residual_gradient[a]
    flat = rows.reshape(arms_ * metrics, arms_, k)
    expected = covariance_from_gradients(flat, estimates.mean_covariance)
    joint = estimates.covariance.reshape(arms_ * metrics, arms_ * metrics)
    np.testing.assert_allclose(joint, expected, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(joint, joint.T, rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(estimates.standard_error.ravel() ** 2, np.diag(expected), rtol=1e-10)
    # A difference between arms needs only each arm's own part: the pooled covariate mean cancels.
    contrast = np.zeros((arms_, metrics))
    contrast[0, 0], contrast[2, 0] = -1, 1
    variance = contrast.ravel() @ joint @ contrast.ravel()
    assert variance == pytest.approx(estimates.variance[0, 0] + estimates.variance[2, 0], rel=1e-10)


def test_joint_covariance_is_what_replications_show():
    replications = 1500
    estimates = estimate(experiment(np.random.default_rng(2), 600, replications), SHAPES)
    flat = estimates.value.reshape(replications, -1)
    observed, claimed = np.cov(flat.T), estimates.covariance.reshape(replications, flat.shape[1], -1).mean(axis=0)
    scale = np.sqrt(np.outer(np.diag(claimed), np.diag(claimed)))
    assert np.abs((observed - claimed) / scale).max() < 4 * np.sqrt(2 / replications)


def test_a_formula_is_a_metric_like_any_other():
    def orders_per_session(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ratio = mean[..., 0] / mean[..., 1]
        return ratio, np.stack([1 / mean[..., 1], -ratio / mean[..., 1]], axis=-1)

    moments = experiment(np.random.default_rng(3), 900)[0]
    as_formula = MetricShape("f", "formula", inputs=(0, 1), evaluate=orders_per_session, covariates=(3, 4))
    both = estimate(moments, (SHAPES[2], as_formula))
    np.testing.assert_allclose(both.value[:, 1], both.value[:, 0], rtol=1e-13)
    np.testing.assert_allclose(both.variance[:, 1], both.variance[:, 0], rtol=1e-13)


def test_an_undefined_formula_is_refused():
    def log_of_first(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.log(mean[..., 0]), 1 / mean

    rng = np.random.default_rng(4)
    moments = arms([rng.normal(5, 1, 50)], [rng.normal(-5, 1, 50)])
    got = estimate(moments, (MetricShape("f", "formula", inputs=(0,), evaluate=log_of_first),))
    assert got.reason[:, 0].tolist() == ["", Reason.FORMULA_UNDEFINED]


def test_cells_are_estimated_as_if_alone():
    moments = experiment(np.random.default_rng(5), 300, replications=4)
    together = estimate(moments, SHAPES)
    for i in range(4):
        alone = estimate(moments[i], SHAPES)
        np.testing.assert_allclose(together.value[i], alone.value, rtol=1e-13)
        np.testing.assert_allclose(together.covariance[i], alone.covariance, rtol=1e-11, atol=1e-18)


def test_an_arm_without_units_leaves_the_others_as_they_were():
    rng = np.random.default_rng(6)
    rows = rng.normal(5, 1, (200, 2))
    with_empty = estimate(
        Moments.from_rows(rows, np.arange(200) % 2, 3), (MetricShape("m", "mean", 0, covariates=(1,)),)
    )
    without = estimate(Moments.from_rows(rows, np.arange(200) % 2, 2), (MetricShape("m", "mean", 0, covariates=(1,)),))
    np.testing.assert_allclose(with_empty.value[:2], without.value, rtol=1e-13)
    assert with_empty.reason[2, 0] == Reason.TOO_FEW_UNITS and np.isnan(with_empty.value[2, 0])
    assert np.isfinite(with_empty.covariance).all()


def test_unadjusted_estimates_say_that_there_was_no_covariate():
    moments = experiment(np.random.default_rng(7), 1200)[0]
    assert estimate(moments, SHAPES).note.tolist() == ["", CovariateNote.NONE, ""]
    plain = estimate(moments, SHAPES, adjust=False)
    assert set(plain.note) == {CovariateNote.NONE}
    np.testing.assert_array_equal(plain.value, plain.unadjusted)


def test_shapes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="denominator"):
        MetricShape("r", "ratio", 0)
    with pytest.raises(ValueError, match="formula"):
        MetricShape("f", "formula")
    with pytest.raises(ValueError, match="value column"):
        MetricShape("m", "mean")


@given(st.integers(0, 100_000), st.integers(0, 12), st.sampled_from([0.0, 1.0, 1e-9, 1e9]))
@example(178, 10, 1.0)
@settings(deadline=None, max_examples=150)
def test_tiny_and_degenerate_cells_give_numbers_or_reasons_never_nonsense(seed: int, units: int, scale: float):
    rng = np.random.default_rng(seed)
    rows = np.round(rng.normal(rng.choice([0, 3]), rng.choice([0, 1]), (units, 5))) * scale
    rows[:, 2] = rng.random(units) < 0.5
    moments = Moments.from_rows(rows, rng.integers(0, 6, units), (2, 3))
    moments.validate()
    estimates = estimate(moments, SHAPES)
    absolute, relative = difference(estimates), lift(estimates)
    difference_skewness(moments, SHAPES)
    for result, names in (
        (absolute, ("value", "standard_error", "df", "p_value", "log10_p", "ci_lower", "ci_upper")),
        (relative, ("value", "standard_error", "ci_lower", "ci_upper")),
    ):
        assert ((result.reason == "") == result.estimable).all()
        for name in names:
            assert np.isfinite(getattr(result, name)[result.estimable]).all(), name
        assert (result.ci_lower <= result.ci_upper)[result.estimable].all()
        assert (result.standard_error > 0)[result.estimable].all()
