"""Which columns metrics need, which of them they share, and which metrics are followed by age."""

from typing import Any

import pytest

from experiments.columns import aged, layout
from experiments.definitions import (
    Cap,
    Direction,
    Estimation,
    InputMetric,
    Measure,
    MetricSpec,
    NorthStarSpec,
    Role,
    Variant,
)
from experiments.plan import AnalysisPlan, PlannedMetric, PlannedNorthStar

ORDERS = Measure(fact_source="orders", aggregation="sum")
VISITS = Measure(fact_source="visits")


def spec(key: str, kind: str = "mean", **fields: Any) -> MetricSpec:
    measure = {} if kind in ("ratio", "formula") else {"measure": ORDERS}
    return MetricSpec.model_validate({"key": key, "name": key, "kind": kind, **measure, **fields})


def plan_of(*specs: MetricSpec, primary: tuple[str, ...] = (), star: str | None = None, **fields: Any) -> AnalysisPlan:
    return AnalysisPlan(
        experiment_key="checkout",
        unit_type="user",
        data="events",
        variants=[Variant(key="a", weight=0.5, is_control=True), Variant(key="b", weight=0.5)],
        metrics=[
            PlannedMetric(
                metric_key=item.key,
                version=1,
                role=Role.PRIMARY if item.key in primary else Role.SECONDARY,
                direction=Direction.INCREASE,
                mde=None,
                non_inferiority_margin=None,
                spec=item,
            )
            for item in specs
        ],
        fact_sources=[],
        north_star=None
        if star is None
        else PlannedNorthStar(
            version=1,
            spec=NorthStarSpec(
                key="ns", name="ns", metric_key=star, formula="m0", input_metrics=[InputMetric(metric_key="m0")]
            ),
        ),
        segments=[],
        planned_units=None,
        planned_end_at=None,
        estimation=Estimation(),
        **fields,
    )


def test_metrics_with_the_same_measure_window_and_cap_share_their_columns() -> None:
    cap = Cap(quantile=0.99)
    found = layout([spec("a", cap=cap), spec("b", cap=cap), spec("c"), spec("d", window_days=3)])
    assert found.names == ("a", "a.uncapped", "a.pre", "no_history.14d", "c.pre", "d")
    assert found.metrics["b"].value == found.metrics["a"].value == 0
    assert found.metrics["c"].value == 1, "a metric without a cap is the twin of one with"
    assert found.metrics["a"].uncapped == (1,)
    assert found.metrics["d"].covariates == (4,)


def test_covariates_of_caps_from_different_periods_are_the_same_column() -> None:
    found = layout([spec("a", cap=Cap(quantile=0.99)), spec("b", cap=Cap(quantile=0.99, basis="pre_period"))])
    assert found.metrics["a"].covariates == found.metrics["b"].covariates
    assert found.metrics["a"].value != found.metrics["b"].value


def test_a_fixed_cap_is_not_put_on_another_measure() -> None:
    own, other = layout([spec("a", cap=Cap(value=100))]), layout([spec("a", cap=Cap(value=100), covariate=VISITS)])
    assert own.columns[own.metrics["a"].covariates[0]].cap is not None
    assert other.columns[other.metrics["a"].covariates[0]].cap is None


def test_both_parts_of_a_ratio_have_twins_without_the_cap() -> None:
    found = layout([spec("r", "ratio", numerator=ORDERS, denominator=VISITS, cap=Cap(value=9))])
    where = found.metrics["r"]
    assert [found.names[i] for i in where.uncapped] == ["r.numerator.uncapped", "r.denominator.uncapped"]
    assert [found.columns[i].cap for i in where.uncapped] == [None, None]


def test_who_answered_a_survey_is_not_who_has_facts() -> None:
    found = layout([spec("nps", "survey", scale="nps"), spec("buyers", "proportion")])
    where = found.metrics["nps"]
    assert where.kind == "ratio"
    assert where.responded is not None
    assert [found.columns[i].content for i in (where.value, where.denominator or 0, where.responded)] == [
        "score",
        "answers",
        "responded",
    ]
    assert found.metrics["buyers"].value != where.responded


def test_quantile_metrics_lengthen_the_window_and_have_no_moments() -> None:
    found = layout([spec("a", window_days=3), spec("p90", "quantile", quantile=0.9, window_days=5)])
    assert found.names == ("a", "a.pre", "no_history.14d")
    assert found.longest_window_days == 5
    assert "p90" not in found.metrics


def test_the_aggregation_of_single_facts_does_not_matter() -> None:
    specs = [
        spec("p", "quantile", quantile=0.9, quantile_of="event", measure=Measure(fact_source="x", aggregation=name))
        for name in ("count", "sum", "max")
    ]
    first, *others = (layout([item]).quantiles[0].column for item in specs)
    assert others == [first, first]


@pytest.mark.parametrize(
    ("fields", "followed"),
    [
        ({}, True),
        ({"window_days": 28}, True),
        ({"window_days": 29}, False),
        ({"window_days": 1}, False),
        ({"window_days": 2.5}, False),
        ({"window_days": None}, False),
        ({"measure": Measure(fact_source="x", aggregation="max")}, False),
        ({"kind": "proportion"}, False),
        ({"kind": "survey"}, False),
    ],
)
def test_sums_and_counts_over_two_to_28_whole_days_are_followed_by_age(fields: dict[str, Any], followed: bool) -> None:
    found = aged(plan_of(spec("a", **fields), primary=("a",)))
    assert bool(found) is followed
    assert all(item.days == (fields.get("window_days") or 7) for item in found)


def test_the_north_star_comes_first_and_four_metrics_are_enough() -> None:
    specs = [spec(f"m{i}", window_days=7 + i) for i in range(6)]
    plan = plan_of(*specs, primary=("m0", "m1", "m2", "m3"), star="m5")
    assert [item.metric_key for item in aged(plan)] == ["m5", "m0", "m1", "m2"]
    assert [item.metric_key for item in aged(plan_of(*specs, primary=("m4",)))] == ["m4"]


def test_nothing_is_followed_by_age_with_clustered_randomisation() -> None:
    assert aged(plan_of(spec("a"), primary=("a",), cluster="store")) == ()
