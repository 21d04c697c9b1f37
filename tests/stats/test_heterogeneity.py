"""Segments differ when one test of all of them says so; each one's effect leans on the others (METHODS A15)."""

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given
from hypothesis import strategies as st

from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.heterogeneity import TAU_SHARE, between_levels, linear_trend, q_test, segment_contrast, shrink
from tests.shared_data import golden
from tests.stats.moment_cases import arms, within

BCG = np.array(
    [
        [4, 119, 11, 128],
        [6, 300, 29, 274],
        [3, 228, 11, 209],
        [62, 13536, 248, 12619],
        [33, 5036, 47, 5761],
        [180, 1361, 372, 1079],
        [8, 2537, 10, 619],
        [505, 87886, 499, 87892],
        [29, 7470, 45, 7232],
        [17, 1699, 65, 1600],
        [186, 50448, 141, 27197],
        [5, 2493, 3, 2338],
        [27, 16886, 29, 17825],
    ],
    dtype=float,
)
"""Thirteen trials of the BCG vaccine (Colditz et al. 1994): cases and non-cases, vaccinated and not."""


def bcg() -> tuple[np.ndarray, np.ndarray]:
    sick, well, sick_control, well_control = BCG.T
    log_ratio = np.log(sick / (sick + well)) - np.log(sick_control / (sick_control + well_control))
    variance = 1 / sick - 1 / (sick + well) + 1 / sick_control - 1 / (sick_control + well_control)
    return log_ratio, np.sqrt(variance)


def test_the_q_test_of_the_bcg_trials_is_the_published_one():
    """Q(12) = 152.233, I^2 of the Q method 92.12 %, fixed effect -0.430: what metafor and Stata print."""
    got = q_test(*bcg())
    assert float(got.q) == pytest.approx(152.2330, abs=5e-4) and float(got.df) == 12
    assert float(got.i_squared) == pytest.approx(0.9212, abs=5e-5)
    assert float(got.centre) == pytest.approx(-0.4303, abs=5e-5)
    assert float(got.p_value) == pytest.approx(float(sc.chdtrc(12, float(got.q))))


def test_two_segments_differ_exactly_as_the_z_test_of_their_difference():
    """Gelman & Stern 2006: not `significant here, not there`."""
    pair, contrast = q_test([0.04, 0.01], [0.012, 0.009]), segment_contrast(0.04, 0.012, 0.01, 0.009)
    assert float(contrast.z) == pytest.approx(-2.0)
    assert float(pair.q) == pytest.approx(float(contrast.z) ** 2)
    assert float(pair.p_value) == pytest.approx(float(contrast.p_value)) == pytest.approx(2 * sc.ndtr(-2))


def test_the_interaction_of_segment_and_treatment_is_that_of_a_saturated_regression():
    case = golden("libraries", "heterogeneity_interaction")
    given_, wanted = case["inputs"], case["expected"]
    cells = []
    for segment in (0, 1):
        values = [
            np.array(given_[arm])[np.array(given_[f"segment_{arm}"]) == segment] for arm in ("control", "treatment")
        ]
        cells.append(difference(estimate(arms(*([v] for v in values)), [MetricShape("y", "mean", value=0)])))
    first, second = ((float(c.value[0, 0]), float(c.standard_error[0, 0])) for c in cells)
    assert first[0] == pytest.approx(wanted["effect_segment0"], rel=1e-9)
    got = segment_contrast(*first, *second)
    assert [float(got.value), float(got.standard_error), float(got.p_value)] == pytest.approx(
        [wanted["interaction"], wanted["se_interaction"], wanted["p"]], rel=1e-9
    )


def test_levels_without_an_estimate_are_left_out_and_one_level_says_nothing():
    got = q_test([[0.1, np.nan, 0.2], [0.1, 0.2, 0.3]], [[0.1, 0.1, 0.2], [0.0, np.inf, 0.1]])
    assert got.levels.tolist() == [2, 1]
    assert float(got.q[0]) == pytest.approx(0.01 / 0.05)
    assert np.isnan([got.q[1], got.p_value[1], got.i_squared[1], got.centre[1]]).all()
    effects = shrink([[0.1, np.nan, 0.2], [0.1, np.nan, np.nan]], np.full((2, 3), 0.1), 0.05)
    assert np.isnan(effects.mean).tolist() == [[False, True, False], [True, True, True]]
    assert np.isfinite(effects.tau).tolist() == [True, False]


numbers = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


@given(numbers, st.floats(0.01, 1), st.floats(-2, 2))
def test_shifting_all_levels_changes_no_test_and_shifts_every_shrunken_effect(values, error, shift):
    value = np.array(values)
    errors = error * (1 + np.arange(len(value)) % 3)
    before, after = q_test(value, errors), q_test(value + shift, errors)
    assert float(after.q) == pytest.approx(float(before.q), rel=1e-6, abs=1e-6)
    left, right = shrink(value, errors, 0.1), shrink(value + shift, errors, 0.1)
    assert right.mean == pytest.approx(left.mean + shift, abs=1e-6)
    assert float(right.tau) == pytest.approx(float(left.tau), rel=1e-5)
    low, high = min(value) - 1e-9, max(value) + 1e-9
    assert ((left.mean >= low) & (left.mean <= high)).all() and (left.lower <= left.upper).all()
    assert ((left.sign_differs >= 0) & (left.sign_differs <= 1)).all()


def test_the_grid_is_the_integral():
    """Against direct integration over tau on a dense linear grid, with the marginal likelihood written out by hand."""
    value, error, scale = np.array([0.05, -0.01, 0.12, 0.03]), np.array([0.02, 0.03, 0.04, 0.015]), 0.1
    tau = (np.arange(40_000) + 0.5) * (8 * TAU_SHARE * scale / 40_000)
    total = error[:, None] ** 2 + tau**2
    weights = (1 / total).sum(axis=0)
    mu = (value[:, None] / total).sum(axis=0) / weights
    log_posterior = -0.5 * (
        np.log(total).sum(axis=0)
        + np.log(weights)
        + ((value[:, None] - mu) ** 2 / total).sum(axis=0)
        + (tau / (TAU_SHARE * scale)) ** 2
    )
    share = np.exp(log_posterior - log_posterior.max())
    share /= share.sum()
    got = shrink(value, error, scale)
    assert float(got.tau) == pytest.approx((share * tau).sum(), rel=2e-3)
    assert float(got.overall) == pytest.approx((share * mu).sum(), abs=1e-4)
    kept = tau**2 / total
    assert got.mean == pytest.approx((share * (kept * value[:, None] + (1 - kept) * mu)).sum(axis=1), abs=1e-4)


def test_levels_that_agree_lean_on_each_other_and_levels_that_differ_do_not():
    alike = shrink([0.05, 0.052, 0.049], np.full(3, 0.03), 0.05)
    assert np.ptp(alike.mean) < 0.002 and (alike.sd < 0.03).all()
    apart = shrink([0.6, -0.6, 0.1], np.full(3, 0.01), 1.0)
    assert apart.mean == pytest.approx([0.6, -0.6, 0.1], abs=0.005)
    assert apart.sign_differs[0] > 0.2


def test_families_are_answered_together_as_each_would_be_alone():
    rng = np.random.default_rng(1)
    value, error = rng.normal(0, 0.05, (3, 4, 5)), rng.uniform(0.01, 0.05, (3, 4, 5))
    together = shrink(value, error, np.full((3, 4), 0.05))
    alone = shrink(value[1, 2], error[1, 2], 0.05)
    assert together.mean[1, 2] == pytest.approx(alone.mean) and together.lower[1, 2] == pytest.approx(alone.lower)
    assert q_test(value, error).q.shape == (3, 4)
    assert between_levels(value, error, 0.05) == pytest.approx(shrink(value, error, 0.05).tau)


def test_a_trend_is_weighted_least_squares_and_splits_q():
    value, error, score = np.array([0.1, 0.05, 0.04, -0.02]), np.array([0.02, 0.01, 0.03, 0.02]), np.arange(4.0)
    design = np.column_stack([np.ones(4), score]) / error[:, None]
    beta, rest, _, _ = np.linalg.lstsq(design, value / error, rcond=None)
    got = linear_trend(value, error, score)
    assert float(got.slope.value) == pytest.approx(beta[1])
    assert float(got.slope.standard_error) == pytest.approx(np.sqrt(np.linalg.inv(design.T @ design)[1, 1]))
    assert float(got.rest) == pytest.approx(rest[0])
    assert float(got.rest_p_value) == pytest.approx(float(sc.chdtrc(2, rest[0])))
    assert np.isnan(linear_trend(value[:2], error[:2], score[:2]).slope.value)


def test_a_scale_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        shrink([0.1, 0.2], [0.1, 0.1], 0.0)


def test_the_q_test_keeps_its_size_on_data():
    rng = np.random.default_rng(2)
    runs, levels, n = 800, 5, 400
    spread = 1 + np.arange(levels) / 2
    values = rng.normal(5, 1, (runs, levels, 2, n)) * spread[None, :, None, None]
    effect = values[:, :, 1].mean(-1) - values[:, :, 0].mean(-1)
    error = np.sqrt(values.var(-1, ddof=1).sum(-1) / n)
    assert within(float((q_test(effect, error).p_value < 0.05).mean()), 0.05, runs)


@pytest.mark.simulation
def test_the_q_test_keeps_its_size_for_skewed_metrics_and_unequal_levels():
    rng = np.random.default_rng(3)
    runs, sizes = 4000, (300, 1000, 3000)
    parts = [rng.exponential(1, (runs, 2, n)).astype(np.float32) for n in sizes]
    effect = np.stack([part[:, 1].mean(-1) - part[:, 0].mean(-1) for part in parts], axis=-1)
    error = np.stack([np.sqrt(part.var(-1, ddof=1).sum(-1) / n) for part, n in zip(parts, sizes, strict=True)], -1)
    assert within(float((q_test(effect, error).p_value < 0.05).mean()), 0.05, runs)


@pytest.mark.simulation
def test_shrunken_intervals_cover_and_probabilities_are_calibrated():
    rng = np.random.default_rng(4)
    families, levels, scale = 3000, 6, 0.05
    tau = np.abs(rng.normal(0, TAU_SHARE * scale, families))
    mu = rng.normal(0, 0.3, families)
    effects = mu[:, None] + tau[:, None] * rng.normal(size=(families, levels))
    error = rng.uniform(0.01, 0.05, (families, levels))
    got = shrink(effects + error * rng.normal(size=error.shape), error, scale, 0.9)
    inside = (got.lower <= effects) & (effects <= got.upper)
    assert within(float(inside.mean()), 0.9, families)
    against = np.sign(effects) != np.sign(mu)[:, None]
    assert float(got.sign_differs.mean()) == pytest.approx(float(against.mean()), abs=0.006)
