"""Which rows of a source are facts, and whose they are: filters of the source, and ids that another source maps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from experiments.definitions import (
    Cap,
    DuckDBSource,
    EventSource,
    FactSourceSpec,
    FileSource,
    Filter,
    Measure,
    MetricSpec,
    TableSource,
    Trigger,
    UnitMapping,
)
from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan, BaselinePlan, NorthStarPlan
from stats.moment_set import UnmappedFacts
from tests.warehouse.cases import (
    DAY,
    START,
    Exposure,
    Fact,
    assert_same,
    plan_of,
    planned,
    slice_of,
    write_exposures,
    write_facts,
)
from tests.warehouse.plain import AS_OF, CLOSED, OPEN, plan_with, random_world
from tests.warehouse.test_reach import LARGEST, star_of
from tests.warehouse.test_relational import assert_equal, both
from warehouse import experiment_moments
from warehouse.data_slice import DataSlice
from warehouse.extract import extract_baseline, extract_experiment, extract_series

ORDERS, VISITS = Measure(fact_source="orders", aggregation="sum"), Measure(fact_source="visits", aggregation="count")
METRICS = (
    *CLOSED,
    OPEN,
    LARGEST,
    MetricSpec(key="capped", name="c", kind="mean", window_days=3, measure=ORDERS, cap=Cap(quantile=0.9)),
    MetricSpec(key="median", name="m", kind="quantile", quantile=0.5, window_days=3, measure=VISITS),
    MetricSpec(
        key="each", name="e", kind="quantile", quantile=0.8, quantile_of="event", window_days=3, measure=ORDERS
    ),
)  # fmt: skip
TRIGGER = Trigger(fact_source="orders", filters=[Filter(column="value", op=">", value=3.0)])


def in_quarters(rng: np.random.Generator) -> float:
    """Sums of these are exact in any order."""
    return float(np.rint(4 * rng.normal(5, 3)) / 4)


def plan_on(sources: Sequence[FactSourceSpec], **options: Any) -> AnalysisPlan:
    plan = plan_with(METRICS, segments=["country", "platform"], stratify_by=["platform"], **options)
    return plan.model_copy(update={"fact_sources": list(sources), "north_star": star_of("revenue")})


def assert_identical(found: Any, wanted: Any, *, but: Iterable[str] = (), where: str = "") -> None:
    """The same thing to the last digit, whatever it is made of."""
    if is_dataclass(wanted):
        for item in fields(wanted):
            if item.name not in but:
                assert_identical(getattr(found, item.name), getattr(wanted, item.name), where=f"{where}.{item.name}")
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_array_equal(found, wanted, err_msg=where)
    elif isinstance(wanted, Mapping):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_identical(found[key], wanted[key], where=f"{where}[{key}]")
    elif isinstance(wanted, tuple | list):
        assert len(found) == len(wanted), where
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_identical(one, other, where=f"{where}[{i}]")
    else:
        assert found == wanted, where


def company(metrics: Sequence[MetricSpec], sources: Sequence[FactSourceSpec], data: DataSlice) -> list[Any]:
    """What is known of the company besides experiments: the weeks of a North Star, the history of metrics, a series."""
    of_company = replace(data, started_at=None, exposure_files=())
    common = {"metrics": [planned(metric) for metric in metrics], "fact_sources": list(sources)}
    star = star_of("revenue")
    return [
        extract_series(NorthStarPlan.model_validate({"north_star": star, "weeks": 4, **common}), of_company),
        extract_baseline(BaselinePlan.model_validate({"unit_type": "user", "weeks": 2, **common}), of_company),
    ]


def test_rows_that_a_source_filters_out_do_not_exist_for_anything(tmp_path: Path) -> None:
    world = random_world(tmp_path, 5, units=90, amount=in_quarters)
    rng = np.random.default_rng(6)
    stored = {}
    for source, event in (("orders", "order"), ("visits", "visit")):
        # Nothing is known of some rows that people did make: they pass no filter either.
        kinds = ["test", None, "real", "real"]
        noise = [replace(fact, properties={"kind": kinds[i % 2]}) for i, fact in enumerate(world.facts[source])]
        good = [replace(fact, properties={"kind": "real", "n": 2.0}) for fact in world.facts[source]]
        small = [replace(fact, properties={"kind": "real", "n": 1.0}) for fact in world.facts[source][::2]]
        rows = [*good, *noise, *small]
        stored[event] = (write_facts(tmp_path, [rows[i] for i in rng.permutation(len(rows))], event),)
    filters = [Filter(column="kind", op="in", value=["real", "old"]), Filter(column="n", op=">", value=1)]
    plain = [EventSource(key="orders", event="order"), EventSource(key="visits", event="visit")]
    filtered = [source.model_copy(update={"filters": filters}) for source in plain]
    data = replace(world.data, event_files=stored)
    found = extract_experiment(plan_on(filtered, trigger=TRIGGER), data)
    assert_identical(found, extract_experiment(plan_on(plain, trigger=TRIGGER), world.data))
    assert found.reach is not None and found.reach.company.any() and found.quantiles
    metrics = [*CLOSED, LARGEST]
    assert_identical(company(metrics, filtered, data), company(metrics, plain, world.data))


def test_a_filter_on_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = EventSource(key="orders", event="order", filters=[Filter(column="kind", value="real")])
    metric = MetricSpec(key="m", name="m", kind="mean", measure=ORDERS)
    data = slice_of([], {"order": [write_facts(tmp_path, [Fact("1", START, 1.0)])]}, data_as_of=AS_OF)
    with pytest.raises(SourceUnreadable, match="no column 'kind'"):
        extract_experiment(plan_of([metric], sources=[source]), data)


class Devices:
    """Devices of units, what logins tell of them, and what a plain reading makes of facts by device."""

    def __init__(self, seed: int, units: Sequence[str]) -> None:
        rng = np.random.default_rng(seed)
        self.owned = {unit: [f"{k + 1}{i:03}" for k in range(1 + i % 3)] for i, unit in enumerate(units)}
        self.logins: list[Fact] = []
        for i, (unit, devices) in enumerate(self.owned.items()):
            for device in devices:
                if i % 11 == 5:
                    continue  # never logged in
                # Most are known late, some only after the analysis, which is as good as never.
                late = AS_OF + DAY if i % 13 == 6 else AS_OF - float(rng.uniform(0.1, 30)) * DAY
                self.logins += [Fact(unit, late, None, {"device": device})] * (1 + i % 2)
                if i % 7 == 3:
                    self.logins.append(Fact(units[0], AS_OF - DAY, None, {"device": device}))
        self.logins.append(Fact(units[1], START, None, {"device": None}))
        self.logins.append(Fact(units[2], AS_OF, None, {"device": self.owned[units[1]][0]}))  # at the end: not before

    def by_device(self, facts: Sequence[Fact]) -> list[Fact]:
        return [
            replace(fact, unit=self.owned[fact.unit][i % len(self.owned[fact.unit])]) for i, fact in enumerate(facts)
        ]

    def by_unit(self, facts: Sequence[Fact]) -> tuple[list[Fact], UnmappedFacts]:
        """The facts of devices with one unit, and how many others there are from four days before the start on."""
        known: dict[str, set[str]] = {}
        for login in self.logins:
            if login.at < AS_OF and login.properties["device"] is not None:
                known.setdefault(login.properties["device"], set()).add(login.unit)
        kept, counts = [], [0, 0, 0]
        for fact in facts:
            owners = known.get(fact.unit, set())
            if len(owners) == 1:
                kept.append(replace(fact, unit=next(iter(owners))))
            if START - 14 * DAY <= fact.at < AS_OF:
                counts = [counts[0] + 1, counts[1] + (not owners), counts[2] + (len(owners) > 1)]
        return kept, UnmappedFacts(*counts)


@pytest.mark.parametrize("kind", ["events", "elsewhere"])
def test_facts_of_other_ids_count_for_the_unit_that_the_mapping_names(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = random_world(tmp_path, 7, units=90, amount=in_quarters)
    devices = Devices(8, [f"unit {i}" for i in range(90)])
    orders = devices.by_device(world.facts["orders"])
    kept, lost = devices.by_unit(orders)
    assert lost.without_unit > 5 and lost.ambiguous > 5 and len(kept) > 50
    visits = EventSource(key="visits", event="visit")
    mapping = UnitMapping(fact_source="logins", id_column="device")
    logins, mapped, files = stored_as(tmp_path, kind, devices.logins, orders, mapping)
    data = replace(world.data, event_files={**world.data.event_files, **files}, file_source_dir=tmp_path)
    plain = replace(data, event_files={**data.event_files, "order": (write_facts(tmp_path, kept),)})
    sources = [logins, mapped, visits]
    options = {"trigger": TRIGGER} if kind == "elsewhere" else {}
    found = extract_experiment(plan_on(sources, **options), data)
    wanted = extract_experiment(plan_on([EventSource(key="orders", event="order"), visits], **options), plain)
    assert_identical(found, wanted, but=["unmapped"])
    assert found.unmapped == {"orders": lost} and wanted.unmapped == {}
    if kind == "events":
        monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 5_000)
        divided = extract_experiment(plan_on(sources), data)
        assert_same(divided.last, wanted.last)
        assert divided.unmapped == found.unmapped
        assert_equal(*both(plan_with(segments=["country"], fact_sources=sources), data))
    metrics = [*CLOSED, LARGEST]
    by_units = company(metrics, [EventSource(key="orders", event="order"), visits], plain)
    assert_identical(company(metrics, sources, data), by_units)  # whoever only logged in was not active


def test_a_mapping_without_rows_leaves_nobody_any_facts(tmp_path: Path) -> None:
    mapping = UnitMapping(fact_source="logins", id_column="device")
    sources = [
        EventSource(key="orders", event="order", unit_mapping=mapping),
        EventSource(key="logins", event="never sent"),
    ]
    metric = MetricSpec(key="m", name="m", kind="mean", measure=ORDERS, pre_period_days=0)
    exposures = write_exposures(tmp_path, [Exposure("1", "control", START), Exposure("2", "control", START)])
    data = slice_of([exposures], {"order": [write_facts(tmp_path, [Fact("1", START, 4.0)])]}, data_as_of=AS_OF)
    found = extract_experiment(plan_of([metric], sources=sources), data)
    assert found.last.mean[0].tolist() == [0.0] and found.unmapped == {"orders": UnmappedFacts(1, 1, 0)}


@pytest.mark.parametrize(
    ("logins", "why"),
    [
        ([], "which is not there"),
        ([EventSource(key="logins", event="login", unit_mapping=UnitMapping(fact_source="x", id_column="y"))], "maps"),
        ([EventSource(key="logins", event="login")], "no column 'device'"),
    ],
)
def test_a_mapping_that_cannot_be_made_is_said(tmp_path: Path, logins: list[FactSourceSpec], why: str) -> None:
    mapping = UnitMapping(fact_source="logins", id_column="device")
    metric = MetricSpec(key="m", name="m", kind="mean", measure=ORDERS)
    files = {"login": [write_facts(tmp_path, [Fact("1", START)], "login")]}
    plan = plan_of([metric], sources=[EventSource(key="orders", event="order", unit_mapping=mapping), *logins])
    with pytest.raises(SourceUnreadable, match=why):
        extract_experiment(plan, slice_of([], files, data_as_of=AS_OF))


def test_tables_of_a_connection_are_not_read_here() -> None:
    table = TableSource(
        kind="table", key="orders", connection="mart", table="o", unit_column="u", timestamp_column="t"
    )  # fmt: skip
    metric = MetricSpec(key="m", name="m", kind="mean", measure=ORDERS)
    with pytest.raises(SourceUnreadable, match="lives in the connection 'mart'") as caught:
        extract_experiment(plan_of([metric], sources=[table]), slice_of([], data_as_of=AS_OF))
    assert caught.value.remedy


def stored_as(
    folder: Path, kind: str, logins: Sequence[Fact], orders: Sequence[Fact], mapping: UnitMapping
) -> tuple[FactSourceSpec, FactSourceSpec, dict[str, tuple[Path, ...]]]:
    """Logins and orders by device; outside the store ids are whole numbers in the one and DOUBLE in the other."""
    if kind == "events":
        half = [write_facts(folder, logins[i::2], "login", ["device"]) for i in range(2)]
        files = {"order": (write_facts(folder, orders),), "login": tuple(half)}
        return (
            EventSource(key="logins", event="login"),
            EventSource(key="orders", event="order", unit_mapping=mapping),
            files,
        )
    rows = {
        "logins": [(login.unit, login.at, login.properties["device"]) for login in logins],
        "orders": [(order.unit, order.at, order.value) for order in orders],
    }
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute('CREATE TABLE logins (unit_id VARCHAR, "at" TIMESTAMPTZ, device DOUBLE)')
        connection.execute('CREATE TABLE orders (device BIGINT, "at" TIMESTAMPTZ, value DOUBLE)')
        for table, values in rows.items():
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", values)
        connection.execute(f"COPY orders TO '{folder / 'orders.parquet'}'")
    columns: dict[str, Any] = {"timestamp_column": "at"}
    return (
        DuckDBSource(kind="duckdb", key="logins", path="shop.duckdb", table="logins", unit_column="unit_id", **columns),
        FileSource(
            kind="file", key="orders", path="orders.parquet", unit_column="device", unit_mapping=mapping, **columns
        ),
        {},
    )
