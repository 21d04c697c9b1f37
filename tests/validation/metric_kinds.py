"""Kinds of metrics about order and days, from raw facts through `extract_experiment` to what rows say of them.

Units begin on any of ten days, half of them are new and have no history, and what they do on a day follows from their
type, so that the true value of every metric is a sum over types. Each replication is an experiment of its own: a level
of one segment, of which the engine measures fifty in a pass. "unadjusted" is without covariates, "adjusted" with those
of the plan (A7): what each metric was before exposure, and for revenue two more, with an indicator of units without
history. What has no interval counts as outside of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.optimize as spo
import scipy.special as sc
import scipy.stats as sps

from experiments.definitions import Estimation, EventSource, Filter, FunnelStep, Measure, MetricSpec
from experiments.evidence.contract import Block
from experiments.evidence.effects import Effects, current_effects, planned_pairs
from experiments.evidence.shapes import block_shapes
from experiments.plan import AnalysisPlan
from stats.moments import Bools, Floats, Ints
from tests.validation.cells import Cell, Rule
from tests.warehouse.cases import DAY, START, plan_of, slice_of
from warehouse.extract import extract_experiment
from warehouse.units import MAX_LEVELS
from warehouse.vectors import TIME

SEED = 20275
REPLICATIONS, UNITS = 2_000, 2_000
BEFORE, AFTER, ENTRY = 7, 14, 10
HALF, END = START + (ENTRY / 2 + AFTER) * DAY, START + (ENTRY + AFTER + 1) * DAY
US, HOURS = timedelta(microseconds=1), 10
RARE = 3e-4
"""That any cell of one of the three tables is outside, although all that is promised is true."""
SHARE_IN_APP, SPREAD, QUANTILE = 0.4, 0.6, 0.8
VISITS, ORDERS = Measure(fact_source="visits"), Measure(fact_source="orders")
SOURCES = (EventSource(key="visits", event="visit"), EventSource(key="orders", event="order"))
AMOUNT = Measure(fact_source="orders", aggregation="sum")
METRICS = (
    MetricSpec(
        key="retention", name="Retention", kind="retention", measure=VISITS, delay_days=7, window_days=7,
        pre_period_days=7,
    ),
    MetricSpec(
        key="retention_after_start", name="Retention after a start", kind="retention", start=ORDERS, measure=VISITS,
        start_within_days=7, delay_days=0.5, window_days=5, pre_period_days=7,
    ),
    MetricSpec(
        key="funnel", name="Funnel", kind="funnel", window_days=7, pre_period_days=7,
        steps=[FunnelStep(measure=VISITS), FunnelStep(measure=ORDERS, within_days=0.5)],
    ),
    MetricSpec(
        key="funnel_of_first_step", name="Funnel of those at its first step", kind="funnel", funnel_of="first_step",
        window_days=7, steps=[FunnelStep(measure=VISITS), FunnelStep(measure=ORDERS)], pre_period_days=7,
    ),
    MetricSpec(
        key="participation", name="Participation", kind="participation", measure=VISITS, window_days=14,
        pre_period_days=7,
    ),
    MetricSpec(
        key="last_value", name="Last value", kind="mean", window_days=14, pre_period_days=7,
        measure=Measure(fact_source="orders", aggregation="last"),
    ),
    MetricSpec(
        key="event_quantile", name="Quantile of events", kind="quantile", quantile=QUANTILE, quantile_of="event",
        window_days=14, pre_period_days=0, measure=AMOUNT,
    ),
    MetricSpec(
        key="filtered_count", name="Orders in the app", kind="mean", window_days=14, pre_period_days=7,
        measure=Measure(fact_source="orders", filters=[Filter(column="channel", op="=", value="app")]),
    ),
    MetricSpec(
        key="three_covariates", name="Revenue", kind="mean", window_days=14, pre_period_days=7, measure=AMOUNT,
        covariates=[VISITS, Measure(fact_source="orders", aggregation="max")],
    ),
)  # fmt: skip
KEYS = tuple(spec.key for spec in METRICS)
TITLES = {
    "event_quantile": f"p{round(100 * QUANTILE)} of events",
    "filtered_count": "count of filtered facts",
    "three_covariates": "sum, three covariates and a flag of no history",
} | {key: key.replace("_", " ") for key in KEYS if key not in ("event_quantile", "filtered_count", "three_covariates")}
TABLE, LOOKS_TABLE = "kinds of metrics", "retention at two looks"

TYPES = np.array([0.3, 0.3, 0.25, 0.15])
VISIT = np.array([0.04, 0.12, 0.3, 0.55])
ORDER = np.array([0.15, 0.25, 0.3, 0.4])
LOG_AMOUNT = np.log([8.0, 10.0, 12.0, 15.0])
NEW = np.array([0.7, 0.5, 0.4, 0.2])


@dataclass(frozen=True)
class Effect:
    """Factors on the chance of a visit on a day, that of an order on a visit, and amounts."""

    visits: float = 1.0
    orders: float = 1.0
    amounts: float = 1.0


NONE, SOME = Effect(), Effect(1.1, 1.15, 1.1)


def truth(effect: Effect) -> Floats:
    """The value of every metric in an arm, in the order of `METRICS`: expectations given the type, over types."""
    visit, order = VISIT * effect.visits, VISIT * effect.visits * ORDER * effect.orders
    amount = np.exp(LOG_AMOUNT + SPREAD**2 / 2) * effect.amounts
    in_week, ordered = TYPES @ (1 - (1 - visit) ** 7), TYPES @ (1 - (1 - order) ** 7)
    returned = TYPES @ ((1 - (1 - order) ** 7) * (1 - (1 - visit) ** 5))

    def below(log_amount: float) -> float:
        chance = sc.ndtr((log_amount - LOG_AMOUNT) / SPREAD)
        return float((TYPES * order) @ chance / (TYPES @ order) - QUANTILE)

    found = {
        "retention": in_week,
        "retention_after_start": returned / ordered,
        "funnel": ordered,
        "funnel_of_first_step": ordered / in_week,
        "participation": TYPES @ visit,
        "last_value": TYPES @ ((1 - (1 - order) ** AFTER) * amount),
        "event_quantile": np.exp(spo.brentq(below, 0.0, 10.0)) * effect.amounts,
        "filtered_count": AFTER * SHARE_IN_APP * (TYPES @ order),
        "three_covariates": AFTER * (TYPES @ (order * amount)),
    }
    return np.array([found[key] for key in KEYS])


@dataclass(frozen=True)
class Found:
    """What analyses of experiments (first axis) said of every metric (second)."""

    value: Floats
    p_value: Floats
    difference: tuple[Floats, Floats]
    lift: tuple[Floats, Floats]
    always: tuple[Floats, Floats]

    @classmethod
    def of(cls, effects: Effects) -> Found:
        """Cells of segments, of the one treatment."""
        d, up, av = effects.difference, effects.lift, effects.always
        return cls(
            d.value[1:, 0],
            d.p_value[1:, 0],
            (d.ci_lower[1:, 0], d.ci_upper[1:, 0]),
            (up.ci_lower[1:, 0], up.ci_upper[1:, 0]),
            (av.lower[1:, 0], av.upper[1:, 0]),
        )

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        def pair(name: str) -> tuple[Floats, Floats]:
            low, high = (np.concatenate([getattr(part, name)[side] for part in parts]) for side in (0, 1))
            return low, high

        values, p_values = ([getattr(part, name) for part in parts] for name in ("value", "p_value"))
        return cls(np.concatenate(values), np.concatenate(p_values), pair("difference"), pair("lift"), pair("always"))


def held(interval: tuple[Floats, Floats], true: Floats) -> Bools:
    """Whether the truth lies within; what has no interval does not hold it."""
    return (interval[0] <= true) & (true <= interval[1])


def not_denied(interval: tuple[Floats, Floats], true: Floats) -> Bools:
    """The same, where no interval is no claim."""
    return ~((interval[0] > true) | (true > interval[1]))


def kinds(part: float = 1.0) -> list[Cell]:
    """Size without an effect; coverage of both scales and bias with one that moves visits, orders and amounts."""
    plans = [_plan(METRICS, cuped) for cuped in (False, True)]
    control, treated = truth(NONE), truth(SOME)
    nothing, something = (_analysed(effect, part, plans, [END]) for effect in (NONE, SOME))
    found: list[_Number] = []
    for estimator, null, moved in zip(("unadjusted", "adjusted"), nothing, something, strict=True):
        error = moved.value - (treated - control)
        numbers = {
            "size": (null.p_value < 0.05, 0.05),
            "95 % interval of the difference": (held(moved.difference, treated - control), 0.95),
            "95 % interval of the lift": (held(moved.lift, treated / control - 1), 0.95),
            "bias in standard deviations": (error / error.std(axis=0), 0.0),
        }
        for m, key in enumerate(KEYS):
            if estimator == "unadjusted" or key != "event_quantile":  # covariates do not move a quantile
                case = {"metric": TITLES[key], "estimator": estimator}
                found += [(case, name, each[:, m], nominal) for name, (each, nominal) in numbers.items()]
    return _cells(TABLE, found)


def two_looks(part: float = 1.0) -> list[Cell]:
    """Both kinds of retention, when half of the units are through, and at the end; always-valid intervals at both."""
    metrics = METRICS[:2]
    control, treated = truth(NONE)[:2], truth(SOME)[:2]
    fixed: list[_Number] = []
    always: list[_Number] = []
    for name, effect, lift in (("none", NONE, np.zeros(2)), ("some", SOME, treated / control - 1)):
        looks = _analysed(effect, part, [_plan(metrics, False)], [HALF, END])
        kept = np.logical_and(*(not_denied(look.always, lift) for look in looks))
        for m, spec in enumerate(metrics):
            case = {"metric": TITLES[spec.key], "effect": name}
            for look, when in zip(looks, ("first", "last"), strict=True):
                fixed.append((case, f"95 % interval at the {when} look", held(look.lift, lift)[:, m], 0.95))
            always.append((case, "always-valid intervals at both looks", kept[:, m], 0.95))
    return [*_cells(LOOKS_TABLE, fixed), *_cells(LOOKS_TABLE, always, "at_least")]


type _Number = tuple[dict[str, str], str, Any, float]


def _cells(table: str, found: Sequence[_Number], rule: Rule = "equal") -> list[Cell]:
    """The mean over replications of each; tolerances are tails of the binomial, or of the normal for biases."""
    tail = RARE / 2 / len(found)
    cells = []
    for case, name, values, nominal in found:
        reps = len(values)
        within = float(-sc.ndtri(tail) / np.sqrt(reps))
        if nominal:
            ends = sps.binom.ppf([tail, 1 - tail], reps, nominal) / reps
            within = float(np.abs(ends - nominal).max())
        cells.append(Cell(table, case, name, float(np.mean(values)), nominal, reps, rule, 0.0, within=within))
    return cells


def _plan(metrics: Sequence[MetricSpec], cuped: bool) -> AnalysisPlan:
    plan = plan_of(metrics, sources=SOURCES, segments=["experiment"])
    options = Estimation(engine="frequentist", cuped=cuped)
    return plan.model_copy(update={"estimation": options, "planned_units": UNITS})


def _analysed(effect: Effect, part: float, plans: Sequence[AnalysisPlan], times: Sequence[datetime]) -> list[Found]:
    """What each of the plans, which share their moments, says at each of the times, over all experiments."""
    found: list[list[Found]] = [[] for _ in range(len(plans) * len(times))]
    for run in range(max(1, round(REPLICATIONS * part / MAX_LEVELS))):
        rng = np.random.default_rng([SEED, round(100 * effect.visits), len(times), run])
        with tempfile.TemporaryDirectory() as folder:
            exposures, facts = _world(rng, effect, Path(folder))
            for t, time in enumerate(times):
                data = slice_of([exposures], facts, data_as_of=time, ended_at=min(time, START + ENTRY * DAY))
                moments = extract_experiment(plans[0], data, threads=1)
                for p, plan in enumerate(plans):
                    block = Block(tuple(metric.metric_key for metric in plan.metrics), moments)
                    planned = planned_pairs(plan, UNITS)
                    effects = current_effects(plan, block_shapes(plan, block), moments, planned)
                    found[t * len(plans) + p].append(Found.of(effects))
    return [Found.joined(parts) for parts in found]


def _world(rng: np.random.Generator, effect: Effect, folder: Path) -> tuple[Path, dict[str, list[Path]]]:
    """Files of exposures and facts of `MAX_LEVELS` experiments. A visit is in the first hours of a unit's day, an order

    half an hour after it, so that days since exposure are those of a calendar that begins with it.
    """
    units = MAX_LEVELS * UNITS
    kind, treated = rng.choice(len(TYPES), units, p=TYPES), rng.random(units) < 0.5
    entered_us = rng.integers(0, ENTRY * DAY // US, units)
    days = np.arange(-BEFORE, AFTER)
    moved = treated[:, None] & (days >= 0)
    there = (days >= 0) | (rng.random(units) >= NEW[kind])[:, None]
    visited = there & (rng.random(moved.shape) < VISIT[kind][:, None] * np.where(moved, effect.visits, 1))
    chance = ORDER[kind][:, None] * np.where(moved, effect.orders, 1)
    ordered = visited & (rng.random(moved.shape) < chance)
    hour_us = rng.integers(0, HOURS * 3_600_000_000, moved.shape)
    at_us = entered_us[:, None] + days * (DAY // US) + hour_us
    amount = np.exp(LOG_AMOUNT[kind][:, None] + SPREAD * rng.standard_normal(moved.shape))
    amount *= np.where(moved, effect.amounts, 1)
    in_app = rng.random(moved.shape) < SHARE_IN_APP

    names = np.char.add("u", np.arange(units).astype(str))
    facts = {}
    for event, happened, later_us in (("visit", visited, 0), ("order", ordered, 1_800_000_000)):
        unit, day = np.nonzero(happened)
        facts[event] = [folder / f"{event}.parquet"]
        columns = {
            "event": pa.array([event] * len(unit)),
            "unit_id": pa.array(names[unit]),
            "occurred_at": _times(at_us[unit, day] + later_us),
            "value": pa.array(amount[unit, day]),
            "p_channel": pa.array(np.where(in_app[unit, day], "app", "web")),
        }
        pq.write_table(pa.table(columns), facts[event][0])
    exposures = folder / "exposures.parquet"
    columns = {
        "unit_id": pa.array(names),
        "variant_key": pa.array(np.where(treated, "treatment", "control")),
        "exposed_at": _times(entered_us),
        "segment_experiment": pa.array(np.char.add("e", (np.arange(units) // UNITS).astype(str))),
    }
    pq.write_table(pa.table(columns), exposures)
    return exposures, facts


def _times(after_us: Ints) -> Any:
    start_us = int(START.timestamp()) * 1_000_000
    return pa.array(start_us + after_us, pa.int64()).cast(TIME)
