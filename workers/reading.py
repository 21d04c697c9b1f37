"""How a child reads: on which road, and with how much of the machine."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any

from experiments.connection import Access
from experiments.places import by_place
from experiments.plan import AnalysisPlan, BaselinePlan, LaunchPlan, NorthStarPlan
from stats.moment_set import MomentSet
from warehouse.extract import (
    Baseline,
    DataSlice,
    Progress,
    extract_baseline,
    extract_experiment,
    extract_incrementally,
)
from warehouse.period_totals import StoredTotals, Totals
from warehouse.together import Together, measure_together


@dataclass(frozen=True, slots=True)
class Resources:
    """What the data engine may use in this child, and whether it keeps what it read for the next one."""

    threads: int
    memory_limit: str
    keep_state: bool = False


def experiment_moments(
    plan: AnalysisPlan,
    data: DataSlice,
    resources: Resources,
    access: Access | None,
    together: Together | None,
    progress: Progress,
) -> MomentSet:
    """The moments of an experiment: with `access` by statements there, with `together` in one pass with others."""
    if access is not None:
        # Only who reads from a warehouse needs its client and the compiler.
        from warehouse.engines.opening import open_engine
        from warehouse.relational_moments import extract_relational
        from warehouse.state.sealed import Warehouse, extract_sealed

        progress("connecting", 0.0)
        with closing(open_engine(access)) as engine:
            if not resources.keep_state:
                return extract_relational(plan, data, engine, progress)
            return extract_sealed(plan, data, engine, Warehouse.of(access.spec), progress)
    use: dict[str, Any] = {
        "threads": resources.threads, "memory_limit": resources.memory_limit, "progress": progress,
    }  # fmt: skip
    found = None if together is None else measure_together(plan, data, together, **use)
    if found is not None:
        return found
    extract = extract_incrementally if resources.keep_state else extract_experiment
    return extract(plan, data, **use)


def totals_of(
    plan: NorthStarPlan | LaunchPlan, data: DataSlice, access: tuple[Access, ...], resources: Resources
) -> AbstractContextManager[Totals]:
    """Where the facts of a plan are added up."""
    threads, memory_limit = resources.threads, resources.memory_limit
    if not access:
        return StoredTotals.open(plan.fact_sources, data, threads=threads, memory_limit=memory_limit)
    # Only who reads from a warehouse needs its client and the compiler.
    from warehouse.relational_totals import totals_by_place

    return totals_by_place(plan.fact_sources, data, access, threads=threads, memory_limit=memory_limit)


def baselines(
    plan: BaselinePlan, data: DataSlice, access: Sequence[Access], resources: Resources, progress: Progress
) -> list[tuple[BaselinePlan, Baseline]]:
    """The history of a plan's metrics in each place: its part of the plan, and what was found there."""
    connections = {each.spec.key: each for each in access}
    found = []
    for place, part in by_place(plan).items():
        if place is None:
            here = extract_baseline(
                part, data, threads=resources.threads, memory_limit=resources.memory_limit, progress=progress
            )
            found.append((part, here))
            continue
        from warehouse.engines.opening import open_engine
        from warehouse.relational_baseline import baseline_relational

        progress("connecting", 0.0)
        with closing(open_engine(connections[place])) as engine:
            found.append((part, baseline_relational(part, data, engine, progress)))
    return found
