"""Moments merge exactly, survive large offsets, and refuse what no data could have produced."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.moment_set import MomentSet
from stats.moments import InvalidMoments, Moments
from tests.shared_data import golden


def sample(seed: int, n: int = 60, k: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(size=(n, k))


def assert_same(left: Moments, right: Moments, relative: float = 1e-12) -> None:
    np.testing.assert_array_equal(left.count, right.count)
    np.testing.assert_allclose(left.mean, right.mean, rtol=relative)
    size = np.abs(right.comoment).max(initial=0.0)
    np.testing.assert_allclose(left.comoment, right.comoment, rtol=relative, atol=relative * size)
    np.testing.assert_allclose(
        left.third, right.third, rtol=relative, atol=relative * np.abs(right.third).max(initial=0)
    )


def test_moments_of_rows_are_those_of_numpy():
    rows, cell = sample(1, 500), np.arange(500) % 6
    moments = Moments.from_rows(rows, cell, (2, 3))
    part = rows[cell == 4]
    np.testing.assert_allclose(moments.mean[1, 1], part.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance[1, 1], np.cov(part.T), rtol=1e-12)
    np.testing.assert_allclose(moments.third[1, 1], ((part - part.mean(axis=0)) ** 3).sum(axis=0), rtol=1e-11)
    assert moments[1].cells == (3,)
    assert moments[..., 0].mean.shape == (2, 3)
    np.testing.assert_array_equal(moments.select([2, 0]).comoment[..., 0, 1], moments.comoment[..., 2, 0])


@given(st.integers(0, 10_000), st.lists(st.integers(0, 4), min_size=60, max_size=60))
@settings(deadline=None, max_examples=50)
def test_any_split_of_the_units_merges_to_one_pass(seed: int, labels: list[int]):
    rows = sample(seed)
    split = Moments.from_rows(rows, np.array(labels), 5)
    whole = Moments.from_rows(rows, np.zeros(60, dtype=int), 1)
    assert_same(split.merge_axis(0), whole[0])
    assert_same(split[np.array([4, 2, 0, 1, 3])].merge_axis(0), whole[0])
    assert_same(split[0].merge(split[1]).merge(split[2]).merge(split[3].merge(split[4])), whole[0], 1e-11)


def test_a_thousand_parts_in_any_order_equal_one_pass():
    rows, order = sample(2, 20_000), np.random.default_rng(0).permutation(1000)
    parts = Moments.from_rows(rows, np.arange(20_000) % 1000, 1000)
    whole = Moments.from_rows(rows, np.zeros(20_000, dtype=int), 1)[0]
    assert_same(parts.merge_axis(0), whole)
    assert_same(parts[order].merge_axis(0), whole)


@given(st.integers(-(10**9), 10**9), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_an_offset_moves_the_mean_and_nothing_else(offset: int, seed: int):
    rows = np.round(sample(seed) * 64) / 64  # multiples of 1/64 stay exact after adding a whole number
    cell = np.zeros(60, dtype=int)
    plain, moved = Moments.from_rows(rows, cell, 1), Moments.from_rows(rows + offset, cell, 1)
    scale, cubic = plain.comoment.max(), np.abs(plain.third).max()
    np.testing.assert_allclose(moved.comoment, plain.comoment, atol=1e-11 * scale)
    np.testing.assert_allclose(moved.third, plain.third, atol=1e-11 * cubic)
    # A stored mean near 1e9 is itself rounded to 1e-7, which is all that merging can lose.
    halves = Moments.from_rows(rows + offset, np.arange(60) % 2, 2).merge_axis(0)
    np.testing.assert_allclose(halves.comoment, plain.comoment[0], atol=1e-6 * scale)
    np.testing.assert_allclose(halves.third, plain.third[0], atol=1e-5 * cubic)


def test_variance_survives_a_mean_of_a_billion():
    case = golden("libraries", "variance_cancellation")["expected"]
    control = np.array(golden("libraries", "welch_t_two_sided")["inputs"]["control"])[:, None] + 1e9
    moments = Moments.from_rows(control, np.zeros(len(control), dtype=int), 1)
    assert moments.covariance[0, 0, 0] == pytest.approx(case["two_pass"], rel=1e-6)


def test_shifted_sums_of_a_data_engine_give_the_same_moments():
    rows, shift = sample(3, 400) + 1e6, np.array([1e6, 1e6 + 1, 1e6 + 2])
    d = rows - shift
    from_engine = Moments.from_shifted_sums(400, shift, d.sum(axis=0), d.T @ d, (d**3).sum(axis=0))
    assert_same(from_engine, Moments.from_rows(rows, np.zeros(400, dtype=int), 1)[0], 1e-10)


def test_any_numeric_dtype_gives_the_moments_of_float64():
    rng = np.random.default_rng(5)
    single = rng.normal(1e6, 1, 500).astype(np.float32)
    long = rng.integers(4_000_000_000, 4_000_000_100, 500)
    flags = rng.random(500) < 0.3
    for column in (single, long, flags):
        got = Moments.from_rows(column[:, None], np.zeros(500, dtype=int), 1)
        assert got.covariance[0, 0, 0] == pytest.approx(column.astype(np.float64).var(ddof=1), rel=1e-10)


def test_empty_cells_are_zeros_and_merging_them_changes_nothing():
    rows = sample(4)
    some = Moments.from_rows(rows, np.full(60, 1), 3)
    assert not some.mean[0].any() and not some.has_covariance[0]
    assert np.isfinite(some.covariance).all()
    assert_same(some.merge_axis(0), some[1])
    assert_same(Moments.empty((), 3).merge(some[1]), some[1])


def test_impossible_moments_are_refused_by_column():
    good = Moments.from_rows(sample(6), np.zeros(60, dtype=int), 1)
    good.validate(["a", "b", "c"])
    bad = good.comoment.copy()
    bad[0, 1, 1] = -1.0
    with pytest.raises(InvalidMoments, match="'b'"):
        Moments(good.count, good.mean, bad, good.third).validate(["a", "b", "c"])
    with pytest.raises(InvalidMoments, match="count"):
        Moments(-good.count, good.mean, good.comoment, good.third).validate()
    mean = good.mean.copy()
    mean[0, 2] = np.inf
    with pytest.raises(InvalidMoments, match="'c'"):
        Moments(good.count, mean, good.comoment, good.third).validate(["a", "b", "c"])


def test_a_moment_set_checks_its_shapes_and_the_order_of_looks():
    looks = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    kept = {"columns": ("a",), "variants": ("control", "b"), "segments": (), "by_segment": Moments.empty((0, 2), 1)}
    exposures = np.zeros((2, 2), dtype=np.int64)
    whole = MomentSet(looks=looks, overall=Moments.empty((2, 2), 1), exposures=exposures, **kept)
    whole.validate()
    assert whole.data_as_of == looks[1] and whole.last.cells == (2,) and whole.column("a") == 0
    with pytest.raises(KeyError):
        whole.column("b")
    with pytest.raises(ValueError, match="ascending"):
        MomentSet(looks=looks[::-1], overall=Moments.empty((2, 2), 1), exposures=exposures, **kept)
    with pytest.raises(ValueError, match="overall"):
        MomentSet(looks=looks, overall=Moments.empty((2, 3), 1), exposures=exposures, **kept)
