"""Experiments of the synthetic company, and real invoices whose customers are drawn into two arms."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.definitions import MetricSpec, Trigger
from stats.company import Company, generate
from tests.engines.torture import metric
from tests.engines.worlds import LOCAL, MOMENT, SHOWN, TIME, UNIT, World
from tests.shared_data import shared_path

BEGIN = datetime(2026, 5, 4, tzinfo=UTC)
INVOICES = ("data", "telemetry", "online_retail_II_2009_2010.parquet")
RETAIL_BEGIN = datetime(2010, 10, 4, tzinfo=UTC)


@cache
def company() -> Company:
    return generate(BEGIN, seed=1, users=1200)


def _table(columns: Mapping[str, Any], chosen: Any, names: Mapping[str, str]) -> pa.Table:
    kept = {names.get(name, name): pa.array(values[chosen]) for name, values in columns.items()}
    table = pa.table(kept)
    return table.set_column(table.column_names.index(TIME), TIME, table[TIME].cast(LOCAL).cast(MOMENT))


def _world(part: Any, key: str, metrics: tuple[MetricSpec, ...], facts: Mapping[str, str], **options: Any) -> World:
    """An experiment of the company, with facts from 30 days before it to 10 days after its end."""
    record = next(one for one in part.experiments if one.spec["key"] == key)
    end = record.ended_at or record.started_at + timedelta(days=28)
    seen = end + timedelta(days=10)
    names = {"unit_id": UNIT, "exposed_at": TIME, "occurred_at": TIME, "variant_key": "arm"}
    mine = part.exposures["experiment_key"] == key
    at = part.events["occurred_at"]
    early, late = (np.datetime64(one.replace(tzinfo=None)) for one in (record.started_at - timedelta(days=30), seen))
    near = (at >= early) & (at < late) & np.isin(part.events["unit_id"], part.exposures["unit_id"][mine])
    tables = {SHOWN: _table(part.exposures, mine, names)}
    for source, event in facts.items():
        tables[source] = _table(part.events, near & (part.events["event"] == event), names)
    dimensions = [name for name in ("country", "platform", "account") if name in part.exposures]
    return World(
        tables=tables,
        metrics=metrics,
        as_of=seen,
        dimensions=dimensions,
        arms=[variant["key"] for variant in record.spec["variants"]],
        started_at=record.started_at,
        ended_at=record.ended_at,
        allocation=((record.started_at, (0.9, 0.1)), *record.ramp) if record.ramp else (),
        options=options,
    )


def _of(key: str, part: Any) -> tuple[MetricSpec, ...]:
    return tuple(MetricSpec.model_validate(one) for one in part.metrics if one["key"] in key.split())


def users() -> World:
    """An experiment with users: every metric of the company with its pre-period, a cap, two segments."""
    spent = {"fact_source": "orders", "aggregation": "sum"}
    came = {"fact_source": "sessions", "aggregation": "count"}
    more = (
        metric("spend", measure=spent, cap={"quantile": 0.99}, covariates=[came], window_days=7, pre_period_days=14),
        metric("back", "retention", measure=came, delay_days=1, window_days=6, pre_period_days=14),
        metric("bought", "funnel", steps=[{"measure": came}, {"measure": {**spent, "aggregation": "any"}}]),
        metric("active", "participation", measure=came, window_days=7, pre_period_days=7),
    )
    every = tuple(MetricSpec.model_validate(one) for one in company().metrics)
    return _world(
        company(), "onboarding_checklist", (*every, *more), {"sessions": "session", "orders": "order"},
        segments=["country", "platform"], two_way_segments=[("country", "platform")],
    )  # fmt: skip


def triggered() -> World:
    """Members who are assigned long before they see anything."""
    part = company().business
    return _world(
        part, "trust_marks", _of("buyers spend", part),
        {"purchases": "purchase", "checkout_views": "checkout_view"},
        trigger=Trigger(fact_source="checkout_views"), segments=["platform"],
    )  # fmt: skip


def accounts() -> World:
    """Members whose accounts are randomised."""
    part = company().business
    return _world(part, "team_baskets", _of("buyers spend", part), {"purchases": "purchase"}, cluster="account")


def ramped() -> World:
    """Members of an experiment whose shares changed."""
    part = company().business
    return _world(part, "new_search", _of("buyers spend", part), {"purchases": "purchase"}, stratify_by=["country"])


def retail() -> World:
    """Real invoices of a shop: returns are negative, a fifth of the lines has no customer, whose number is a float.

    An eighth of the customers is drawn into two arms by a hash, and exposed when they first buy in five weeks.
    """
    columns = ["Invoice", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
    # Times are text that sorts as they do.
    near = [("InvoiceDate", ">=", "2010-09-13"), ("InvoiceDate", "<", "2010-11-15")]
    lines = pq.read_table(shared_path(*INVOICES), columns=columns, filters=near).to_pylist()
    sold: list[tuple[Any, ...]] = []
    shown: dict[int, tuple[datetime, str]] = {}
    for line in lines[::-1]:
        at = datetime.fromisoformat(line["InvoiceDate"])
        customer = line["Customer ID"]
        week = (at - RETAIL_BEGIN.replace(tzinfo=None)) / timedelta(days=7)
        if _drawn(line["Invoice"] if customer is None else int(customer)) % 8:
            continue
        amount = None if line["Price"] == 0 else round(line["Quantity"] * line["Price"] * 100) / 100
        sold.append((customer, at, amount, line["Quantity"], line["Invoice"]))
        if customer is not None and 0 <= week < 5:
            shown[int(customer)] = (at, line["Country"])  # lines come backwards: the first one stays
    bought = dict(zip((UNIT, TIME, "value", "Quantity", "Invoice"), map(list, zip(*sold, strict=True)), strict=True))
    kinds = (pa.float64(), LOCAL, pa.float64(), pa.int64(), pa.string())
    measure = {"fact_source": "bought", "aggregation": "sum"}
    returned = {**measure, "filters": [{"column": "Invoice", "op": ">=", "value": "C"}]}
    invoiced = {"fact_source": "bought", "aggregation": "distinct_days"}
    window = {"window_days": 7, "pre_period_days": 14}
    return World(
        tables={
            SHOWN: pa.table(
                {
                    UNIT: pa.array(list(shown), pa.int64()),
                    TIME: pa.array([at.replace(tzinfo=UTC) for at, _ in shown.values()], MOMENT),
                    "arm": [("control", "treatment")[_drawn(one) // 8 % 2] for one in shown],
                    "country": [country for _, country in shown.values()],
                }
            ),
            "bought": pa.table({n: pa.array(c, k) for (n, c), k in zip(bought.items(), kinds, strict=True)}),
        },
        metrics=(
            metric("revenue", measure=measure, covariates=[invoiced], **window),
            metric("capped", measure=measure, cap={"quantile": 0.95}, **window),
            metric("items", measure={**measure, "column": "Quantity"}, **window),
            metric("returned", measure=returned, **window),
            metric("returns", "proportion", measure={**returned, "aggregation": "any"}, **window),
            metric("per_day", "ratio", numerator=measure, denominator=invoiced, **window),
            metric("last", measure={**measure, "aggregation": "last"}, **window),
            metric("back", "retention", measure=invoiced, delay_days=2, window_days=5, pre_period_days=14),
        ),
        as_of=RETAIL_BEGIN + timedelta(days=42),
        dimensions=("country",),
        options={"segments": ["country"]},
        started_at=RETAIL_BEGIN,
    )


def _drawn(what: int | str) -> int:
    return int(hashlib.sha256(f"arms of {what}".encode()).hexdigest()[:8], 16)
