"""Summaries with covariances: the same moments as unit rows have, and refusals of what could be of no data."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import combinations

import numpy as np
import pytest

from experiments.evidence import Block, build
from stats.moments import Moments
from tests.experiments.evidence_cases import context, moment_set, north_star, planned, spec
from tests.experiments.evidence_cases import plan_of as evidence_plan
from tests.warehouse.cases import START, plan_of
from tests.warehouse.plain import CLOSED, OPEN
from warehouse.extract import extract_summaries
from warehouse.joint_summaries import Cell, check_joint, read_covariances
from warehouse.rows import RowFault
from workers.jobs import SummaryLine

PLAN = plan_of([*CLOSED, OPEN])
KEYS = ("revenue", "per_visit", "visitors")
LATER = START + timedelta(days=1)


def lines_of(values: np.ndarray, variant: str, as_of: object = START, *, pairs: int = 3) -> list[SummaryLine]:
    """The rows of units' `values` (n, 3), the first few pairs with their covariance."""
    spread = np.cov(values, rowvar=False)
    known = list(combinations(range(3), 2))[:pairs]
    return [
        SummaryLine(
            key, variant, as_of, len(values), float(values[:, i].mean()), float(spread[i, i]),
            {KEYS[b]: float(spread[a, b]) for a, b in known if a == i},
        )
        for i, key in enumerate(KEYS)
    ]  # fmt: skip


def units(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.gamma(2, 1, (n, 1)) + rng.normal(0, 1, (n, 3))


def test_summaries_with_all_covariances_have_the_moments_of_their_units() -> None:
    rows = [units(1, 40), units(2, 50), units(3, 90)]
    sent = [*lines_of(rows[0], "control"), *lines_of(rows[1], "treatment"), *lines_of(rows[2], "treatment", LATER)]
    ((keys, found),) = extract_summaries(PLAN, sent)
    assert (keys, found.columns, found.looks) == (KEYS, KEYS, (START, LATER))
    for look, arms in enumerate(([0, 1], [0, 2])):
        for arm, which in enumerate(arms):
            wanted = Moments.from_rows(rows[which], np.zeros(len(rows[which]), dtype=np.int64), (1,))[0]
            cell = found.overall[look, arm]
            assert cell.count == wanted.count
            np.testing.assert_allclose(cell.mean, wanted.mean, rtol=1e-12)
            np.testing.assert_allclose(cell.comoment, wanted.comoment, rtol=1e-10, atol=1e-10)
    found.validate()


@pytest.mark.parametrize("pairs", [0, 2])
def test_without_every_pair_there_is_a_block_for_each_metric(pairs: int) -> None:
    sent = [*lines_of(units(1, 40), "control"), *lines_of(units(2, 50), "treatment", pairs=pairs)]
    blocks = extract_summaries(PLAN, sent)
    assert [keys for keys, _ in blocks] == [("revenue",), ("per_visit",), ("visitors",)]
    assert all(moments.last.count.tolist() == [40, 50] for _, moments in blocks)


def test_the_tree_of_a_north_star_is_the_same_on_summaries_as_on_units() -> None:
    rng = np.random.default_rng(4)
    n = 4000
    arm = np.arange(n) % 2
    visits = 1 + rng.poisson(3 + 0.3 * arm)
    orders = rng.binomial(visits, 0.4)
    metrics = [planned(spec("orders"), "primary"), planned(spec("visits")), planned(spec("rate", "ratio"))]
    star = north_star("orders", "visits * rate", ["visits", "rate"])
    plan = evidence_plan(metrics, north_star=star)
    units = moment_set(plan, np.column_stack([orders, visits, orders, visits]), arm)
    wanted = build(plan, [Block(("orders", "visits", "rate"), units)], context()).finish()

    sums = plan.model_copy(update={"data": "summary"})
    sent = []
    for v, variant in enumerate(sums.variants):
        top, bottom = orders[arm == v], visits[arm == v]
        rate = top.mean() / bottom.mean()
        influence = (top - rate * bottom) / bottom.mean()  # what the variance of a ratio is that of
        spread = np.cov(np.stack([top, bottom, influence]))
        for i, (key, mean) in enumerate((("orders", top.mean()), ("visits", bottom.mean()), ("rate", rate))):
            others = {other: float(spread[i, j]) for j, other in enumerate(("orders", "visits", "rate")) if j != i}
            line = SummaryLine(key, variant.key, START, len(top), float(mean), float(spread[i, i]), others)
            sent.append(line)
    blocks = [Block(keys, moments) for keys, moments in extract_summaries(sums, sent)]
    found = build(sums, blocks, context()).finish()
    (effect,), (same,) = found.north_star, wanted.north_star
    assert effect.coherence.status == "pass" and found.verdict != "unreliable"
    assert effect.tree.lift == pytest.approx(same.tree.lift, rel=1e-9)
    assert effect.tree.standard_error == pytest.approx(same.tree.standard_error, rel=1e-6)
    assert found.joint_effects[0].metric_keys == ["orders", "visits", "rate"]
    np.testing.assert_allclose(found.joint_effects[0].covariance, wanted.joint_effects[0].covariance, rtol=1e-6)


def cell(key: str, variance: float = 4.0, *, n: int = 10, number: int = 1, **covariances: float) -> Cell:
    return Cell(key, "control", START, n, variance, covariances, number)


@pytest.mark.parametrize(
    ("cells", "reason", "field"),
    [
        ([cell("a", b=1.0)], "other_metric_missing", "covariances"),
        ([cell("a", b=1.0), cell("b", n=11)], "units_differ", "n"),
        ([cell("a", b=1.0), cell("b", a=1.1)], "covariances_disagree", "covariances"),
        ([cell("a", b=4.1), cell("b")], "covariance_too_large", "covariances"),
        (
            [cell("a", b=3.6, c=3.6), cell("b", c=-3.6), cell("c", number=3)],
            "covariances_not_positive",
            "covariances",
        ),
    ],
)
def test_what_could_be_of_no_data_is_refused(cells: Sequence[Cell], reason: str, field: str) -> None:
    faults = check_joint(cells)
    assert {(fault.reason, fault.field) for _, fault in faults} == {(reason, field)}
    stored = [each._replace(number=0) for each in cells]
    assert check_joint(stored) == []  # what is in the store was judged when it came


def test_covariances_up_to_what_the_variances_allow_are_taken_once_or_twice() -> None:
    assert check_joint([cell("a", b=4.0), cell("b", a=4.0)]) == []
    assert check_joint([cell("a", b=-4.0, number=0), cell("b", a=-4.0)]) == []
    assert check_joint([cell("a", b=2.0, c=2.0), cell("b", c=2.0), cell("c")]) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("{", "malformed_covariances"),
        ([1], "malformed_covariances"),
        ({"b": float("nan")}, "non_finite_value"),
        ({"b": "much"}, "non_numeric_value"),
        ({"b": None}, "missing_moment"),
        ({"c": 1}, "unknown_metric"),
        ({"a": 1}, "unknown_metric"),
    ],
)
def test_unreadable_covariances_are_named(given: object, reason: str) -> None:
    with pytest.raises(RowFault) as caught:
        read_covariances({"metric_key": "a", "covariances": given}, ["a", "b"])
    assert (caught.value.reason, caught.value.field) == (reason, "covariances")


def test_a_csv_has_covariances_as_json_text_or_none() -> None:
    assert read_covariances({"metric_key": "a", "covariances": '{"b": 1.5}'}, ["a", "b"]) == {"b": 1.5}
    assert read_covariances({"metric_key": "a", "covariances": None}, ["a", "b"]) is None
    assert read_covariances({"metric_key": "a"}, ["a", "b"]) is None
