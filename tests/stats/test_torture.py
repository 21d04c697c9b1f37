"""The 25 torture cases on bare arrays: a right number, or a reason; never nan without one, never an exception of
arithmetic. What is sent to a running service is in tests/system/test_torture.py."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps

from stats.always_valid import AlwaysValid, ready, running, two_sided
from stats.clusters import few_clusters
from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.group_sequential import BEYOND, SpendingDesign, boundaries, repeated_interval
from stats.jackknife import with_jackknife
from stats.lift import lift
from stats.moment_set import ClusterTable, HashBuckets
from stats.moments import InvalidMoments, Moments
from stats.multiplicity import adjusted, adjusted_log10
from stats.proportion import miettinen_nurminen, newcombe, refine_small_counts
from stats.quantile import quantile_estimates, summarise
from stats.reasons import CovariateNote, Reason
from stats.sample_ratio import chi_square, few_or_many, same_rate
from stats.survey import lee_bounds
from tests.golden.gbstats_effects import by_method_a7
from tests.stats.moment_cases import arms, within

MEAN = MetricShape("m", "mean", 0)
SHARE = MetricShape("p", "proportion", 0)
RATIO = MetricShape("r", "ratio", 0, 1)
CUPED = MetricShape("m", "mean", 0, covariates=(1,))


def compared(*columns_per_arm: Any, shape: MetricShape = MEAN) -> tuple[Any, Any]:
    found = estimate(arms(*columns_per_arm), (shape,))
    return difference(found), lift(found)


def assert_every_number_or_a_reason(*results: Any) -> None:
    for found in results:
        assert ((found.reason == "") == found.estimable).all()
        shown = np.stack([found.value, found.standard_error, found.ci_lower, found.ci_upper])
        assert np.isfinite(shown[:, found.estimable]).all()
        assert (found.ci_lower <= found.ci_upper)[found.estimable].all()
        assert np.isnan(found.ci_lower[~found.estimable]).all()


def test_case_1_half_the_values_null_n_is_of_those_that_are_there() -> None:
    rng = np.random.default_rng(1)
    values, answered = rng.normal(5, 1, (2, 2000)), rng.random((2, 2000)) < [[0.5], [0.45]]
    found = estimate(arms(*([v * a, a] for v, a in zip(values, answered, strict=True))), (RATIO,))
    got = difference(found)
    theirs = sps.ttest_ind(values[1][answered[1]], values[0][answered[0]], equal_var=False)
    assert got.value[0, 0] == pytest.approx(values[1][answered[1]].mean() - values[0][answered[0]].mean(), rel=1e-12)
    assert got.p_value[0, 0] == pytest.approx(theirs.pvalue, rel=0.01)
    missing = same_rate(answered.sum(axis=1), [2000, 2000])
    assert float(missing.p_value) == pytest.approx(
        sps.chi2_contingency([answered.sum(axis=1), (~answered).sum(axis=1)], correction=False).pvalue, rel=1e-9
    )
    scores = np.unique(np.rint(values))
    table = np.array([[(np.rint(v[a]) == s).sum() for s in scores] for v, a in zip(values, answered, strict=True)])
    bounds = lee_bounds(scores, table, np.array([2000, 2000]))
    assert (bounds.lower <= bounds.upper).all() and np.isfinite(bounds.lower).all()


def test_case_2_a_covariate_missing_for_a_third_is_imputed_and_marked() -> None:
    rng = np.random.default_rng(2)
    n, blocks = 4000, []
    for effect in (0.0, 0.1):
        x, new = rng.normal(10, 2, n), rng.random(n) < 1 / 3
        y = 5 + 0.4 * (x - 10) - 1.0 * new + effect + rng.normal(0, 1, n)
        blocks.append([y, np.where(new, 0.0, x), new])
    moments = arms(*blocks)
    shape = MetricShape("m", "mean", 0, covariates=(1,), indicators=(2,))
    got, plain = difference(estimate(moments, (shape,))), difference(estimate(moments, (MEAN,)))
    a7 = by_method_a7(moments, np.array([[1.0, 0, 0], [1.0, 0, 0]]), [1, 2])
    assert got.value[0, 0] == pytest.approx(plain.value[0, 0] - a7["shift"], rel=1e-9)
    assert got.standard_error[0, 0] == pytest.approx(math.sqrt(a7["variances"].sum()), rel=1e-9)
    known = [np.array([b[0][~b[2]], b[1][~b[2]]]) for b in blocks]
    dropped = difference(estimate(arms(*(list(k) for k in known)), (CUPED,))).standard_error[0, 0]
    # Nobody was dropped, and the error is not that of a sample in which nulls count as units.
    assert dropped * math.sqrt(2 / 3) < got.standard_error[0, 0] < plain.standard_error[0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_cases_3_and_4_one_value_that_is_no_number_refuses_its_metric_and_no_other(bad: float) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(5, 1, (200, 2))
    rows[7, 0] = bad
    with np.errstate(invalid="ignore"):
        broken = Moments.from_rows(rows, np.arange(200) % 2, 2)
        unmarked = difference(estimate(broken, (MEAN, MetricShape("b", "mean", 1))))
    with pytest.raises(InvalidMoments, match="broken"):
        broken.validate(("broken", "fine"))
    assert unmarked.reason[0, 0] and not unmarked.reason[0, 1], "even where nobody looked"
    assert_every_number_or_a_reason(unmarked)
    rows[:, 0] = 0.0  # as the warehouse delivers a column with such values: zeros, and the reason
    moments = Moments.from_rows(rows, np.arange(200) % 2, 2)
    got = difference(estimate(moments, (MEAN, MetricShape("b", "mean", 1)), invalid={0: "non_finite_values"}))
    assert got.reason[0].tolist() == ["non_finite_values", ""]
    assert_every_number_or_a_reason(got)


@pytest.mark.parametrize(("treatment", "effect"), [(3.0, 0.0), (4.0, 1.0)])
def test_cases_5_and_6_constants_have_a_difference_and_no_inference(treatment: float, effect: float) -> None:
    got, relative = compared([np.full(40, 3.0)], [np.full(50, treatment)])
    assert got.value[0, 0] == effect
    assert got.reason[0, 0] == relative.reason[0, 0] == Reason.ZERO_VARIANCE
    assert_every_number_or_a_reason(got, relative)


@pytest.mark.parametrize("control", [[1.0], [1.0, 2.0, 5.0]])
def test_case_7_one_unit_has_an_estimate_and_no_interval(control: list[float]) -> None:
    got, relative = compared([control], [[2.0]])
    assert got.value[0, 0] == pytest.approx(2.0 - np.mean(control))
    assert got.reason[0, 0] == relative.reason[0, 0] == Reason.TOO_FEW_UNITS
    assert_every_number_or_a_reason(got, relative)


def test_case_8_an_empty_arm_or_table_is_too_few_units_of_that_arm() -> None:
    rows = np.random.default_rng(8).normal(5, 1, (60, 1))
    one_missing = difference(estimate(Moments.from_rows(rows, np.arange(60) % 2, 3), (MEAN,)))
    assert one_missing.reason[:, 0].tolist() == ["", Reason.TOO_FEW_UNITS]
    nothing = difference(estimate(Moments.empty((2,), 1), (MEAN,)))
    assert (nothing.reason == Reason.TOO_FEW_UNITS).all()
    assert_every_number_or_a_reason(one_missing, nothing)


@pytest.mark.parametrize(
    ("case", "control", "treatment", "kind"),
    [
        (9, 0.0, 0.3, "none"),
        (10, -10.09, -10.32, "fieller"),
        (10, -10.32, -10.09, "fieller"),
        (11, -1.009, 1.002, "fieller"),
        (11, 1.002, -1.009, "fieller"),
        (12, 0.0917, 0.3, "none"),
    ],
)
def test_cases_9_to_12_lifts_on_baselines_at_or_below_zero(
    case: int, control: float, treatment: float, kind: str
) -> None:
    n = 2000
    noise = np.random.default_rng(case).normal(0, 1, n)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * (0.063 * math.sqrt(n) if case == 12 else 2.0)
    first = np.zeros(n) if case == 9 else control + noise
    got, relative = compared([first], [treatment + noise])
    assert got.estimable.all()
    assert relative.interval_kind[0, 0] == kind
    if kind == "none":
        assert relative.reason[0, 0] == Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO
    else:
        assert np.sign(relative.value[0, 0]) == np.sign(got.value[0, 0])
        assert relative.value[0, 0] == pytest.approx((treatment - control) / abs(control), rel=1e-9)
        assert relative.ci_lower[0, 0] < relative.value[0, 0] < relative.ci_upper[0, 0]
    assert_every_number_or_a_reason(got, relative)


Y0 = np.array([12.1, 9.8, 11.4, 10.2, 13.7, 8.9, 10.8, 12.5, 11.9, 9.4, 14.2, 10.1])


@pytest.mark.parametrize("offset", [1e6, 1e7, 1e8, 1e9])
def test_case_13_an_offset_takes_no_digits_from_the_variance(offset: float) -> None:
    found = Moments.from_rows((Y0 + offset)[:, None], np.zeros(12, int), (1,))
    assert found.covariance[0, 0, 0] == pytest.approx(2.82818181818, rel=1e-6)
    rng = np.random.default_rng(13)
    c, t = rng.normal(0, 1, 300), rng.normal(0.1, 1, 300)
    plain = compared([c], [t])[0].p_value[0, 0]
    assert compared([c + offset], [t + offset])[0].p_value[0, 0] == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_, Decimal])
def test_case_14_every_number_type_is_a_double(kind: Any) -> None:
    base, step = {np.float32: (1e6, 1 / 16), np.int64: (4e9, 1.0), np.bool_: (0.0, 1.0)}.get(kind, (0.0, 1 / 16))
    doubles = base + step * np.random.default_rng(14).integers(0, 2 if kind is np.bool_ else 100, (200, 1))
    typed = np.array([[kind(float(v))] for v in doubles[:, 0]], dtype=object if kind is Decimal else kind)
    one, other = (Moments.from_rows(rows, np.arange(200) % 2, 2) for rows in (typed, doubles))
    assert one.comoment.tobytes() == other.comoment.tobytes()
    for arm in (0, 1):
        assert one.covariance[arm, 0, 0] == pytest.approx(doubles[arm::2].var(ddof=1), rel=1e-12)


def test_case_15_a_thousand_parts_in_any_order_are_one_pass() -> None:
    rng = np.random.default_rng(15)
    rows, arm = rng.lognormal(1, 1, (20_000, 2)) + 1e4, rng.integers(0, 2, 20_000)
    part = rng.integers(0, 1000, 20_000)
    pieces = Moments.from_rows(rows, part * 2 + arm, (1000, 2))
    whole = Moments.from_rows(rows, arm, 2)
    for order in (np.arange(1000), rng.permutation(1000)):
        merged = pieces[order].merge_axis(0)
        one_by_one = pieces[order[0]]
        for i in order[1:]:
            one_by_one = one_by_one.merge(pieces[i])
        for found in (merged, one_by_one):
            assert (found.count == whole.count).all()
            np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
            np.testing.assert_allclose(found.comoment, whole.comoment, rtol=1e-11)


def test_case_16_events_of_users_are_judged_by_users() -> None:
    rng = np.random.default_rng(16)
    replications, users, events, icc = 800, 50, 20, 0.2
    taste = rng.normal(0, math.sqrt(icc), (replications, 2 * users, 1))
    y = taste + rng.normal(0, math.sqrt(1 - icc), (replications, 2 * users, events))
    cell = np.repeat(np.arange(replications), 2 * users) * 2 + np.tile(np.arange(2 * users) % 2, replications)
    total = np.column_stack([y.sum(axis=2).ravel() + 5 * events, np.full(cell.size, float(events))])
    by_user = difference(estimate(Moments.from_rows(total, cell, (replications, 2)), (RATIO,)))
    assert within(float((by_user.p_value < 0.05).mean()), 0.05, replications)
    one = Moments.from_rows(y.reshape(-1, 1), np.repeat(cell, events), (replications, 2))
    naive = difference(estimate(one, (MEAN,)))
    assert (naive.p_value < 0.05).mean() > 0.3, "what an event-level test would do"


def test_case_17_denominators_of_zero_refuse_the_ratio_and_keep_the_numerator() -> None:
    n, d = np.random.default_rng(17).poisson([[3.0], [5.0]], (2, 400)).astype(float)
    moments = arms([n, d], [n, np.zeros(400)])
    shapes = (MEAN, RATIO)
    found = estimate(moments, shapes)
    for result in (difference(found), lift(found)):
        assert result.reason[0].tolist() == ["", Reason.DENOMINATOR_NEAR_ZERO]
        assert_every_number_or_a_reason(result)
    bucket = Moments.from_rows(
        np.column_stack([np.tile(n, 2), np.r_[d, np.zeros(400)]]),
        (np.arange(800) % 100) * 2 + np.repeat([0, 1], 400),
        (100, 2),
    )
    tried = difference(with_jackknife(found, HashBuckets(bucket.count, bucket.mean), shapes))
    assert tried.reason[0, 1] and not tried.estimable[0, 1]


@pytest.mark.parametrize(
    ("covariates", "note"),
    [
        ("itself", CovariateNote.EXPLAINS_EVERYTHING),
        ("constant", CovariateNote.CONSTANT),
        ("collinear", CovariateNote.COLLINEAR),
    ],
)
def test_case_18_a_degenerate_covariate_is_named_and_does_no_harm(covariates: str, note: CovariateNote) -> None:
    rng = np.random.default_rng(18)
    x = rng.normal(10, 2, (2, 400))
    y = x + rng.normal(0, 1, (2, 400))
    extra = {"itself": [y], "constant": [np.full((2, 400), 0.1)], "collinear": [x, 3 * x + 1]}[covariates]
    moments = arms(*([y[a], *(e[a] for e in extra)] for a in (0, 1)))
    shape = MetricShape("m", "mean", 0, covariates=tuple(range(1, 1 + len(extra))))
    found = estimate(moments, (shape,))
    assert found.note[0] == note
    got = difference(found)
    reference = estimate(arms(*([y[a], x[a]] for a in (0, 1))), (CUPED,), adjust=covariates == "collinear")
    np.testing.assert_allclose(got.standard_error, difference(reference).standard_error, rtol=1e-9)


def test_case_19_shares_of_nobody_and_of_everybody() -> None:
    assert np.round(newcombe(3, 42, 0, 40), 4).tolist() == [-0.0279, 0.1901]
    assert np.round(miettinen_nurminen(3, 42, 0, 40), 4).tolist() == [-0.0203, 0.1911]
    for x_c, n_c, x_t, n_t in ((0, 40, 3, 42), (0, 40, 0, 42), (40, 40, 42, 42)):
        moments = arms([np.arange(n_c) < x_c], [np.arange(n_t) < x_t])
        got, replaced = refine_small_counts(difference(estimate(moments, (SHARE,))), moments, (SHARE,), 0.95)
        assert replaced.all() and got.estimable.all()
        assert got.ci_lower[0, 0] < got.value[0, 0] < got.ci_upper[0, 0]
        assert 0 < got.p_value[0, 0] <= 1
        relative = lift(estimate(moments, (SHARE,)))
        assert not relative.estimable.any()
        assert_every_number_or_a_reason(got, relative)


def test_case_20_families_with_gaps_ties_one_test_or_none() -> None:
    np.testing.assert_allclose(adjusted([0.01, np.nan, 0.04], "benjamini_hochberg"), [0.02, np.nan, 0.04])
    got = adjusted([0.0, 0.05, 0.05, 1.0, 0.05], "benjamini_hochberg")
    np.testing.assert_allclose(got, [0.0, 0.0625, 0.0625, 1.0, 0.0625])
    assert adjusted([0.03], "holm").tolist() == [0.03]
    assert adjusted([], "benjamini_hochberg").shape == (0,)


def test_case_21_an_effect_of_200_standard_errors_keeps_its_size_and_rank() -> None:
    base = np.random.default_rng(21).normal(0, 1, 20_000)
    got = [compared([base], [base + shift])[0] for shift in (2.0, 2.1, 0.0)]
    assert got[0].value[0, 0] / got[0].standard_error[0, 0] > 190
    assert got[0].p_value[0, 0] == 0 and got[1].log10_p[0, 0] < got[0].log10_p[0, 0] < -1000
    ranked = adjusted_log10([g.log10_p[0, 0] for g in got], "benjamini_hochberg")
    assert np.isfinite(ranked).all() and ranked[1] < ranked[0] < ranked[2]


def test_case_22_sample_ratios_follow_the_design() -> None:
    big = chi_square([821588, 815482], [0.5, 0.5])
    assert float(big.statistic) == pytest.approx(22.774, abs=5e-4)
    assert float(big.p_value) == pytest.approx(1.8218e-6, rel=1e-4)
    assert not chi_square([95_210, 4_790], [0.95, 0.05]).p_value < 5e-4
    # Few units are judged exactly: 2 / 2^100. The chi-square would say 1.5e-23.
    assert float(few_or_many([100, 0], [0.5, 0.5]).p_value) == pytest.approx(2 / 2**100, rel=1e-9)
    assert float(chi_square([5105, 2905, 1990], [0.5, 0.3, 0.2]).p_value) == pytest.approx(0.07195843, rel=1e-6)
    assert float(chi_square([0, 0], [0.5, 0.5]).p_value) == 1.0


def test_case_23_past_bounds_stay_and_an_early_look_is_not_yet() -> None:
    power = SpendingDesign(spending="power", parameter=2.0)
    looks = (0.1, 0.35, 0.6, 1.0)
    np.testing.assert_allclose(boundaries(power, looks).upper, [3.480756, 2.763576, 2.447397, 2.046636], rtol=1e-5)
    for k in range(1, 5):
        np.testing.assert_array_equal(boundaries(power, looks[:k]).upper, boundaries(power, looks).upper[:k])
    twice = boundaries(power, (0.1, 0.35, 0.35, 0.6, 1.0)).upper
    np.testing.assert_array_equal(np.delete(twice, 2), boundaries(power, looks).upper)
    assert twice[2] == twice[1]
    over = boundaries(power, (0.1, 0.35, 0.6, 1.15))
    np.testing.assert_array_equal(over.upper[:3], boundaries(power, looks).upper[:3])
    assert over.alpha_spent[-1] == pytest.approx(0.05, rel=1e-6)
    early = boundaries(SpendingDesign(), (0.01, 0.5, 1.0))
    assert early.upper[0] == BEYOND and not early.reachable[0]
    low, high = repeated_interval(1.0, 0.5, early.upper)
    assert np.isnan([low[0], high[0]]).all() and np.isfinite([*low[1:], *high[1:]]).all()


def test_case_24_a_confidence_sequence_waits_narrows_and_forgets_how_data_came() -> None:
    rng = np.random.default_rng(24)
    rows, arm = rng.normal(0.02, 1, (2400, 1)), rng.integers(0, 2, 2400)
    last = []
    for sizes in ([0, 1, 2, 2397], [600] * 4, [1200, 0, 1200]):
        total, looks = Moments.empty((2,), 1), []
        for end in np.cumsum(sizes):
            part = slice(int(total.count.sum()), int(end))
            total = total.merge(Moments.from_rows(rows[part], arm[part], 2))
            got = difference(estimate(total, (MEAN,)))
            path = two_sided(got.value[0, 0], got.standard_error[0, 0] ** 2, total.count.sum(), 2400)
            begun = bool(ready(total.count, np.nan))
            looks.append([x if begun else np.nan for x in (path.ci_lower, path.ci_upper, path.p_value, path.log_e)])
        claim = running(AlwaysValid(*np.array(looks, dtype=float).T))
        if sizes[0] == 0:
            assert np.isnan(claim.ci_lower[:3]).all() and np.isfinite(claim.ci_lower[3])
        shown = np.isfinite(claim.ci_lower)
        assert (np.diff(claim.ci_lower[shown]) >= 0).all() and (np.diff(claim.ci_upper[shown]) <= 0).all()
        last.append(looks[-1])
    np.testing.assert_allclose(last, [last[0]] * 3, rtol=1e-11)
    replications, per_look, looks = 2000, 100, 20
    walk = rng.normal(0, math.sqrt(per_look), (replications, looks)).cumsum(axis=1)
    n = per_look * np.arange(1, looks + 1)
    z = two_sided(walk / n, 1 / n, n, per_look * looks)
    assert (z.p_value < 0.05).any(axis=1).mean() <= 0.05
    assert (2 * sc.ndtr(-np.abs(walk) / np.sqrt(n)) < 0.05).any(axis=1).mean() > 0.2, "what peeking does"


def test_case_25_quantiles_that_cannot_be_known_say_so() -> None:
    def of(values: Any, probability: float, unit: Any = None) -> tuple[float, float, str]:
        x = np.asarray(values, dtype=float)
        who = np.arange(len(x)) if unit is None else unit
        value, variance, reason = quantile_estimates(summarise(x, who, np.zeros(len(x), int), 1, probability, 0.95))
        return float(value[0]), float(variance[0]), str(reason[0])

    assert of(np.full(500, 7.0), 0.5)[2] in (Reason.TIED_QUANTILE, Reason.ZERO_VARIANCE)
    assert of([1.0, 2.0, 3.0], 0.5)[2] == Reason.TOO_FEW_UNITS
    for impossible in (0.0, 1.0):
        with pytest.raises(ValueError, match="probability"):
            of(np.arange(100.0), impossible)
    rng = np.random.default_rng(25)
    events = np.rint(10 ** rng.uniform(0, 3, 400)).astype(int)
    unit = np.repeat(np.arange(400), events)
    latency = rng.lognormal(0, 0.5, 400)[unit] * rng.lognormal(0, 0.5, len(unit))
    by_user, by_event = of(latency, 0.9, unit), of(latency, 0.9)
    assert by_user[2] == by_event[2] == "" and by_user[0] == by_event[0]
    assert by_user[1] > 4 * by_event[1], "events of one user are no independent evidence"


def test_few_clusters_never_divide_by_nothing() -> None:
    """The extra of case 16: one cluster in an arm has no standard error, not one of zero."""
    table = ClusterTable(np.array([[10.0, 5], [12, 6], [9, 4]]), np.array([0, 0, 1]))
    got = few_clusters(table, (MEAN,), 2)
    assert got.reason[0, 0] == Reason.TOO_FEW_CLUSTERS and np.isnan(got.ci_lower).all()
