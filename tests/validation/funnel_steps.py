"""All steps of a funnel: coverage of shares of arms, and of what the treatment did to who gets there and goes on."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from experiments.definitions import FunnelStep, Measure, MetricSpec
from experiments.evidence.contract import Block
from experiments.evidence.funnel_effects import funnel_effects
from experiments.evidence.shapes import block_shapes
from experiments.plan import AnalysisPlan
from experiments.result import StepShare
from stats.moment_set import MomentSet
from stats.moments import Floats, Ints, Moments
from tests.experiments.evidence_cases import END, columns_of, plan_of, planned
from tests.validation.cells import Cell, Rule, scaled

SEED = 20276
REPLICATIONS = 2_000
TABLE = "steps of funnels"
STEPS = ("visit", "basket", "order")
CASES = {
    "1,000 per arm, 60 %, 40 %, 30 %": (1_000, (0.6, 0.4, 0.3), (0.63, 0.44, 0.33)),
    "300 per arm, 30 %, 20 %, 50 %": (300, (0.3, 0.2, 0.5), (0.33, 0.22, 0.55)),
    "300 per arm, 50 %, 40 %, 5 %": (300, (0.5, 0.4, 0.05), (0.55, 0.4, 0.1)),
}
SMALL_SAMPLES = 0.02
"""The coverage of score intervals swings around what they say by this much where counts are small (A2)."""


def shares(part: float = 1.0) -> list[Cell]:
    """Each arm has its chances given the step before. Score intervals (of arms, and where a step has few) may be 0.02

    off, the others 0.01. Where a lift is refused nothing is said that could be wrong; how often is in the CSV.
    """
    plan = _plan()
    reps = scaled(REPLICATIONS, part, 100)
    cells = []
    for name, (units, control, treatment) in CASES.items():
        rng = np.random.default_rng([SEED, units, round(100 * control[0])])
        chances = np.array([control, treatment])
        went = np.empty((reps, 2, len(STEPS)), np.int64)
        before = np.full((reps, 2), units)
        for step in range(len(STEPS)):
            before = went[..., step] = rng.binomial(before, chances[:, step])
        held: dict[tuple[str, str], list[bool | None]] = defaultdict(list)
        for counts in went:
            data = _moment_set(plan, units, counts)
            block = block_shapes(plan, Block(("funnel",), data))
            for step, found in enumerate(funnel_effects(plan, block, data)[0, 0]):
                _see(held, f"{step + 1}: reached", found.reached, np.cumprod(chances, axis=1)[:, step])
                if found.passed is not None:
                    _see(held, f"{step + 1}: goes on", found.passed, chances[:, step])
        for (step, quantity), inside in held.items():
            arm = quantity == "arm"
            rule: Rule = "equal" if arm else "at_least"
            right = float(np.mean([hit is not False for hit in inside]))
            cells.append(
                Cell(
                    TABLE,
                    {"funnel": name, "step": step},
                    f"95 % interval of the {quantity}",
                    right,
                    0.95,
                    reps,
                    rule,
                    SMALL_SAMPLES if arm or "goes on" in step else 0.01,
                    extra={"refused": inside.count(None) / len(inside)},
                )
            )
    return cells


def _see(held: dict[tuple[str, str], list[bool | None]], step: str, found: StepShare, true: Floats) -> None:
    control, treatment = (float(chance) for chance in true)
    for quantity, low, high, truth in (
        ("arm", found.control_lower, found.control_upper, control),
        ("arm", found.treatment_lower, found.treatment_upper, treatment),
        ("difference", found.difference_ci_lower, found.difference_ci_upper, treatment - control),
        ("lift", found.ci_lower, found.ci_upper, treatment / control - 1),
    ):
        held[step, quantity].append(None if low is None or high is None else low <= truth <= high)


def _plan() -> AnalysisPlan:
    steps = [FunnelStep(measure=Measure(fact_source=name)) for name in STEPS]
    return plan_of(
        [planned(MetricSpec(key="funnel", name="Funnel", kind="funnel", steps=steps, pre_period_days=0), "primary")]
    )


def _moment_set(plan: AnalysisPlan, units: int, went: Ints) -> MomentSet:
    """Moments of so many units in each arm (A) and how many took each step (A, S): all who took one took those before.

    The columns are those of the plan: the whole funnel first, then the steps on the way.
    """
    names = columns_of(plan)
    order = [len(STEPS) - 1, *range(len(STEPS) - 1)]
    mean = went[:, order] / units
    both = np.minimum(mean[:, :, None], mean[:, None, :])
    comoment = units * (both - mean[:, :, None] * mean[:, None, :])
    third = units * mean * (1 - mean) * (1 - 2 * mean)
    last = Moments(np.full(2, units), mean, comoment, third)
    arms = tuple(variant.key for variant in plan.variants)
    nothing = Moments.empty((0, 2), len(names))
    return MomentSet(names, arms, (END,), last[None], (), nothing, last.count[None])
