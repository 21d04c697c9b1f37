"""A launch of every design with the effect that it should find."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.plan import LaunchPlan
from experiments.series_table import SeriesTable
from tests.experiments.launch_cases import (
    ARMS,
    COUNTRIES,
    WHOLE,
    Floats,
    at,
    countries,
    experiment,
    measurement,
    plan_of,
    series,
    since,
    step,
    table,
)

type Case = tuple[LaunchPlan, Mapping[str, SeriesTable], int]

EFFECT = 0.06
DE = COUNTRIES.index("de")
EVERYWHERE = range(10)


def whole(values: Floats) -> SeriesTable:
    return table(values.sum(axis=0, keepdims=True), [""])


def concurrent(effect: float = EFFECT, *, values: Floats | None = None, seed: int = 1, **extra: Any) -> Case:
    y = countries(52, seed=seed, effect=since(42, effect, DE), segments=7) if values is None else values
    return plan_of(step(42, 1, segments=["de"]), **extra), {"revenue": table(y)}, 52


def staggered() -> Case:
    y = countries(52, effect=lambda i, t: since(36, EFFECT, 0, 1)(i, t) + since(44, EFFECT, 2)(i, t), segments=7)
    return plan_of(step(36, 1, segments=["at", "be"]), step(44, 1, segments=["ch"])), {"revenue": table(y)}, 52


def by_lot() -> Case:
    plan, tables, until = staggered()
    drawn = [one.model_copy(update={"mechanism": "random"}) for one in plan.rollout]
    return plan.model_copy(update={"rollout": drawn}), tables, until


def switched() -> Case:
    states = np.random.default_rng(2).permutation(np.repeat([1, 0], 10))
    path = np.concatenate([np.zeros(40), np.repeat(states, 2)])
    steps = [step(40 + 2 * k, float(state), "random") for k, state in enumerate(states)]
    values = countries(80, effect=lambda i, t: EFFECT * path)
    return plan_of(*steps, measured=WHOLE), {"revenue": whole(values)}, 80


def controlled(effect: float = EFFECT, *, seed: int = 1, **extra: Any) -> Case:
    values = countries(80, seed=seed, effect=since(60, effect, DE))
    asked = measurement(series(dimension=""), controls=[series("other", ""), series("third", "")], **extra)
    tables = {
        "revenue": table(values[DE : DE + 1], [""]),
        "other": table(values[:1], [""]),
        "third": table(values[1:2], [""]),
    }
    return plan_of(step(60, 1, "all_at_once"), measured=asked), tables, 80


def at_once(effect: float = EFFECT, *, seed: int = 1) -> Case:
    values = countries(80, seed=seed, effect=since(60, effect, *EVERYWHERE))
    return plan_of(step(60, 1, "all_at_once"), measured=WHOLE), {"revenue": whole(values)}, 80


def in_stages(on_first: float = 1000) -> Case:
    empty = np.full((2, 60), np.nan)
    n, totals = empty.copy(), empty.copy()
    n[:, 40], n[:, 47] = (on_first, 9000), (5000, 5000)
    totals[:, 40], totals[:, 47] = n[:, 40] * (10.6, 10), n[:, 47] * (10.63, 10)
    periods = tuple(at(t) for t in range(60))
    sent = SeriesTable(("on", "off"), periods, totals, n, np.where(np.isfinite(n), 25.0, np.nan))
    steps = step(40, 0.1, "random"), step(47, 0.5, "random"), step(54, 1, "random")
    return plan_of(*steps, measured=ARMS), {"revenue": sent}, 60


def with_experiment() -> Case:
    values = countries(60, effect=since(40, EFFECT, *EVERYWHERE))
    asked = measurement(series(dimension=""), experiment=experiment(log_lift=0.05))
    return plan_of(step(40, 1, "all_at_once"), measured=asked), {"revenue": whole(values)}, 60


BY_DESIGN: dict[str, tuple[Callable[[], Case], str, str]] = {
    "experiment": (with_experiment, "experiment", "A"),
    "staged": (in_stages, "staged", "A"),
    "switchback": (switched, "switchback", "B"),
    "random_order": (by_lot, "imputation", "B"),
    "staggered": (staggered, "imputation", "C"),
    "concurrent": (concurrent, "synthetic_did", "C"),
    "donors": (controlled, "bsts", "C"),
    "before_after": (at_once, "structural", "D"),
}
