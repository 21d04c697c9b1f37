"""Numbers of every type and from every writer mean the same; nulls, NaN and infinities say so (TRAPS 1-4, 13-15)."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from experiments.columns import layout
from experiments.definitions import DuckDBSource, FactSourceSpec, FileSource, Measure, MetricSpec
from stats.moment_set import MomentSet
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, slice_of, write_exposures, write_facts
from tests.warehouse.small_world import ARMS, metric
from warehouse.extract import NON_FINITE, extract_experiment

UNITS = 60
type Columns = dict[str, list[Any]]


def with_arrow_parquet(folder: Path, columns: Columns) -> str:
    pq.write_table(pa.table(columns), folder / "facts.parquet")
    return "facts.parquet"


def with_arrow_csv(folder: Path, columns: Columns) -> str:
    pyarrow.csv.write_csv(pa.table(columns), folder / "facts.csv")
    return "facts.csv"


def with_polars_parquet(folder: Path, columns: Columns) -> str:
    pl.DataFrame(columns, strict=False).write_parquet(folder / "facts.parquet")
    return "facts.parquet"


def with_polars_csv(folder: Path, columns: Columns) -> str:
    pl.DataFrame(columns, strict=False).write_csv(folder / "facts.csv")
    return "facts.csv"


def with_duckdb(folder: Path, columns: Columns) -> str:
    table = pa.table(columns)
    with duckdb.connect(folder / "facts.duckdb") as connection:
        connection.register("given", table)
        connection.execute("CREATE TABLE facts AS SELECT * FROM given")
    return "facts.duckdb"


WRITERS: list[Callable[[Path, Columns], str]] = [
    with_arrow_parquet,
    with_arrow_csv,
    with_polars_parquet,
    with_polars_csv,
    with_duckdb,
]


def source_of(path: str) -> FactSourceSpec:
    fields = {"key": "file", "path": path, "unit_column": "who", "timestamp_column": "at"}
    if path.endswith("duckdb"):
        return DuckDBSource(kind="duckdb", table="facts", **fields)  # type: ignore[arg-type]
    return FileSource(kind="file", **fields)  # type: ignore[arg-type]


def extracted(folder: Path, path: str, *metrics: MetricSpec) -> MomentSet:
    shown = [Exposure(f"u{i}", ARMS[i % 2], START) for i in range(UNITS)]
    data = slice_of([write_exposures(folder, shown)], data_as_of=START + 9 * DAY, file_source_dir=folder)
    return extract_experiment(plan_of(metrics, sources=[source_of(path)]), data)


def of(column: str, key: str = "", aggregation: str = "sum", **fields: Any) -> MetricSpec:
    measure = Measure.model_validate({"fact_source": "file", "aggregation": aggregation, "column": column})
    return metric(key or column, measure=measure, pre_period_days=0, **fields)


def one_fact_each(**values: list[Any]) -> Columns:
    return {"who": [f"u{i}" for i in range(UNITS)], "at": [START + DAY] * UNITS, **values}


def rows(seed: int = 1) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(50, 9, UNITS)]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_nulls_nan_and_infinities_are_the_same_from_every_writer(
    tmp_path: Path, write: Callable[[Path, Columns], str]
) -> None:
    good = rows()
    nulls = [None if i % 4 == 0 else value for i, value in enumerate(good)]
    one_nan = [float("nan") if i == 7 else value for i, value in enumerate(good)]
    one_inf = [float("inf") if i == 8 else value for i, value in enumerate(good)]
    path = write(tmp_path, one_fact_each(good=good, nulls=nulls, one_nan=one_nan, one_inf=one_inf))
    metrics = [of("good"), of("nulls"), of("nulls", "largest", "max"), of("one_nan"), of("one_inf")]
    survey = of("nulls", "answers", "count", kind="survey")
    found = extracted(tmp_path, path, *metrics, survey)
    assert found.invalid == {"one_nan": NON_FINITE, "one_inf": NON_FINITE}
    known = {i: [v for j, v in enumerate(nulls) if v is not None and j % 2 == i] for i in (0, 1)}
    for arm in (0, 1):
        mine = good[arm::2]
        mean, variance = found.last.mean[arm], np.diagonal(found.last.covariance[arm])
        np.testing.assert_allclose((mean[0], variance[0]), (np.mean(mine), np.var(mine, ddof=1)), rtol=1e-13)
        np.testing.assert_allclose(mean[1], sum(known[arm]) / len(mine), rtol=1e-13)
        score, answers = found.column("answers.score"), found.column("answers.answers")
        np.testing.assert_allclose(mean[score] / mean[answers], np.mean(known[arm]), rtol=1e-13)
        assert mean[answers] * len(mine) == len(known[arm]), "n is of the answers that are there"
    missing = [len(good[arm::2]) - len(known[arm]) for arm in (0, 1)]
    counted = ("nulls", "largest", "answers.score", "answers.answers", "answers.responded")
    assert {name: count.tolist() for name, count in found.missing.items()} == dict.fromkeys(counted, missing)


TYPES: dict[str, tuple[pa.DataType, float, float]] = {
    "float32 near a million": (pa.float32(), 1e6, 1 / 16),
    "int64 near four billion": (pa.int64(), 4e9, 1),
    "bool": (pa.bool_(), 0, 1),
    "decimal": (pa.decimal128(18, 4), 0, 1 / 16),
    "int8": (pa.int8(), 0, 1),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("write", [with_arrow_parquet, with_duckdb], ids=lambda write: write.__name__)
def test_every_number_type_gives_the_moments_of_doubles(
    tmp_path: Path, name: str, write: Callable[[Path, Columns], str]
) -> None:
    kind, offset, step = TYPES[name]
    steps = np.random.default_rng(2).integers(0, 2 if name == "bool" else 100, UNITS)
    doubles = [float(offset + step * value) for value in steps]
    convert = {"bool": bool, "decimal": Decimal}.get(name, float if "float" in name else int)
    typed: Any = pa.array([convert(value) for value in doubles], kind)  # type: ignore[operator]
    path = write(tmp_path, one_fact_each(typed=typed, double=doubles))
    metrics = [of("typed"), of("double"), of("typed", "largest", "max", window_days=4)]
    found = extracted(tmp_path, path, *metrics, of("typed", "capped", cap={"quantile": 0.9}))
    first, second = (found.last.select([found.column(key)]) for key in ("typed", "double"))
    assert first.mean.tobytes() == second.mean.tobytes()
    assert first.comoment.tobytes() == second.comoment.tobytes()
    for arm in (0, 1):
        np.testing.assert_allclose(second.covariance[arm, 0, 0], np.var(doubles[arm::2], ddof=1), rtol=1e-9)
    if "capped" in found.capped:
        assert found.capped["capped"].cap == np.quantile(doubles, 0.9, method="inverted_cdf")


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9])
def test_a_large_offset_keeps_the_digits_through_caps_and_days(tmp_path: Path, offset: float) -> None:
    values = [offset + value for value in rows(3)]
    path = with_arrow_parquet(tmp_path, one_fact_each(value=values))
    found = extracted(tmp_path, path, of("value", cap={"quantile": 0.8}))
    plain = np.minimum(values, np.quantile(values, 0.8, method="inverted_cdf"))
    for arm in (0, 1):
        np.testing.assert_allclose(found.last.covariance[arm, 0, 0], np.var(plain[arm::2], ddof=1), rtol=1e-6)


def test_facts_in_hundreds_of_files_and_any_order_are_those_of_one_file_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    facts = [
        Fact(f"u{rng.integers(UNITS)}", START + float(rng.uniform(-3, 5)) * DAY, float(rng.normal(1e6, 1)))
        for _ in range(1000)
    ]
    shown = [write_exposures(tmp_path, [Exposure(f"u{i}", ARMS[i % 2], START) for i in range(UNITS)])]
    metrics = [
        metric(),
        metric("capped", cap={"quantile": 0.9}),
        metric("p90", "quantile", quantile=0.9, quantile_of="event"),
        metric("csat", "survey", "count"),
    ]

    def of_files(portions: list[list[Fact]]) -> MomentSet:
        files = {"order": [write_facts(tmp_path, portion) for portion in portions]}
        return extract_experiment(plan_of(metrics), slice_of(shown, files, data_as_of=START + 9 * DAY), threads=2)

    whole = of_files([facts])
    shuffled = [facts[i] for i in rng.permutation(len(facts))]
    parts = of_files([shuffled[i::250] for i in range(250)])
    assert parts.overall.mean.tobytes() == whole.overall.mean.tobytes()
    assert parts.overall.comoment.tobytes() == whole.overall.comoment.tobytes()
    assert parts.capped["capped"].cap == whole.capped["capped"].cap
    assert parts.quantiles["p90"].overall.share_sd.tobytes() == whole.quantiles["p90"].overall.share_sd.tobytes()
    assert parts.responses["csat"].scores.tobytes() == whole.responses["csat"].scores.tobytes()
    assert layout(metrics).names == whole.columns
