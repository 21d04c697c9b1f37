"""What went wrong is said with its field and its remedy, and never with what was in anybody's row."""

from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.definitions import EventSource, FileSource
from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, slice_of, write_exposures, write_facts
from tests.warehouse.small_world import metric
from warehouse.engines.embedded import DuckDBEngine
from warehouse.engines.messages import of_duckdb, without_values
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational

ODD = ["bob@x.y", "o'neil", 'say "bob@x.y" twice', "a'b'c", "bob@x.y\nhunter2", "'bob'\nbob", "4711", "„bob@x.y“"]
SAID = [
    ("Could not convert string '{}' to DOUBLE", "Could not convert string"),
    ('invalid input syntax for type double precision: "{}"', "invalid input syntax for type double precision:"),
    ("ungültige Eingabesyntax für Typ numeric: „{}“", "ungültige Eingabesyntax für Typ numeric:"),
    ("syntaxe en entrée invalide pour le type numeric : « {} »", "syntaxe en entrée invalide pour le type numeric :"),
    ("[CAST_INVALID_INPUT] The value '{}' of the type \"STRING\" cannot be cast", "[CAST_INVALID_INPUT] The value"),
    ("value {} is out of range", "value"),
]


@pytest.mark.parametrize(("said", "kept"), SAID)
@pytest.mark.parametrize("value", ODD)
def test_words_around_a_value_stay_and_the_value_goes(said: str, kept: str, value: str) -> None:
    if said == "value {} is out of range":
        value = "-4711.5e3"  # the only values that servers do not quote
    found = without_values(said.format(value))
    assert found.startswith(kept)
    for part in ("bob", "neil", "4711", "hunter2", "a'b"):
        assert part not in found


def test_the_embedded_engine_names_the_column_and_not_its_value() -> None:
    table = pa.table({"v": ODD})
    with duckdb.connect() as connection:
        connection.register("given", table)
        for place in range(len(ODD)):
            query = f"SELECT CAST(v AS TIMESTAMPTZ) FROM given LIMIT 1 OFFSET {place}"
            with pytest.raises(duckdb.Error) as fault:
                connection.execute(query).fetchall()
            assert of_duckdb(fault.value) == "Conversion Error: a value of the column 'v' is not what it is read as"
        with pytest.raises(duckdb.Error) as fault:
            connection.execute("SELECT nothing FROM given")
        assert "nothing" in of_duckdb(fault.value)


def refusals(plan: AnalysisPlan, data: Any) -> list[SourceUnreadable]:
    """How both roads refuse."""
    with pytest.raises(SourceUnreadable) as embedded:
        extract_experiment(plan, data, threads=1)
    with closing(DuckDBEngine(threads=1)) as engine, pytest.raises(SourceUnreadable) as compiled:
        extract_relational(plan, data, engine)
    return [embedded.value, compiled.value]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_text_in_a_column_of_numbers_is_named_on_both_roads(suffix: str, tmp_path: Path) -> None:
    shown = write_exposures(tmp_path, [Exposure(f"u{i}", "control", START) for i in range(3)])
    rows = {"who": ["u0", "u1", "u2"], "at": [START.isoformat()] * 3, "spent": ["1", "bob@x.y 4711", "2"]}
    if suffix == "parquet":
        pq.write_table(pa.table(rows), tmp_path / "facts.parquet")
    else:
        lines = [",".join(rows), *(",".join(row) for row in zip(*rows.values(), strict=True))]
        (tmp_path / "facts.csv").write_text("\n".join(lines))
    source = FileSource(kind="file", key="f", path=f"facts.{suffix}", unit_column="who", timestamp_column="at")
    spent = {"fact_source": "f", "aggregation": "sum", "column": "spent"}
    plan = plan_of([metric("spent", measure=spent, pre_period_days=0)], sources=[source])
    for found in refusals(plan, slice_of([shown], data_as_of=START + 9 * DAY, file_source_dir=tmp_path)):
        assert "'spent'" in found.detail and found.remedy is not None and "numbers" in found.remedy
        assert "bob" not in str(found) and "4711" not in str(found)


def test_a_property_that_is_no_number_is_named_with_its_batch(tmp_path: Path) -> None:
    shown = write_exposures(tmp_path, [Exposure(f"u{i}", "control", START) for i in range(3)])
    sold = [Fact(f"u{i}", START, 1.0, {"spent": text}) for i, text in enumerate(("1", "bob@x.y", "2"))]
    files = {"order": (write_facts(tmp_path, sold, "order"),)}
    spent = {"fact_source": "orders", "aggregation": "sum", "column": "spent"}
    plan = plan_of(
        [metric("spent", measure=spent, pre_period_days=0)], sources=[EventSource(key="orders", event="order")]
    )
    for found in refusals(plan, slice_of([shown], files, data_as_of=START + 9 * DAY)):
        assert "'spent'" in found.detail and "bob" not in str(found)
