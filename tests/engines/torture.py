"""Rows of which at least one kind is in every real warehouse, and metrics of every kind on them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.definitions import MetricSpec, Trigger
from tests.engines.worlds import LOCAL, MOMENT, SHOWN, TIME, UNIT, World
from tests.warehouse.cases import DAY, START

AS_OF = START + 14 * DAY
TICK = timedelta(microseconds=1)
ARMS = ("control", "treatment", "Treatment ")
ODD = [
    "", " ", "u", "U", "u ", " u", "ü", "u\u0308", "ﬁ", "fi", "ß", "İ", "\u200b", "😀", "\U0001d518", "\ufffd", "漢字",
    "it's", 'a"b', "a\\b", "%s", "$$", "--", ";", "\t", "a\nb", "NULL", "null", "NaN", "0", "00", "0.0", "1e3",
    "x" * 600,
]  # fmt: skip
LEVELS = ["B", "a", "Ä", "ä", "Z", "_", "😀", "", "ﬀ", None]
"""Bytes sort B before a; people, and PostgreSQL with their collations, a before B."""


def numbers(rng: np.random.Generator, size: int, values: Sequence[Any]) -> list[Any]:
    return [values[int(i)] for i in rng.integers(len(values), size=size)]


def _times(rng: np.random.Generator, size: int, first: float, last: float) -> list[datetime]:
    """Some of them on the hour, or a microsecond before, so that borders are hit."""
    found = []
    for days in rng.uniform(first, last, size):
        kind = int(rng.integers(4))
        at = START + float(days) * DAY
        if kind < 2:
            at = START + timedelta(hours=round(days * 24)) - kind * TICK
        found.append(at)
    return found


def _shuffled(rng: np.random.Generator, columns: dict[str, tuple[pa.DataType, list[Any]]]) -> pa.Table:
    size = len(next(iter(columns.values()))[1])
    order = rng.permutation(size)
    return pa.table({name: pa.array([values[i] for i in order], kind) for name, (kind, values) in columns.items()})


def _shown(rng: np.random.Generator, names: Sequence[str], *, clustered: bool) -> pa.Table:
    rows: list[list[Any]] = []
    for i, name in enumerate(names):
        account = int(rng.integers(12))
        arm = (account if clustered else int(rng.integers(30))) % 2
        level, platform = LEVELS[i % len(LEVELS)], ("web", "App", None)[int(rng.integers(3))]
        store = f"store {account}" if account else ("", None)[i % 2]
        (at,) = _times(rng, 1, -0.3, 9.5)
        for again in range(int(rng.integers(1, 4))):
            crossed = again and rng.random() < (0.01 if clustered else 0.05)
            key = ARMS[1 - arm if crossed else arm]
            rows.append([name, at, key, level, platform, store, "checkout"])
            if again == 1:  # the same moment, with other levels
                rows.append([name, at, key, LEVELS[int(rng.integers(len(LEVELS)))], platform, store, "checkout"])
            at += float(rng.choice([0.0, 0.2, 3.0])) * DAY
        rows.append([name, START + DAY / 9, ARMS[1 - arm], "other", "web", store, "another test"])
    first = rows[0]
    rows += [[None, *first[1:]], [first[0], None, *first[2:]], [*first[:2], None, *first[3:]], [*first[:-1], None]]
    rows += [["stranger", START + DAY, ARMS[2], "a", "web", "store 1", "checkout"]]
    rows += [["withdrawn", START + i * DAY, ("gone", "control")[i], "a", "web", "store 2", "checkout"] for i in (0, 1)]
    names_of = (UNIT, TIME, "arm", "country", "platform", "account", "test")
    columns = list(zip(*rows, strict=True))
    kinds = [pa.string(), MOMENT, *[pa.string()] * 5]
    return _shuffled(rng, {n: (k, list(c)) for n, k, c in zip(names_of, kinds, columns, strict=True)})


def _orders(rng: np.random.Generator, names: Sequence[str], size: int) -> pa.Table:
    who: list[Any] = numbers(rng, size, [*names, "nobody"])
    at: list[Any] = _times(rng, size, -7, 16)
    for i in range(0, size - 1, 12):  # ties, and whole rows twice
        who[i + 1], at[i + 1] = who[i], at[i]
    who[5], at[7] = None, None
    amount = np.rint(4 * rng.normal(20, 15, size)) / 4  # exact in any order, so that who is above a cap is as well
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        UNIT: (pa.string(), who),
        TIME: (MOMENT, at),
        "value": (pa.float64(), [None if rng.random() < 0.1 else float(x) for x in amount]),
        "single": (pa.float32(), [None if i % 17 == 0 else float(np.float32(1e6 + x)) for i, x in enumerate(amount)]),
        "large": (pa.int64(), [4_000_000_000 + int(x) for x in rng.integers(500_000_000, size=size)]),
        "price": (pa.decimal128(14, 2), [Decimal(f"{x:.2f}") for x in amount]),
        "paid": (pa.bool_(), numbers(rng, size, [True, False, None])),
        "broken": (pa.float64(), numbers(rng, size, [1.0, 2.5, float("nan"), float("inf"), float("-inf"), None])),
        "huge": (pa.float64(), numbers(rng, size, [1.0, 1e91])),
        "stars": (pa.int32(), [None if i % 4 == 0 else int(x) for i, x in enumerate(rng.integers(11, size=size))]),
        "kind": (pa.string(), numbers(rng, size, ["Pro", "free", "ä", "it's", "", "2", None])),
    }
    twice = list(range(0, size, 29))
    return _shuffled(rng, {n: (k, v + [v[i] for i in twice]) for n, (k, v) in columns.items()})


def _visits(rng: np.random.Generator, devices: Sequence[int], size: int) -> pa.Table:
    """By device, in local columns without a zone, with the day beside."""
    at = [one.replace(tzinfo=None) for one in _times(rng, size, -7, 16)]
    return _shuffled(
        rng,
        {
            UNIT: (pa.int64(), [*numbers(rng, size - 3, [*devices, 999_999_999_999]), None, None, devices[0]]),
            TIME: (LOCAL, at),
            "day": (pa.date32(), [one.date() for one in at]),
            "value": (pa.float32(), [None if rng.random() < 0.1 else float(x) for x in rng.integers(9, size=size)]),
            "bot": (pa.bool_(), numbers(rng, size, [False, False, False, True, None])),
        },
    )


def _links(rng: np.random.Generator, names: Sequence[str], devices: Sequence[int]) -> pa.Table:
    rows: list[list[Any]] = []
    for i, (name, device) in enumerate(zip(names, devices, strict=True)):
        if i % 11 == 5:
            continue
        at = AS_OF + DAY if i % 13 == 6 else START + float(rng.uniform(-20, 13)) * DAY
        rows += [[name, at, device]] * (1 + i % 2)
        if i % 9 == 4:
            rows.append([names[0], START, device])
    rows += [[None, START, devices[1]], [names[1], None, devices[2]], [names[1], START, None]]
    columns = list(zip(*rows, strict=True))
    kinds = (pa.string(), MOMENT, pa.int64())
    return _shuffled(rng, {n: (k, list(c)) for n, k, c in zip((UNIT, TIME, "device"), kinds, columns, strict=True)})


def orders(aggregation: str = "sum", column: str = "value", **fields: Any) -> dict[str, Any]:
    return {"fact_source": "orders", "aggregation": aggregation, "column": column, **fields}


def visits(aggregation: str = "count", **fields: Any) -> dict[str, Any]:
    return {"fact_source": "visits", "aggregation": aggregation, **fields}


def metric(key: str, kind: str = "mean", **fields: Any) -> MetricSpec:
    return MetricSpec.model_validate(
        {"key": key, "name": key, "kind": kind, "window_days": 3, "pre_period_days": 4, **fields}
    )


def _if(*tests: tuple[str, str, Any]) -> list[dict[str, Any]]:
    return [{"column": column, "op": op, "value": value} for column, op, value in tests]


NUMBERS = (
    metric("revenue", measure=orders()),
    metric("single", measure=orders("sum", "single")),
    metric("large", measure=orders("sum", "large")),
    metric("price", measure=orders("sum", "price"), cap={"value": 30}),
    metric("paid", measure=orders("sum", "paid"), pre_period_days=0),
    metric("ever_paid", "proportion", measure=orders("max", "paid"), pre_period_days=0),
    *(metric(f"broken_{way}", measure=orders(way, "broken"), pre_period_days=0) for way in ("sum", "max", "last")),
    metric("huge", measure=orders("sum", "huge"), pre_period_days=0),
    metric("broken_counted", measure=orders("count", "broken"), pre_period_days=0),
    metric("broken_capped", measure=orders("sum", "broken"), cap={"quantile": 0.9}),
    metric("never", measure=orders(filters=_if(("value", ">", 1e6))), cap={"quantile": 0.9}),
    metric("broken_half", "quantile", measure=orders("sum", "broken"), quantile=0.5, pre_period_days=0),
    metric("stars", "survey", measure=orders("count", "stars"), scale="nps", pre_period_days=0),
    metric("no_stars", "survey", measure=orders("count", "price"), scale="nps", pre_period_days=0),
    metric("scored", "survey", measure=orders("count", "stars"), pre_period_days=0),
)
"""What columns hold."""
KINDS = (
    metric("revenue", measure=orders(), cap={"quantile": 0.9}, covariates=[visits(), orders("max", "price")]),
    metric("before", measure=orders(), cap={"quantile": 0.95, "basis": "pre_period"}),
    metric("last", measure=orders("last"), likelihood="student_t", pre_period_days=2),
    metric("days", measure=visits("distinct_days"), delay_days=0.5),
    metric("buyers", "proportion", measure=orders("any", filters=_if(("price", ">=", 12.5))), window_days=2),
    metric("per_visit", "ratio", numerator=orders(), denominator=visits(), cap={"quantile": 0.85}),
    metric("back", "retention", measure=visits(), delay_days=1, pre_period_days=3),
    metric("again", "retention", measure=visits(), start=orders("count"), start_within_days=2),
    metric("funnel", "funnel", steps=[
        {"measure": visits()}, {"measure": orders("count"), "within_days": 1.5}, {"measure": visits()},
    ]),
    metric("began", "funnel", funnel_of="first_step", steps=[{"measure": orders("any")}, {"measure": visits()}]),
    metric("active", "participation", measure=visits(), covariates=[orders("last")]),
    metric("half", "quantile", measure=orders(), quantile=0.5, pre_period_days=0),
    metric("each", "quantile", measure=orders(), quantile=0.8, quantile_of="event", pre_period_days=0),
    metric("count", measure=visits(), likelihood="negative_binomial", pre_period_days=0),
)  # fmt: skip
"""One of every kind, and across sources."""
FILTERED = tuple(
    metric(f"filtered_{i}", measure=orders("count", filters=_if(*tests)), pre_period_days=0)
    for i, tests in enumerate(
        [
            [("kind", "=", "Pro")],
            [("kind", "!=", "free")],
            [("kind", "<", "a")],
            [("kind", ">=", "ä")],
            [("kind", "in", ["it's", "", "ä"])],
            [("kind", "in", [])],
            [("paid", "=", True)],
            [("paid", "!=", True)],
            [("single", ">", 1_000_020.0), ("price", "<=", 40.0)],
            [("large", ">=", 4_250_000_000.0)],
            [("stars", "in", [3.0, 7.0])],
            [("broken", ">", 2.0)],
            [("broken", "<=", 1.0)],
        ]
    )
)
"""Conditions of every type of column."""
OPEN = (
    metric("revenue", measure=orders()),
    metric("so_far", measure=orders("sum", "price"), window_days=None, cap={"quantile": 0.9}),
    metric("visited", "proportion", measure=visits("any"), window_days=None, pre_period_days=2),
)
"""Windows without an end."""
FAR = (
    *(metric(way, measure=orders(way), covariates=[orders("max")]) for way in ("sum", "max", "last")),
    metric("capped", measure=orders(), cap={"quantile": 0.8}),
    metric("mean", "ratio", numerator=orders(), denominator=orders("count")),
)
"""Measures of values that are far from zero."""
SOURCES = {
    "visits": {
        "unit_mapping": {"fact_source": "links", "id_column": "device"},
        "day_column": "day",
        "filters": _if(("bot", "=", False)),
    }
}
TRIGGER = Trigger.model_validate({"fact_source": "visits", "filters": _if(("value", ">", 1))})


def torture(
    metrics: Sequence[MetricSpec], *, seed: int = 1, units: int = 80, clustered: bool = False, **options: Any
) -> World:
    """Odd units, exposures and facts; `options` are fields of the world, or of its plan."""
    rng = np.random.default_rng(seed)
    names = [*ODD, *(f"unit {i}" for i in range(units))]
    devices = [10_000_000_000 + 7 * i for i in range(len(names))]
    own = {name: options.pop(name) for name in ("as_of", "ended_at", "allocation") if name in options}
    return World(
        tables={
            SHOWN: _shown(rng, names, clustered=clustered),
            "orders": _orders(rng, names, 8 * len(names)),
            "visits": _visits(rng, devices, 6 * len(names)),
            "links": _links(rng, names, devices),
        },
        metrics=metrics,
        dimensions=("country", "platform", "account"),
        sources=SOURCES,
        exposed_if=_if(("test", "=", "checkout")),
        options=options,
        **{"as_of": AS_OF, **own},
    )


LARGE = [0, 7, -5, 10**15, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**60, 2**62 + 1, 2**63 - 1, 2**63, 10**19 + 1]
GROUPS = [-0.0, 0.0, 7.0, 2.0**53, 2.0**60, 1.5, -0.25, float("nan"), float("inf"), float("-inf"), None]


def large_ids(*, seed: int = 5) -> World:
    """Whole ids in decimals, more than doubles have, and in floats; levels in floats: zeros of both signs, and NaN."""
    rng = np.random.default_rng(seed)
    ids = [*LARGE, *range(2**53 + 3, 2**53 + 40)]
    shown = [(Decimal(one), START + i % 5 * DAY, ARMS[i % 2], GROUPS[i % len(GROUPS)]) for i, one in enumerate(ids)]
    size = 4 * len(ids)
    floats = [float(one) for one in LARGE if int(float(one)) == one and one < 2**63]
    kinds = (pa.decimal128(22, 2), MOMENT, pa.string(), pa.float64())
    columns = zip(*shown, strict=True)
    return World(
        tables={
            SHOWN: pa.table(
                {
                    name: pa.array(list(column), kind)
                    for name, column, kind in zip((UNIT, TIME, "arm", "country"), columns, kinds, strict=True)
                }
            ),
            "orders": _shuffled(
                rng,
                {
                    UNIT: (pa.decimal128(38, 4), [Decimal(one) for one in numbers(rng, size, ids)]),
                    TIME: (MOMENT, _times(rng, size, 0, 9)),
                    "value": (pa.float64(), [float(x) for x in rng.integers(9, size=size)]),
                },
            ),
            "visits": _shuffled(
                rng,
                {
                    UNIT: (pa.float64(), numbers(rng, size, [*floats, None])),
                    TIME: (MOMENT, _times(rng, size, 0, 9)),
                    "group": (pa.float64(), numbers(rng, size, GROUPS)),
                },
            ),
        },
        metrics=(
            metric("revenue", measure=orders(), pre_period_days=0),
            metric("visits", measure=visits(), pre_period_days=0),
            metric("grouped", measure=visits(filters=_if(("group", "in", [0.0, 7.0]))), pre_period_days=0),
        ),
        as_of=AS_OF,
        dimensions=("country",),
        options={"segments": ["country"]},
    )


def far_from_zero(offset: float, *, seed: int = 3, units: int = 60) -> World:
    """Everybody has one order before exposure and one after, each `offset` and a little."""
    rng = np.random.default_rng(seed)
    rows = [(f"u{i}", START + float(rng.uniform(0, 5)) * DAY, ARMS[i % 2], "AB"[i % 3 // 2]) for i in range(units)]
    shown = [pa.array(list(column), kind) for column, kind in zip(
        zip(*rows, strict=True), (pa.string(), MOMENT, pa.string(), pa.string()), strict=True
    )]  # fmt: skip
    at = [row[1] + sign * DAY for row in rows for sign in (-1, 1)]
    who = [row[0] for row in rows for _ in range(2)]
    orders_made = {UNIT: who, TIME: pa.array(at, MOMENT), "value": offset + rng.normal(size=len(at))}
    return World(
        tables={
            SHOWN: pa.table(dict(zip((UNIT, TIME, "arm", "country"), shown, strict=True))),
            "orders": pa.table(orders_made),
        },
        metrics=FAR,
        as_of=AS_OF,
        dimensions=("country",),
        options={"segments": ["country"]},
    )
