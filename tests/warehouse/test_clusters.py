"""Clustered randomisation: moments of totals over clusters, against loops."""

from pathlib import Path

import numpy as np
import pytest

import warehouse.clusters as clusters
from experiments.columns import CLUSTER_SIZE
from experiments.definitions import MetricSpec, Trigger
from stats.moments import Moments
from tests.warehouse.cases import DAY, START, Exposure, assert_same, direct_moments, slice_of, write_exposures
from tests.warehouse.plain import (
    ARMS,
    AS_OF,
    CLOSED,
    OPEN,
    UnitRow,
    World,
    by_arm,
    plan_with,
    random_world,
    totals_of_clusters,
    unit_rows,
)
from tests.warehouse.test_triggers import BIG, is_big
from warehouse.data_slice import DataSlice
from warehouse.extract import extract_experiment


def uncrossed(world: World) -> set[str]:
    """Accounts all of whose exposures are in one arm."""
    arms: dict[str, set[str]] = {}
    for row in world.exposures:
        if "account" in row.segments and START <= row.at < AS_OF:
            arms.setdefault(row.segments["account"], set()).add(row.variant)
    return {account for account, seen in arms.items() if len(seen) == 1}


def of_clusters(rows: list[UnitRow], k: int) -> Moments:
    return direct_moments(totals_of_clusters(rows), k)


@pytest.mark.parametrize("trigger", [None, BIG])
@pytest.mark.parametrize("metrics", [CLOSED, (*CLOSED, OPEN)])
def test_cluster_moments_equal_loops_at_every_look_in_every_segment_and_stratum(
    tmp_path: Path, metrics: tuple[MetricSpec, ...], trigger: Trigger | None
) -> None:
    world = random_world(tmp_path, 21, units=150, clustered=True)
    plan = plan_with(
        metrics,
        segments=["platform"], cluster="account", trigger=trigger, stratify_by=["platform"],
    )  # fmt: skip
    found = extract_experiment(plan, world.data)
    found.validate()
    assert found.columns[-1] == CLUSTER_SIZE
    good = uncrossed(world)
    assert 0 < len(good) < 14, "some accounts are crossover"
    for i, look in enumerate(found.looks):
        everybody = unit_rows(
            metrics,
            world.exposures, world.facts, look=look, data_as_of=AS_OF, dimensions=["platform"], cluster="account",
            triggers=is_big if trigger else None, source="orders",
        )  # fmt: skip
        rows = [row for row in everybody if row.cluster in good]
        assert_same(found.overall[i], of_clusters(rows, len(found.columns)))
        seen = [row for row in rows if row.exposed is not None and row.exposed < look]
        assert found.exposures[i].tolist() == by_arm(seen), "exposures count units"
        assert found.by_stratum is not None
        for s, stratum in enumerate(found.strata):
            inside = [row for row in rows if f"platform={platform_of(row, everybody)}" == stratum]
            assert_same(found.by_stratum[i, s], of_clusters(inside, len(found.columns)))
    for i, (_, level) in enumerate(found.segments):
        inside = [row for row in rows if row.levels["platform"] == level]
        assert_same(found.by_segment[i], of_clusters(inside, len(found.columns)))
    assert found.populations["analysed"].tolist() == by_arm(row for row in rows if row.entered)
    alone = [row for row in everybody if row.cluster is None and row.exposed is not None]
    assert found.populations["without_cluster"].tolist() == by_arm(alone) and alone
    if trigger is not None:
        assert found.populations["assigned"].tolist() == by_arm(rows)


def platform_of(row: UnitRow, rows: list[UnitRow]) -> str:
    """The platform of the first unit of a row's account, of those whose windows are complete at the last look."""
    longest = 3 * DAY
    done = [r for r in rows if r.cluster == row.cluster and r.exposed is not None and r.exposed + longest <= AS_OF]
    first = min(done, key=lambda r: r.assigned, default=row)
    return first.levels["platform"]


def test_the_totals_of_few_clusters_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(tmp_path, 22, units=150, clustered=True)
    plan = plan_with(cluster="account")
    found = extract_experiment(plan, world.data)
    assert found.clusters is not None
    again = direct_moments(
        [found.clusters.values[found.clusters.variant == arm].tolist() for arm in range(2)], len(found.columns)
    )
    assert_same(found.last, again)
    assert found.buckets is not None
    assert found.buckets.count.sum(axis=0).tolist() == found.last.count.tolist()
    monkeypatch.setattr(clusters, "FEW_CLUSTERS", len(found.clusters.variant) - 1)
    assert extract_experiment(plan, world.data).clusters is None


def accounts(folder: Path, rows: list[tuple[str, str, str | None]]) -> DataSlice:
    exposures = [
        Exposure(unit, arm, START + i * DAY / 24, {} if account is None else {"account": account})
        for i, (unit, arm, account) in enumerate(rows)
    ]
    return slice_of([write_exposures(folder, exposures)], {}, data_as_of=AS_OF)


def test_an_account_in_two_variants_is_crossover_with_all_its_units(tmp_path: Path) -> None:
    a, b = ARMS
    rows: list[tuple[str, str, str | None]] = [
        ("u1", a, "x"), ("u2", a, "x"), ("u3", b, "x"), ("u4", a, "y"), ("u5", b, "z"), ("u6", b, None),
    ]  # fmt: skip
    found = extract_experiment(plan_with(cluster="account"), accounts(tmp_path, rows))
    assert found.crossover == 3
    assert found.last.count.tolist() == [1, 1]
    assert found.populations["without_cluster"].tolist() == [0, 1]
    assert found.exposures[-1].tolist() == [1, 1]


def test_a_unit_that_moves_between_accounts_of_both_variants_is_crossover_alone(tmp_path: Path) -> None:
    a, b = ARMS
    rows: list[tuple[str, str, str | None]] = [("u1", a, "x"), ("u1", b, "z"), ("u2", a, "x"), ("u3", b, "z")]
    found = extract_experiment(plan_with(cluster="account"), accounts(tmp_path, rows))
    assert found.crossover == 1
    assert found.last.mean[:, found.column(CLUSTER_SIZE)].tolist() == [1.0, 1.0]


def test_exposures_without_any_cluster_leave_nobody_to_analyse(tmp_path: Path) -> None:
    found = extract_experiment(plan_with(cluster="account"), accounts(tmp_path, [("u1", ARMS[0], None)]))
    assert found.last.count.tolist() == [0, 0]
    assert found.populations["without_cluster"].tolist() == [1, 0]
    assert np.isfinite(found.last.mean).all()
