"""A/A: synthetic experiments without any effect through the whole engine, decisions included, short of the database.

Each has a conversion (primary), skewed revenue (guardrail with a margin of 10 %) and pages per session, and is analysed
after each of four weeks. Counted are experiments in which some analysis recommends to ship or to roll back.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from experiments.definitions import Estimation, Sequential
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Floats, Ints
from tests.experiments.evidence_cases import END, START, draft, moment_set, plan_of, planned, spec
from tests.validation.cells import Cell, scaled

SEED = 20271
EXPERIMENTS, WEEKS, WEEKLY = 1_000, 4, 1_000
ALPHA = 0.05
TABLE = "I1 A/A"


def _plan(method: str) -> AnalysisPlan:
    sequential = Sequential.model_validate({"method": method})
    return plan_of(
        [
            planned(spec("orders", "proportion"), "primary", mde=0.2),
            planned(spec("revenue"), "guardrail", non_inferiority_margin=0.1),
            planned(spec("pages", "ratio"), "secondary"),
        ],
        planned_units=WEEKS * WEEKLY,
        estimation=Estimation(cuped=False, engine="frequentist", sequential=sequential),
    )


def _units(rng: np.random.Generator) -> Floats:
    n = WEEKS * WEEKLY
    sessions = rng.integers(1, 6, n)
    return np.column_stack([rng.random(n) < 0.2, rng.lognormal(0, 0.7, n), rng.poisson(4 * sessions), sessions])


def decisions(part: float = 1.0) -> list[Cell]:
    cells = []
    reps = scaled(EXPERIMENTS, part, 20)
    for method in ("always_valid", "group_sequential", "fixed"):
        plan = _plan(method)
        seen: list[set[str]] = []
        for e in range(reps):
            rng = np.random.default_rng([SEED, e])
            values, arm = _units(rng), rng.integers(0, 2, WEEKS * WEEKLY)
            seen.append({_action(plan, values, arm, week) for week in range(1, WEEKS + 1)})
        case = {"plan": method, "analyses": str(WEEKS)}
        for action, name in (("ship", "SHIP"), ("roll_back", "ROLL BACK")):
            found = sum(action in actions for actions in seen) / reps
            cells.append(Cell(TABLE, case, name, found, ALPHA, reps, "at_most", slack=0.0))
        stopped = sum("investigate" in actions for actions in seen) / reps
        cells.append(Cell(TABLE, case, "INVESTIGATE (a check failed)", stopped, 0.01, reps, "at_most"))
    return cells


def _action(plan: AnalysisPlan, values: Floats, arm: Ints, week: int) -> str:
    """What is recommended when the units of so many weeks are there; a day later, when their windows are complete."""
    entered = np.arange(len(values)) // WEEKLY
    there = entered < week
    times = tuple(START + timedelta(days=1 + 7 * w) for w in range(1, week + 1))
    moments: MomentSet = moment_set(plan, values[there], arm[there], look=entered[there], looks=times)
    stopped = END if times[-1] > END else None
    result = draft(plan, moments, data_as_of=times[-1], stopped_at=stopped).document
    assert result.recommendation is not None
    return result.recommendation.action
