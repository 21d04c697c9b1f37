"""Differences between segments are tested together, and a whole against all of its parts is called out (A15)."""

import numpy as np
import pytest

from experiments.definitions import Estimation
from experiments.result import ExperimentResult, Heterogeneity
from stats.heterogeneity import q_test
from stats.moments import Moments
from stats.multiplicity import adjusted
from tests.experiments.evidence_cases import (
    check_of,
    document,
    moment_set,
    north_star,
    plan_of,
    planned,
    spec,
    variants,
)

N = 12_000


def world(
    effects: list[float], levels: list[str] | None = None, dimension: str = "country", **extra
) -> ExperimentResult:
    """One relative effect per segment level, on two metrics of which only the first is primary."""
    rng = np.random.default_rng(1)
    arm, segment = np.arange(N) % 2, np.arange(N) // 2 % len(effects)
    mean = 10 * (1 + segment) * (1 + np.array(effects)[segment] * arm)
    values = np.column_stack([mean + rng.normal(0, 2, N), rng.normal(5, 1, N)])
    plan = plan_of(
        [planned(spec("m"), "primary"), planned(spec("other"), "secondary")],
        planned_units=N,
        **({"segments": [dimension]} | extra),
    )
    names = tuple((dimension, name) for name in levels or [f"s{i}" for i in range(len(effects))])
    moments = moment_set(plan, values, arm, segment=segment, segments=names)
    return document(plan, moments)


def only(result: ExperimentResult) -> Heterogeneity:
    assert len(result.heterogeneity) == 1
    return result.heterogeneity[0]


def test_equal_relative_effects_on_unequal_baselines_are_no_heterogeneity():
    found = only(world([0.05, 0.05, 0.05]))
    assert found.levels == 3 and found.p_value > 0.05 and not found.reversed and found.reason is None
    assert (found.metric_key, found.variant_key, found.dimension) == ("m", "v1", "country")
    assert found.tau < 0.01


def test_the_test_is_that_of_the_segment_rows():
    result = world([0.1, 0.0, 0.05])
    rows = [row for row in result.rows if row.metric_key == "m" and row.segment is not None]
    log_lift = [np.log1p(row.lift) for row in rows]
    error = [(np.log1p(row.ci_upper) - np.log1p(row.ci_lower)) / 2 / 1.959963984540054 for row in rows]
    wanted = q_test(log_lift, error)
    found = only(result)
    assert found.q == pytest.approx(float(wanted.q), rel=1e-9) and found.p_value < 1e-6
    assert found.i_squared == pytest.approx(float(wanted.i_squared), rel=1e-9)
    assert 0.02 < found.tau < 0.1
    assert "A15" in result.methods


def test_all_tests_of_the_result_are_corrected_together():
    rng = np.random.default_rng(2)
    plan = plan_of([planned(spec(key), "primary") for key in ("a", "b", "c")], planned_units=N, segments=["country"])
    arm, segment = np.arange(N) % 2, np.arange(N) // 2 % 4
    values = rng.normal(10, 2, (N, 3)) + np.column_stack([(segment == 1) * arm * 0.4, 0 * arm, 0 * arm])
    result = document(plan, moment_set(plan, values, arm, segment=segment))
    p = [item.p_value for item in result.heterogeneity]
    assert [item.metric_key for item in result.heterogeneity] == ["a", "b", "c"]
    assert [i.p_value_adjusted for i in result.heterogeneity] == pytest.approx(
        adjusted(p, "benjamini_hochberg").tolist()
    )


def test_dimensions_with_different_numbers_of_levels_are_tested_in_the_order_of_the_plan():
    rng = np.random.default_rng(6)
    metrics = [planned(spec(key), "primary") for key in ("a", "b")]
    plan = plan_of(metrics, variants(3), segments=["device", "country"])
    arm, country, device = np.arange(N) % 3, np.arange(N) // 3 % 4, np.arange(N) // 12 % 2
    values = rng.normal(10, 2, (N, 2)) + np.column_stack([0 * arm, 0.5 * (device == 1) * (arm == 2)])
    parts = [moment_set(plan, values, arm, segment=level).by_segment for level in (country, device)]
    names = [*(("country", f"c{i}") for i in range(4)), ("device", "ios"), ("device", "web")]
    both = Moments(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("count", "mean", "comoment", "third")))
    result = document(plan, moment_set(plan, values, arm, segments=tuple(names), by_segment=both))
    keys = [(item.metric_key, item.variant_key, item.dimension, item.levels) for item in result.heterogeneity]
    by_dimension = (("device", 2), ("country", 4))
    assert keys == [(m, v, *found) for m in ("a", "b") for v in ("v1", "v2") for found in by_dimension]
    small = [item for item in result.heterogeneity if item.p_value_adjusted < 0.01]
    assert [(item.metric_key, item.variant_key, item.dimension) for item in small] == [("b", "v2", "device")]
    rows = {(row.segment, row.metric_key, row.variant_key): row for row in result.rows}
    web, ios = rows["web", "b", "v2"], rows["ios", "b", "v2"]
    gap = np.log1p(web.lift) - np.log1p(ios.lift)
    assert small[0].i_squared > 0.5 and gap > 0.02


def test_the_north_star_is_tested_whatever_its_role():
    rng = np.random.default_rng(3)
    plan = plan_of(
        [planned(spec("a"), "primary"), planned(spec("star"), "monitor")],
        segments=["country"],
        north_star=north_star("star", "a", ["a"]),
    )
    values = rng.normal(10, 2, (N, 2))
    result = document(plan, moment_set(plan, values, np.arange(N) % 2, segment=np.arange(N) // 2 % 2))
    assert {item.metric_key for item in result.heterogeneity} == {"a", "star"}


def test_two_way_dimensions_come_with_shrunken_effects():
    result = world(
        [0.1, 0.0, 0.05, 0.05],
        dimension="country × device",
        levels=["de × ios", "de × web", "fr × ios", "fr × web"],
        segments=["country", "device"],
        two_way_segments=[("country", "device")],
    )
    found = only(result)
    assert found.dimension == "country × device"
    assert [effect.segment for effect in found.effects] == ["de × ios", "de × web", "fr × ios", "fr × web"]
    for effect in found.effects:
        assert effect.hdi_lower < effect.lift < effect.hdi_upper and effect.n == N // 4
        assert effect.raw_ci_lower < effect.raw_lift < effect.raw_ci_upper
    raw, lift = [e.raw_lift for e in found.effects], [e.lift for e in found.effects]
    assert np.ptp(lift) < np.ptp(raw)


def test_levels_with_numbers_for_names_have_a_trend():
    rising = only(world([0.0, 0.04, 0.08, 0.12], levels=["0-7", "8-30", "31-90", "91+"], dimension="tenure"))
    assert rising.trend == pytest.approx(0.037, abs=0.01) and rising.trend_p_value < 1e-6
    names = only(world([0.0, 0.04, 0.08, 0.12]))
    assert (names.trend, names.trend_p_value) == (None, None)


def test_fewer_than_two_levels_say_so():
    found = only(world([0.05]))
    assert found.reason == "too_few_segments"
    assert (found.q, found.p_value, found.p_value_adjusted, found.tau, found.i_squared) == (None,) * 5


def test_metrics_around_zero_are_compared_by_their_differences():
    rng = np.random.default_rng(4)
    plan = plan_of([planned(spec("profit"), "primary")], segments=["country"])
    arm, segment = np.arange(N) % 2, np.arange(N) // 2 % 2
    values = (rng.normal(0, 2, N) + 0.5 * arm * segment)[:, None]
    found = only(document(plan, moment_set(plan, values, arm, segment=segment)))
    assert found.reason == "no_relative_effect" and found.tau is None and found.p_value < 1e-4


def simpson(noise: float = 1.0) -> ExperimentResult:
    """Better in both countries, but treatment got more of the poorer one."""
    rng = np.random.default_rng(5)
    sizes = {(0, 0): 4000, (0, 1): 1000, (1, 0): 1000, (1, 1): 4000}
    segment, arm = (np.concatenate([np.full(n, key[i]) for key, n in sizes.items()]) for i in (0, 1))
    values = (np.where(segment == 0, 20.0, 10.0) + 0.5 * arm + rng.normal(0, noise, len(arm)))[:, None]
    plan = plan_of([planned(spec("m"), "primary")], segments=["country"], estimation=Estimation(cuped=False))
    return document(plan, moment_set(plan, values, arm, segment=segment))


def test_a_whole_that_points_against_all_of_its_parts_is_a_warning():
    result = simpson()
    assert only(result).reversed
    check = next(check for check in result.checks if check.name == "segments_reversed")
    assert check.status == "warn" and "m of v1 by country" in check.detail and "stratify_by" in check.remedy
    assert check_of(world([0.05, 0.02]), "segments_reversed") == "pass"
