"""Conjugate comparisons against Monte Carlo, and what must hold for any data (METHODS C2)."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings

from stats.bayes.conjugate import (
    Comparison,
    StudentPosterior,
    compare_means,
    compare_proportions,
    compare_rates,
    normal_mean,
)

FEW_OR_MANY = pytest.mark.parametrize("draws", [200_000, pytest.param(2_000_000, marks=pytest.mark.simulation)])


def assert_agrees(found: Comparison, control: np.ndarray, treatment: np.ndarray) -> None:
    """Within 1e-3 relative, or five Monte-Carlo errors where those are more."""
    gain = treatment - control
    for name, draws in (
        ("chance_to_win", (gain > 0).astype(float)),
        ("expected_difference_lost", np.maximum(-gain, 0)),
        ("expected_difference_forgone", np.maximum(gain, 0)),
    ):
        error = 5 * draws.std() / np.sqrt(len(draws))
        assert getattr(found, name) == pytest.approx(draws.mean(), rel=1e-3, abs=error), name


@FEW_OR_MANY
@pytest.mark.parametrize(
    ("units", "successes", "prior"),
    [
        ((1000, 1100), (100, 125), (1.0, 1.0)),
        ((20, 3000), (2, 450), (1.0, 1.0)),
        ((12, 15), (0, 1), (0.5, 0.5)),
    ],
)
def test_proportions_equal_monte_carlo(
    units: tuple[int, int], successes: tuple[int, int], prior: tuple[float, float], draws: int
) -> None:
    rng = np.random.default_rng(1)
    control, treatment = (
        rng.beta(k + prior[0], n - k + prior[1], draws) for n, k in zip(units, successes, strict=True)
    )
    assert_agrees(compare_proportions(units, successes, prior=prior), control, treatment)


@FEW_OR_MANY
def test_rates_equal_monte_carlo(draws: int) -> None:
    rng = np.random.default_rng(2)
    control, treatment = rng.gamma(40.5, 1 / 30, draws), rng.gamma(300.5, 1 / 200, draws)
    assert_agrees(compare_rates((30, 200), (40, 300)), control, treatment)


@FEW_OR_MANY
def test_means_equal_monte_carlo(draws: int) -> None:
    rng = np.random.default_rng(3)
    control, treatment = normal_mean(8, 1.0, 12.0), normal_mean(40, 1.3, 30.0)
    found = compare_means(control, treatment)
    drawn = [p.location + p.scale * rng.standard_t(p.freedom, draws) for p in (control, treatment)]
    assert_agrees(found, *drawn)


def test_the_quadrature_agrees_with_the_published_form_of_the_loss() -> None:
    # METHODS C2: E[(A - B)+] = E[A] P(A+ > B) - E[B] P(A > B+), X+ with one more success.
    def above(first: tuple[float, float], second: tuple[float, float]) -> float:
        x = np.linspace(0, 1, 40_001)
        return float(np.trapezoid(sps.beta(*first).pdf(x) * sps.beta(*second).cdf(x), x))

    a, b = (31.0, 171.0), (41.0, 161.0)
    mean_a, mean_b = a[0] / sum(a), b[0] / sum(b)
    expected = mean_a * above((a[0] + 1, a[1]), b) - mean_b * above(a, (b[0] + 1, b[1]))
    found = compare_proportions((200, 200), (30, 40))
    np.testing.assert_allclose(found.expected_difference_lost, expected, rtol=1e-7)


def test_a_normal_mean_without_a_prior_is_the_t_interval_of_a_textbook() -> None:
    values = np.random.default_rng(4).normal(5, 2, 12)
    found = normal_mean(12, values.mean(), ((values - values.mean()) ** 2).sum())
    expected = sps.t.interval(0.95, 11, values.mean(), values.std(ddof=1) / np.sqrt(12))
    np.testing.assert_allclose(found.interval(0.95), expected)


def test_a_prior_worth_ten_units_counts_as_ten_units() -> None:
    values = np.random.default_rng(5).normal(5, 2, 30)
    first, rest = values[:10], values[10:]
    prior = (first.mean(), 10.0, ((first - first.mean()) ** 2).sum() / 9, 9.0)
    updated = normal_mean(20, rest.mean(), ((rest - rest.mean()) ** 2).sum(), prior=prior)
    together = normal_mean(30, values.mean(), ((values - values.mean()) ** 2).sum())
    for name in ("location", "scale", "freedom"):
        np.testing.assert_allclose(getattr(updated, name), getattr(together, name))


def test_cells_that_cannot_be_are_nan_and_leave_the_others_alone() -> None:
    found = compare_proportions(([100, 100, 10], [100, 100, 10]), ([10, np.nan, 11], [12, 5, 3]))
    alone = compare_proportions((100, 100), (10, 12))
    assert found.chance_to_win[0] == alone.chance_to_win
    assert np.isnan(found.chance_to_win[1:]).all()
    assert np.isnan(found.expected_difference_lost[1:]).all()
    assert np.isnan(compare_rates((10, 10), (3, -1)).chance_to_win)
    assert np.isnan(normal_mean(1, 3.0, 0.0).scale)
    nobody = StudentPosterior(np.array(np.nan), np.array(np.nan), np.array(np.nan))
    assert np.isnan(compare_means(nobody, normal_mean(9, 1.0, 8.0)).chance_to_win)
    with pytest.raises(ValueError, match=r"at least 0\.5"):
        compare_proportions((10, 10), (3, 3), prior=(0.1, 1.0))


COUNTS = st.integers(0, 5000)


@settings(max_examples=40)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_exchanging_the_arms_or_the_direction_exchanges_the_answer(k_a: int, f_a: int, k_b: int, f_b: int) -> None:
    units, successes = (k_a + f_a, k_b + f_b), (k_a, k_b)
    exposure = (f_a + 1, f_b + 1)
    for one, swapped, down in (
        (
            compare_proportions(units, successes),
            compare_proportions(units[::-1], successes[::-1]),
            compare_proportions(units, successes, direction="decrease"),
        ),
        (
            compare_rates(exposure, successes),
            compare_rates(exposure[::-1], successes[::-1]),
            compare_rates(exposure, successes, direction="decrease"),
        ),
    ):
        scale = max(float(one.expected_difference_lost + one.expected_difference_forgone), 1e-12)
        assert one.chance_to_win + swapped.chance_to_win == pytest.approx(1, abs=1e-9)
        assert one.expected_difference_lost == pytest.approx(
            float(swapped.expected_difference_forgone), abs=1e-7 * scale
        )
        assert down.chance_to_win == pytest.approx(float(swapped.chance_to_win), abs=1e-9)
        assert down.expected_difference_lost == pytest.approx(float(one.expected_difference_forgone), abs=1e-7 * scale)


@settings(max_examples=40)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_is_forgone_minus_what_is_lost_is_the_difference_of_the_means(
    k_a: int, f_a: int, k_b: int, f_b: int
) -> None:
    found = compare_proportions((k_a + f_a, k_b + f_b), (k_a, k_b))
    difference = (k_b + 1) / (k_b + f_b + 2) - (k_a + 1) / (k_a + f_a + 2)
    assert found.expected_difference_forgone - found.expected_difference_lost == pytest.approx(difference, abs=1e-9)
