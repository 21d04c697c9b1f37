"""The compiled road where it is easy to go wrong: odd rows, odd names, other places of rows, cohorts."""

import itertools
from contextlib import closing
from dataclasses import replace
from functools import reduce
from pathlib import Path

import duckdb
import numpy as np
import pytest
import sqlglot
from sqlglot import exp

from experiments.definitions import DuckDBSource, EventSource, ExposureSource, TableSource, UnitMapping
from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, slice_of, write_exposures, write_facts
from tests.warehouse.plain import AS_OF, CLOSED, OPEN, plan_with, random_world
from tests.warehouse.test_relational import EVERY_KIND, LARGE, assert_equal, both, metric, orders
from warehouse.compile.lines import EXPOSURES
from warehouse.compile.preparing import Prepared, prepared
from warehouse.compile.question import Cohort
from warehouse.compile.words import Dialect, name, text_literal
from warehouse.data_slice import DataSlice
from warehouse.engine import connect, epoch_us
from warehouse.engines.embedded import DuckDBEngine
from warehouse.experiment_moments import Parts, combine
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational, measure_relational, statement_text

HOSTILE = [
    'a"b',
    "a'b",
    "a`b",
    "a\\b",
    "\\",
    "'; DROP TABLE t; --",
    "$$x$$",
    "/* x */",
    "naïve ü 漢",
    "%s {0} :x ?",
    "a\nb",
]
DIALECTS: tuple[Dialect, ...] = ("duckdb", "postgres", "spark")


def prepared_here(plan: AnalysisPlan, data: DataSlice, engine: DuckDBEngine) -> Prepared:
    with connect(threads=1, memory_limit=None) as connection:
        return prepared(plan, data, engine, connection, None)  # type: ignore[arg-type] # no moments are made here


@pytest.mark.parametrize("dialect", DIALECTS)
def test_names_and_texts_are_only_ever_names_and_texts(dialect: Dialect) -> None:
    for text in HOSTILE:
        chosen = exp.select(exp.EQ(this=exp.Column(this=name(text)), expression=text_literal(text))).from_(
            exp.Table(this=name(text), db=name(text))
        )
        (again,) = sqlglot.parse(chosen.sql(dialect=dialect), read=dialect)
        assert again is not None
        assert {one.this for one in again.find_all(exp.Identifier)} == {text}
        assert [one.this for one in again.find_all(exp.Literal)] == [text]
        assert [type(one) for one in again.walk()] == [type(one) for one in chosen.walk()]


def test_a_name_with_the_character_nul_is_refused() -> None:
    for quoted in (name, text_literal):
        with pytest.raises(ValueError, match="NUL"):
            quoted("a\x00b")


def test_hostile_columns_values_and_levels_are_read_as_they_are(tmp_path: Path) -> None:
    odd = 'it\'s "a" `b` \\ $$ -- ;'
    exposures = [
        Exposure(f"u'{i}\\", ("control", "treatment")[i % 2], START + i * DAY / 9, {"country": odd if i % 3 else "'"})
        for i in range(40)
    ]
    facts = [
        Fact(row.unit, row.at + DAY / 5, float(i), {"kind": odd if i % 4 else "x"}) for i, row in enumerate(exposures)
    ]
    path = tmp_path / "facts.duckdb"
    with duckdb.connect(str(path)) as database:
        column = odd.replace('"', '""')
        database.execute(f'CREATE TABLE "{column}" ("{column}" VARCHAR, "a;b" TIMESTAMPTZ, "$$" DOUBLE, "--" VARCHAR)')
        rows = [[fact.unit, fact.at, fact.value, fact.properties["kind"]] for fact in facts]
        database.executemany(f'INSERT INTO "{column}" VALUES (?, ?, ?, ?)', rows)
    measure = {"column": "$$", "filters": [{"column": "--", "value": odd}]}
    source = {"kind": "duckdb", "key": "orders", "path": path.name, "table": odd, "unit_column": odd}
    plan = plan_of([metric("revenue", measure=orders(**measure), pre_period_days=0)], segments=["country"])
    plan = AnalysisPlan.model_validate(plan.model_dump() | {"fact_sources": [{**source, "timestamp_column": "a;b"}]})
    data = slice_of([write_exposures(tmp_path, exposures)], data_as_of=AS_OF, file_source_dir=tmp_path)
    found, wanted = both(plan, data)
    assert_equal(found, wanted)
    assert (found.last.mean > 0).all()
    assert {level for _, level in found.segments} == {odd, "'"}


def test_odd_numbers_withdraw_the_same_columns_on_both_roads(tmp_path: Path) -> None:
    arms = ("control", "treatment")
    exposures = [Exposure(f"u{i}", arms[i % 2], START + i * DAY / 9) for i in range(30)]
    exposures += [Exposure("u3", "control", START + 5 * DAY), Exposure("u5", "elsewhere", START + 6 * DAY)]
    numbers = [1.5, None, -2.0, 1e9 + 1, 4.0]
    facts = [
        Fact(row.unit, row.at + i * DAY / 7, numbers[i % 5], {"bad": bad, "huge": 1e91, "nps": float(i % 11)})
        for row in exposures
        for i, bad in zip(range(-3, 12), [*range(5), np.nan, np.inf, *range(8)], strict=True)
    ]
    facts += [facts[0], replace(facts[4], value=7.0)]
    specs = [
        *(metric(f"{way}_bad", measure=orders(way, column="bad")) for way in ("sum", "max", "last")),
        metric("huge", measure=orders("sum", column="huge")),
        metric("fine", measure=orders("sum")),
        metric("answer", "survey", measure=orders("count", column="nps"), scale="nps", pre_period_days=0),
        metric("no_answer", "survey", measure=orders("count"), scale="nps", pre_period_days=0),
        metric("bad_quantile", "quantile", measure=orders("sum", column="huge"), quantile=0.5, pre_period_days=0),
        metric("capped_bad", measure=orders("sum", column="bad"), cap={"quantile": 0.9}),
        metric(
            "capped_at_nothing",
            measure=orders(filters=[{"column": "value", "value": 99}]),
            cap={"quantile": 0.9},
        ),
    ]
    data = slice_of([write_exposures(tmp_path, exposures)], {"order": [write_facts(tmp_path, facts)]}, data_as_of=AS_OF)
    found, wanted = both(plan_of(specs), data)
    assert_equal(found, wanted)
    assert found.invalid["no_answer.score"] == "invalid_answers" and found.refused == {
        "bad_quantile": "non_finite_values"
    }
    assert {"sum_bad", "max_bad", "last_bad", "huge", "capped_bad", "capped_at_nothing"} <= set(found.invalid)


def test_a_mean_far_from_zero_keeps_its_variance(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    exposures = [Exposure(f"u{i}", ("control", "treatment")[i % 2], START) for i in range(200)]
    facts = [Fact(row.unit, START + DAY, 1e9 + float(rng.normal())) for row in exposures]
    data = slice_of([write_exposures(tmp_path, exposures)], {"order": [write_facts(tmp_path, facts)]}, data_as_of=AS_OF)
    found, wanted = both(plan_of([metric("far", measure=orders(), pre_period_days=0)]), data)
    np.testing.assert_allclose(found.last.comoment, wanted.last.comoment, rtol=1e-6)


@pytest.mark.parametrize("files", [0, 1])
def test_nothing_at_all_is_nothing_on_both_roads(tmp_path: Path, files: int) -> None:
    stored = [write_exposures(tmp_path, [Exposure("u", "control", START + 13 * DAY)])] * files
    assert_equal(
        *both(plan_with([*CLOSED, *EVERY_KIND[8:12]], segments=["country"]), slice_of(stored, data_as_of=AS_OF))
    )


def test_tables_row_filters_and_mapped_units_are_read_alike(tmp_path: Path) -> None:
    world = random_world(tmp_path, 5, units=60)
    links = [Fact(f"unit {i}", START, None, {"device": f"unit {i + 7}"}) for i in range(50)]
    links += [Fact("unit 3", START, None, {"device": "unit 20"}), Fact("unit 4", AS_OF, None, {"device": "unit 0"})]
    mapping = {"fact_source": "links", "id_column": "device"}
    sources = [
        EventSource.model_validate({"key": "orders", "event": "order", "filters": [LARGE]}),
        EventSource.model_validate({"key": "visits", "event": "visit", "unit_mapping": mapping}),
        EventSource(key="links", event="link"),
    ]
    files = {**world.data.event_files, "link": (write_facts(tmp_path, links, "link"),)}
    plan = plan_with(CLOSED, segments=["country"]).model_copy(update={"fact_sources": sources})
    found, wanted = both(plan, replace(world.data, event_files=files))
    assert_equal(found, wanted)
    assert found.unmapped["visits"].ambiguous


def test_cohorts_of_units_add_up_to_everybody(tmp_path: Path) -> None:
    world = random_world(tmp_path, 6, units=60, data_as_of=START + 7 * DAY)
    plan = plan_with((CLOSED[0], OPEN), segments=["country"])
    with closing(DuckDBEngine()) as engine:
        work = prepared_here(plan, world.data, engine)
        ends = [START + i * 4 * DAY for i in range(3)]
        cohorts = [Cohort(epoch_us(a), epoch_us(b)) for a, b in itertools.pairwise(ends)]
        parts = [measure_relational(work, engine, cohort=cohort) for cohort in cohorts]
        assert_equal(combine(work.work, reduce(Parts.merge, parts)), extract_experiment(plan, world.data))
        winsorised = prepared_here(plan_with([EVERY_KIND[7]]), world.data, engine)
        with pytest.raises(ValueError, match="all units at once"):
            measure_relational(winsorised, engine, cohort=cohorts[0])


def test_the_statement_runs_on_its_own(tmp_path: Path) -> None:
    world = random_world(tmp_path, 7, units=30)
    plan = plan_with(CLOSED, segments=["country"])
    with closing(DuckDBEngine()) as engine:
        text = statement_text(plan, world.data, engine)
    rows = duckdb.connect().execute(text).fetchall()
    exposed = extract_experiment(plan, world.data).exposures[-1].sum()
    assert sum(n for part, _, n, _ in rows if part == EXPOSURES) == exposed


def test_sources_in_several_places_are_refused(tmp_path: Path) -> None:
    world = random_world(tmp_path, 8, units=5)
    table = TableSource(
        kind="table", key="orders", connection="dwh", table="orders", unit_column="u", timestamp_column="t"
    )
    plan = plan_with(CLOSED).model_copy(update={"fact_sources": [table]})
    with closing(DuckDBEngine()) as engine, pytest.raises(SourceUnreadable):
        extract_relational(plan, world.data, engine)


def test_ids_are_the_same_whatever_type_of_number_holds_them(tmp_path: Path) -> None:
    types = {"facts": "DECIMAL(38, 9)", "ids": "DOUBLE", "shown": "DECIMAL(18, 2)"}
    with duckdb.connect(str(tmp_path / "w.duckdb")) as database:
        for table, kind in types.items():
            database.execute(
                f"CREATE TABLE {table} AS SELECT (2e15::BIGINT + i)::{kind} AS unit, (2e15::BIGINT + i)::DECIMAL(18, 2)"
                f" AS other, TIMESTAMP '{START:%Y-%m-%d %H:%M:%S}' + INTERVAL 1 HOUR AS happened,"
                " 'control' AS arm, happened::DATE AS day FROM range(5) AS r(i)"
            )
    given = {"kind": "duckdb", "path": "w.duckdb", "unit_column": "unit", "timestamp_column": "happened"}
    mapping = UnitMapping(fact_source="ids", id_column="other")
    facts, ids, shown = (DuckDBSource(key=key, table=key, **given) for key in types)  # type: ignore[arg-type] # plain text
    facts = facts.model_copy(update={"key": "orders", "unit_mapping": mapping})
    plan = plan_of([metric("orders", measure=orders("count"))], sources=[facts, ids, shown]).model_copy(
        update={"exposures": ExposureSource(fact_source="shown", variant_column="arm")}
    )
    data = replace(slice_of([], {}, data_as_of=AS_OF), file_source_dir=tmp_path)
    found = [extract_experiment(plan, data)]
    with closing(DuckDBEngine(threads=1)) as engine:
        found.append(extract_relational(plan, data, engine))
    assert [(one.last.count[0], one.last.mean[0, 0]) for one in found] == [(5, 1.0)] * 2
