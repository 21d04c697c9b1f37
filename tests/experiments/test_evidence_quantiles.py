"""Quantile metrics are rows, looks, verdicts and posteriors like any other metric (METHODS A6)."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats as sps

from experiments.definitions import Direction
from stats.moments import Moments
from stats.quantile import quantile_estimates
from tests.experiments.evidence_cases import (
    document,
    moment_set,
    north_star,
    plan_of,
    planned,
    quantile_cells,
    row_of,
    spec,
)

UNITS = 2400


@pytest.fixture(scope="module")
def events() -> dict[str, np.ndarray]:
    """Latencies: about five per unit, in half a second steps of nobody, slower for the same unit together."""
    rng = np.random.default_rng(21)
    arm, speed = np.arange(UNITS) % 2, rng.normal(0, 0.4, UNITS)
    unit = np.repeat(np.arange(UNITS), rng.poisson(4, UNITS) + 1)
    value = np.exp(5 + 0.25 * arm[unit] + speed[unit] + rng.normal(0, 0.5, len(unit)))
    return {
        "arm": arm,
        "unit": unit,
        "value": value,
        "look": np.arange(UNITS) // 800,
        "level": (np.arange(UNITS) // 2) % 3,
    }


def latency_plan(**use):
    metrics = [
        planned(spec("spend"), "secondary"),
        planned(
            spec("p90", "quantile", quantile=0.9, quantile_of="event"), "primary", direction=Direction.DECREASE, **use
        ),
        planned(spec("orders")),
    ]
    return plan_of(metrics, planned_units=UNITS, segments=["country"])


def latency_document(events, **use):
    plan, rng, unit = latency_plan(**use), np.random.default_rng(3), events["unit"]
    cells = quantile_cells(
        0.9, events["value"], unit, events["arm"][unit], look=events["look"][unit], segment=events["level"][unit]
    )
    values = rng.gamma(4, 1, (UNITS, 2))
    moments = moment_set(
        plan, values, events["arm"], look=events["look"], segment=events["level"], quantiles={"p90": cells}
    )
    return document(plan, moments), cells


def test_a_quantile_row_is_the_difference_of_two_clustered_quantiles(events):
    result, cells = latency_document(events)
    row = row_of(result, "p90")
    value, variance, _ = (a[-1] for a in quantile_estimates(cells.overall))
    slow = [np.sort(events["value"][events["arm"][events["unit"]] == a]) for a in (0, 1)]
    for mean, arm in ((row.mean_control, 0), (row.mean_treatment, 1)):
        assert mean == slow[arm][int(np.ceil(0.9 * len(slow[arm]))) - 1] == value[arm]
    error = np.sqrt(variance.sum())
    assert row.method == "A6+A3"
    assert (row.n_control, row.n_treatment) == (1200, 1200)
    assert row.difference_standard_error == pytest.approx(error, rel=1e-12)
    df = variance.sum() ** 2 / (variance**2 / 1199).sum()
    assert row.df == pytest.approx(df, rel=1e-12)
    assert row.p_value == pytest.approx(2 * sps.t.sf(abs(value[1] - value[0]) / error, df), rel=1e-8)
    log_error = np.sqrt((variance / value**2).sum())
    assert row.lift == pytest.approx(value[1] / value[0] - 1, rel=1e-12)
    assert row.ci_upper == pytest.approx(value[1] / value[0] * np.exp(1.959963984540054 * log_error) - 1, rel=1e-9)


def test_a_quantile_has_looks_segments_a_posterior_and_a_verdict(events):
    result, cells = latency_document(events)
    looks = [look for look in result.looks if look.metric_key == "p90"]
    assert [look.n for look in looks] == [800, 1600, 2400]
    assert looks[-1].lift == row_of(result, "p90").lift
    value, _, _ = quantile_estimates(cells.by_segment)
    for level in range(3):
        row = row_of(result, "p90", segment=f"s{level}")
        assert row.difference == pytest.approx(value[level, 1] - value[level, 0], rel=1e-12)
        assert row.n_control == cells.by_segment.units[level, 0]
    row = row_of(result, "p90")
    assert row.chance_to_win is not None and row.chance_to_win < 0.01
    assert row.always_valid_lower is not None and row.always_valid_lower > 0
    assert any(density.metric_key == "p90" for density in result.densities)
    assert result.verdict == "worse"
    assert {"A6", "A1"} <= set(result.methods)


def test_the_metrics_beside_a_quantile_are_what_they_are_without_it(events):
    result, _ = latency_document(events)
    alone = plan_of([planned(spec("spend")), planned(spec("orders"))])
    values = np.random.default_rng(3).gamma(4, 1, (UNITS, 2))
    plain = document(alone, moment_set(alone, values, events["arm"]))
    for key in ("spend", "orders"):
        assert row_of(result, key).p_value == pytest.approx(row_of(plain, key).p_value, rel=1e-12)


def test_tied_values_give_a_quantile_without_an_interval():
    plan = plan_of([planned(spec("p50", "quantile", quantile=0.5), "primary")])
    arm = np.arange(400) % 2
    heaped = np.where(np.arange(400) % 10 == 0, 20.0, 10.0)
    moments = moment_set(
        plan, np.zeros((400, 0)), arm, quantiles={"p50": quantile_cells(0.5, heaped, np.arange(400), arm)}
    )
    row = row_of(document(plan, moments), "p50")
    assert (row.mean_control, row.difference) == (10, 0)
    assert (row.p_value, row.lift, row.reason, row.estimable) == (None, None, "tied_quantile", False)


@pytest.mark.parametrize(
    ("summaries", "reason"), [({}, "no_data"), ({"p50": "non_finite_values"}, "non_finite_values")]
)
def test_a_quantile_without_usable_data_says_why(summaries, reason):
    plan = plan_of([planned(spec("p50", "quantile", quantile=0.5), "primary"), planned(spec("spend"))])
    values, arm = np.random.default_rng(1).gamma(4, 1, (400, 1)), np.arange(400) % 2
    result = document(plan, moment_set(plan, values, arm, refused=summaries))
    row = row_of(result, "p50")
    assert (row.mean_control, row.difference, row.p_value, row.reason) == (None, None, None, reason)
    assert row_of(result, "spend").estimable


def test_numbers_beyond_reason_are_refused_in_quantiles_too():
    plan = plan_of([planned(spec("p50", "quantile", quantile=0.5), "primary")])
    arm, values = np.arange(400) % 2, np.random.default_rng(1).gamma(4, 1e200, 400)
    moments = moment_set(
        plan, np.zeros((400, 0)), arm, quantiles={"p50": quantile_cells(0.5, values, np.arange(400), arm)}
    )
    assert row_of(document(plan, moments), "p50").reason == "values_out_of_range"


def test_summaries_cannot_hold_a_quantile():
    plan = plan_of([planned(spec("p50", "quantile", quantile=0.5), "primary"), planned(spec("a"))], data="summary")
    moments = moment_set(plan, np.random.default_rng(1).normal(5, 1, (40, 2)), np.arange(40) % 2, columns=["p50", "a"])
    assert row_of(document(plan, moments), "p50").reason == "no_quantile_of_summaries"


def test_a_formula_or_a_tree_over_a_quantile_is_undefined():
    metrics = [
        planned(spec("p50", "quantile", quantile=0.5)),
        planned(spec("spend"), "primary"),
        planned(spec("orders")),
        planned(spec("f", "formula", formula="spend / p50")),
    ]
    plan = plan_of(metrics, north_star=north_star("orders", "spend * p50", ["spend", "p50"]))
    arm, values = np.arange(400) % 2, np.random.default_rng(1).gamma(4, 1, 400)
    cells = quantile_cells(0.5, values, np.arange(400), arm)
    moments = moment_set(plan, np.column_stack([values, values]), arm, quantiles={"p50": cells})
    result = document(plan, moments)
    assert row_of(result, "p50").estimable
    assert row_of(result, "f").reason == "formula_undefined"
    assert not result.north_star[0].tree.estimable and result.north_star[0].tree.reason


def test_a_plan_of_quantiles_alone_needs_no_column():
    plan = plan_of([planned(spec("p50", "quantile", quantile=0.5), "primary")])
    arm, values = np.arange(400) % 2, np.random.default_rng(1).gamma(4, 1, 400)
    moments = moment_set(
        plan, np.zeros((400, 0)), arm, quantiles={"p50": quantile_cells(0.5, values, np.arange(400), arm)}
    )
    bare = replace(moments, columns=(), overall=bare_of(moments.overall), by_segment=bare_of(moments.by_segment))
    assert row_of(document(plan, bare), "p50") == row_of(document(plan, moments), "p50")
    assert row_of(document(plan, bare), "p50").estimable


def bare_of(moments: Moments) -> Moments:
    return Moments(moments.count, moments.mean[..., :0], moments.comoment[..., :0, :0], moments.third[..., :0])
