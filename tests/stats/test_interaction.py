"""Two experiments interfere when the difference of differences says so (METHODS A16)."""

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps

from stats.estimate import MetricShape
from stats.interaction import association, interactions
from stats.moments import Moments
from stats.reasons import Reason
from tests.shared_data import golden
from tests.stats.moment_cases import within

MEAN = MetricShape("y", "mean", value=0)


def cells(values: np.ndarray, other: np.ndarray, own: np.ndarray, shape: tuple[int, int] = (2, 2)) -> Moments:
    return Moments.from_rows(values.reshape(len(own), -1), other * shape[1] + own, shape)


def world(rng: np.random.Generator, n: int, own: float, other: float, both: float, k: int = 1) -> Moments:
    theirs, ours = rng.integers(0, 2, n), rng.integers(0, 2, n)
    mean = 10 + own * ours + other * theirs + both * ours * theirs
    return cells(mean[:, None] + rng.normal(0, 2, (n, k)), theirs, ours)


def test_the_interaction_is_that_of_a_saturated_regression_with_hc2_errors():
    case = golden("libraries", "heterogeneity_interaction")
    given, wanted = case["inputs"], case["expected"]
    values = np.array(given["control"] + given["treatment"])
    own = np.repeat([0, 1], [len(given["control"]), len(given["treatment"])])
    other = np.array(given["segment_control"] + given["segment_treatment"])
    many = np.repeat(np.arange(len(values)), 8)
    got = interactions(cells(values[many], other[many], own[many]), [MEAN])
    assert float(got.value[0, 0, 0]) == pytest.approx(wanted["interaction"], rel=1e-9)
    small = [values[(other == o) & (own == v)] for o in (0, 1) for v in (0, 1)]
    # Eightfold data: the sums of squares grow eightfold, n and n - 1 as well.
    error = np.sqrt(sum(8 * ((x - x.mean()) ** 2).sum() / (8 * len(x) - 1) / (8 * len(x)) for x in small))
    assert float(got.standard_error[0, 0, 0]) == pytest.approx(error, rel=1e-12)
    hc2 = np.sqrt(sum(x.var(ddof=1) / len(x) for x in small))
    assert hc2 == pytest.approx(wanted["se_interaction"], rel=1e-9)


def test_degrees_of_freedom_are_satterthwaites_over_four_cells():
    rng = np.random.default_rng(1)
    sizes, spread = np.array([40, 60, 80, 200]), np.array([1.0, 3.0, 2.0, 1.0])
    where = np.repeat(np.arange(4), sizes)
    values = rng.normal(0, spread[where])
    got = interactions(cells(values, where // 2, where % 2), [MEAN])
    v = np.array([values[where == c].var(ddof=1) / n for c, n in enumerate(sizes)])
    df = v.sum() ** 2 / (v**2 / (sizes - 1)).sum()
    assert float(got.df[0, 0, 0]) == pytest.approx(df)
    t = float(got.value[0, 0, 0]) / np.sqrt(v.sum())
    assert float(got.p_value[0, 0, 0]) == pytest.approx(2 * sps.t.sf(abs(t), df))
    lower, upper = got.interval(0.9)
    assert float(upper[0, 0, 0] - lower[0, 0, 0]) == pytest.approx(2 * sc.stdtrit(df, 0.95) * np.sqrt(v.sum()))


def test_every_pair_of_treatments_and_every_kind_of_metric_is_answered_at_once():
    rng = np.random.default_rng(2)
    n = 60_000
    theirs, ours = rng.integers(0, 3, n), rng.integers(0, 2, n)
    bought = rng.random(n) < 0.2 + 0.05 * ((theirs == 2) & (ours == 1))
    sessions = 1 + rng.poisson(2, n)
    orders = rng.binomial(sessions, 0.3)
    rows = np.column_stack([bought, orders, sessions])
    shapes = [MetricShape("bought", "proportion", value=0), MetricShape("rate", "ratio", value=1, denominator=2)]
    got = interactions(cells(rows, theirs, ours, (3, 2)), shapes)
    assert got.value.shape == (2, 1, 2) and got.own.shape == (1, 2) and got.other.shape == (2, 2)
    assert float(got.value[1, 0, 0]) == pytest.approx(0.05, abs=0.02) and float(got.p_value[1, 0, 0]) < 1e-6
    assert float(got.p_value[0, 0, 0]) > 0.01 and (got.p_value[..., 1] > 0.01).all()


def test_covariates_sharpen_the_interaction_without_moving_it():
    rng = np.random.default_rng(3)
    n = 20_000
    theirs, ours, before = rng.integers(0, 2, n), rng.integers(0, 2, n), rng.normal(0, 2, n)
    after = before + rng.normal(0, 1, n) + 0.1 * ours * theirs
    shape = [MetricShape("y", "mean", value=0, covariates=(1,))]
    moments = cells(np.column_stack([after, before]), theirs, ours)
    plain, sharp = interactions(moments, shape, adjust=False), interactions(moments, shape)
    assert float(sharp.standard_error[0, 0, 0]) < 0.5 * float(plain.standard_error[0, 0, 0])
    assert float(sharp.value[0, 0, 0]) == pytest.approx(0.1, abs=0.1)


def test_only_an_interaction_above_a_quarter_of_the_smaller_main_effect_is_material():
    rng = np.random.default_rng(4)
    assert bool(interactions(world(rng, 40_000, 1.0, 1.0, 0.8), [MEAN]).material[0, 0, 0])
    assert not bool(interactions(world(rng, 400_000, 1.0, 1.0, 0.1), [MEAN]).material[0, 0, 0])


def test_cells_that_cannot_be_used_have_a_reason_and_no_numbers():
    rng = np.random.default_rng(5)
    few = world(rng, 60, 0, 0, 0)
    constant = cells(np.full((400, 1), 3.0), np.arange(400) % 2, np.arange(400) // 2 % 2)
    for moments, reason in ((few, Reason.TOO_FEW_UNITS), (constant, Reason.ZERO_VARIANCE)):
        got = interactions(moments, [MEAN])
        assert got.reason[0, 0, 0] == reason
        assert np.isnan([got.value[0, 0, 0], got.standard_error[0, 0, 0], got.p_value[0, 0, 0]]).all()
    refused = interactions(world(rng, 400, 0, 0, 0), [MEAN], invalid={0: "values_out_of_range"})
    assert refused.reason[0, 0, 0] == "values_out_of_range"
    with pytest.raises(ValueError, match="at least two"):
        interactions(Moments.empty((1, 2), 1), [MEAN])


def test_independent_assignments_are_told_from_shared_ones():
    table = np.array([[120, 90], [80, 130]])
    statistic, p, df, _ = sps.chi2_contingency(table, correction=False)
    got = association(table)
    assert [got.statistic, got.p_value, got.df] == pytest.approx([statistic, p, df])
    assert association(np.array([[500, 500], [500, 500]])).p_value == 1
    assert association(np.array([[500, 500], [0, 0]])).p_value == 1


def test_without_an_interaction_the_test_keeps_its_size():
    rng = np.random.default_rng(6)
    runs = 600
    got = interactions(world(rng, 2000, 0.5, 0.5, 0.0, k=1), [MEAN])
    assert got.value.shape == (1, 1, 1)
    k = [interactions(world(rng, 400, 0.5, -0.5, 0.0), [MEAN]).p_value[0, 0, 0] < 0.05 for _ in range(runs)]
    assert within(float(np.mean(k)), 0.05, runs)
