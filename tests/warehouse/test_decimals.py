"""Databases export prices as decimals: ingested ones are numbers, in whole columns and row by row."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from warehouse.rows import RowFault, Rules, check_row
from warehouse.vectors import accept, from_rows

AT = datetime(2026, 2, 2, tzinfo=UTC)
RULES = Rules("events", AT, {})


def test_decimals_are_the_same_numbers_in_columns_and_in_rows() -> None:
    prices = [Decimal("19.99"), None, Decimal("-0.0625"), Decimal("123456789.0001")]
    fields = {"event": ["order"] * 4, "unit_id": ["a", "b", "c", "d"], "occurred_at": [AT] * 4}
    table = pa.table({**fields, "value": pa.array(prices, pa.decimal128(18, 4)), "p_price": pa.array(prices)})
    whole = accept(table, RULES)
    assert whole is not None
    by_row = from_rows([check_row(row, RULES) for row in table.to_pylist()], "events")
    for found in (whole, by_row):
        assert found.schema.field("p_price").type == found.schema.field("value").type == pa.float64()
        assert found["p_price"].to_pylist() == found["value"].to_pylist() == [19.99, None, -0.0625, 123456789.0001]


def test_a_decimal_that_is_no_number_is_a_fault() -> None:
    row = {"event": "order", "unit_id": "a", "occurred_at": AT}
    for field in ("value", "p_price"):
        with pytest.raises(RowFault) as fault:
            check_row({**row, field: Decimal("NaN")}, RULES)
        assert fault.value.reason == "non_finite_value"
