"""A single comparison in plain numbers is the comparison of arrays."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stats import single
from stats.estimate import MetricShape
from stats.moments import Moments
from stats.single import compare
from tests.stats.moment_cases import arms

SHAPES = (
    MetricShape("m", "mean", 0),
    MetricShape("m", "mean", 0, covariates=(1,)),
    MetricShape("p", "proportion", 2, covariates=(1,)),
    MetricShape("r", "ratio", 0, 1),
    MetricShape("m", "mean", 0, covariates=(1,), indicators=(2,)),
)


def data(seed: int, units: int, base: float, spread: float, gap: float) -> Moments:
    rng = np.random.default_rng(seed)
    x = base + spread * rng.normal(0, 1, units)
    y = x + spread * rng.normal(0, 0.7, units)
    arm = rng.integers(0, 2, units)
    return Moments.from_rows(np.column_stack([y + gap * arm, x, rng.random(units) < 0.4]), arm, 2)


@given(
    st.integers(0, 10_000),
    st.integers(0, 400),
    st.sampled_from([0.0, 5.0, -5.0]),
    st.sampled_from([0.0, 1.0, 1e-3]),
    st.sampled_from([0.0, 0.3, 1e4]),
    st.sampled_from(SHAPES),
    st.sampled_from([0.9, 0.95, 0.999]),
)
@example(1, 400, 5.0, 1.0, 0.3, SHAPES[0], 0.95)
@example(1, 400, 5.0, 1.0, 0.3, SHAPES[1], 0.95)
@settings(max_examples=150, deadline=None)
def test_scalars_and_arrays_give_the_same_numbers(seed, units, base, spread, gap, shape, level):
    moments = data(seed, units, base, spread, gap)
    fast, slow = compare(moments, shape, level), single._by_arrays(moments, shape, level)
    for field in dataclasses.fields(fast):
        a, b = getattr(fast, field.name), getattr(slow, field.name)
        if isinstance(a, float):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-12, nan_ok=True), field.name
        else:
            assert a == b, field.name


def test_the_everyday_case_is_taken_by_the_scalars():
    for shape in SHAPES[:3]:
        assert single._everyday(data(1, 4000, 5.0, 1.0, 0.1), shape, 0.95) is not None


def test_a_single_comparison_takes_two_arms_and_a_level():
    three = arms(*([np.arange(9.0)] for _ in range(3)))
    with pytest.raises(ValueError, match="two arms"):
        compare(three, SHAPES[0])
    with pytest.raises(ValueError, match="level"):
        compare(three[:2], SHAPES[0], 1.0)
