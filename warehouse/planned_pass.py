"""What a plan and a slice say of a pass, the same on every road, before anything is read."""

from concurrent.futures import Executor

import duckdb

from experiments.columns import layout
from experiments.plan import AnalysisPlan
from warehouse.data_slice import DataSlice
from warehouse.engine import days_us, epoch_us
from warehouse.looks import planned_looks
from warehouse.one_pass import Pass, is_open
from warehouse.wanted import wanted


def planned_pass(plan: AnalysisPlan, data: DataSlice, connection: duckdb.DuckDBPyConnection, pool: Executor) -> Pass:
    """The pass without what only the rows of its exposures and mappings can say: levels, segments, strata, losses.

    Raises ValueError for the slice of an experiment that has not started.
    """
    if data.started_at is None:
        raise ValueError("an experiment's slice needs `started_at`")
    columns = layout([metric.spec for metric in plan.metrics])
    longest, extra = columns.longest_window_days, wanted(columns, plan)
    exposed_until = data.data_as_of if data.ended_at is None else min(data.ended_at, data.data_as_of)
    return Pass(
        connection=connection,
        data=data,
        sources={source.key: source for source in plan.fact_sources},
        columns=columns.columns,
        longest_us=days_us(longest) if longest is not None else 0,
        looks=planned_looks(
            plan.estimation.sequential,
            started_at=data.started_at,
            ended_at=data.ended_at,
            data_as_of=data.data_as_of,
            longest_window_days=longest,
            has_open=any(is_open(column) for column in (*columns.columns, *extra.columns)),
        ),
        variants=tuple(variant.key for variant in plan.variants),
        levels=(),
        exposed_us=(epoch_us(data.started_at), epoch_us(exposed_until)),
        pool=pool,
        clustered=plan.cluster is not None,
        wanted=extra,
    )


def attributes_of(plan: AnalysisPlan) -> list[str]:
    """The attributes of exposures that the plan names, each once."""
    return list(dict.fromkeys([*plan.segments, *plan.estimation.stratify_by]))


def mapped_us(work: Pass) -> tuple[int, int]:
    """The period whose facts the pass may look at: what unit mappings lose is counted in it."""
    history = max((column.pre_period_days for column in (*work.columns, *work.wanted.columns)), default=0.0)
    return work.exposed_us[0] - days_us(history), epoch_us(work.data.data_as_of)
