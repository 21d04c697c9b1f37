"""How an experiment's numbers are computed, as statements to read and run, and what computing them would read."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from fastapi import Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Reader
from experiments import analysis, connection, experiment, freezing, stored_result
from experiments.connection import Access
from experiments.database import Database
from experiments.errors import (
    DataDeleted,
    InvalidDefinition,
    NoSecretKey,
    NotFound,
    NotReady,
    PlanIncomplete,
    SecretUnreadable,
    SourceUnreadable,
)
from experiments.plan import AnalysisPlan, BaselinePlan, document, load, plan_hash
from experiments.settings import Settings
from experiments.tables import Analysis, Experiment
from warehouse.catalog import slice_for
from warehouse.data_slice import DataSlice

if TYPE_CHECKING:
    from warehouse.reading import ReadingCost
    from warehouse.written import Written

router = api_router("experiment results", "/experiments/{key}", PlainRoute)
of_analyses = api_router("analyses", "/analyses", PlainRoute)

DialectName = Literal["duckdb", "postgres", "spark"]
ENGINES: Final = {"duckdb": "DuckDB", "postgres": "PostgreSQL", "spark": "Spark"}
DRAFT_DAYS: Final = 28
"""A draft is priced as if it had begun so long ago."""
_ASKING: Final = ThreadPoolExecutor(2, thread_name_prefix="statements")
"""Engines answer here, two at a time: who reads a page must not take the room of who sends data."""


@dataclass(frozen=True, slots=True)
class Computation:
    """A plan, the data as it was then, and what opens the warehouse where the rows are (None: they are here)."""

    plan: AnalysisPlan
    plan_hash: str
    data_as_of: datetime
    data: DataSlice
    access: Access | None
    analysis_id: uuid.UUID | None = None
    assumed_days: int | None = None


class ExpectedTable(BaseModel):
    """A table that has to be made where the statement is to run."""

    table: str
    holds: str


class SqlOut(BaseModel):
    """Statements in one dialect: run those of `setup` first, then either of the two.

    `means` has one row per variant: n, and the mean and variance of each of `columns`. The lines of `moments` are
    everything that intervals and tests are computed from. `runs_as_is`: the rows are where this dialect is spoken;
    otherwise make `tables` first. Paths are relative to the data folder. `left_out` is what of a result is in neither.
    """

    experiment_key: str
    analysis_id: uuid.UUID | None = Field(description="The analysis that they describe; null: one as of now")
    plan_hash: str
    data_as_of: datetime
    dialect: DialectName
    runs_as_is: bool
    setup: list[str]
    means: str
    moments: str
    columns: list[str]
    left_out: list[str]
    tables: list[ExpectedTable]

    @classmethod
    def of(cls, found: Computation, made: "Written") -> Self:
        return cls(
            experiment_key=found.plan.experiment_key,
            analysis_id=found.analysis_id,
            plan_hash=found.plan_hash,
            data_as_of=found.data_as_of,
            dialect=made.dialect,
            runs_as_is=made.at_home,
            setup=list(made.setup),
            means=made.means,
            moments=made.moments,
            columns=list(made.columns),
            left_out=list(made.left_out),
            tables=[ExpectedTable(table=table, holds=holds) for table, holds in made.expects],
        )

    def text(self, statement: Literal["means", "moments"]) -> str:
        """One of the statements as a file: what it is, what it needs, what is not in it, and the SQL."""
        said = [
            f"Experiment {self.experiment_key}, plan {self.plan_hash}",
            f"Data as of {self.data_as_of.isoformat()}; {ENGINES[self.dialect]}",
            "One row per variant: units, and the mean and variance of every number of a unit."
            if statement == "means"
            else "Lines of sums (part, arm, n, v): all that intervals and tests are computed from. x_i is "
            + ", ".join(f"x_{i} {column}" for i, column in enumerate(self.columns)),
        ]
        if not self.runs_as_is:
            said.append("The rows are elsewhere. Make these tables first:")
            said += [f"  {each.table}: {each.holds}" for each in self.tables]
        elif self.dialect == "duckdb":
            said.append(
                "Run it in the data folder. For files of other folders: SET file_search_path = '.,<that folder>'."
            )
        said.append("Not in it:")
        said += [f"  {each}" for each in self.left_out]
        # Names may hold line breaks, which would end the comment.
        comment = "\n".join(f"-- {' '.join(line.splitlines())}" for line in said)
        sql = self.means if statement == "means" else self.moments
        return "\n".join([comment, *(f"{each};" for each in self.setup), f"{sql};", ""])


class SourceCostOut(BaseModel):
    """One source; `source` is null for the exposures that were sent. Null numbers have a `reason`."""

    source: str | None
    rows: int | None
    bytes: int | None
    times: int = Field(description="How often an analysis reads them")
    basis: str
    reason: str


class CostOut(BaseModel):
    """What an analysis would read. Of files at most: one that refreshes what an earlier one kept reads less.

    Totals count every source as often as it is read; null unless all are known.
    """

    experiment_key: str
    engine: Literal["embedded", "postgres", "spark", "none"] = Field(
        description="Where rows are read; none: summaries were sent"
    )
    data_as_of: datetime
    assumed_days: int | None = Field(
        description="Of a draft: as if it had begun so many days ago, without the exposures that will be sent"
    )
    rows: int | None
    bytes: int | None
    sources: list[SourceCostOut]

    @classmethod
    def of(cls, found: Computation, cost: "ReadingCost") -> Self:
        return cls(
            experiment_key=found.plan.experiment_key,
            engine=cost.engine,
            data_as_of=found.data_as_of,
            assumed_days=found.assumed_days,
            rows=cost.rows,
            bytes=cost.bytes,
            sources=[SourceCostOut.model_validate(one, from_attributes=True) for one in cost.sources],
        )


async def of_analysis(session: AsyncSession, settings: Settings, row: Analysis) -> Computation:
    """What an analysis reads, by its own plan and its own time. Raises `NotReady`, `NotFound`, `DataDeleted`."""
    plan = load(row.plan)
    if not isinstance(plan, AnalysisPlan):
        raise NotReady("only analyses of experiments have statements", remedy="ask for those of an experiment")
    of = await session.get(Experiment, row.experiment_id)
    if of is None:
        raise NotFound(f"the experiment {plan.experiment_key} no longer exists")
    found = await _started(session, settings, plan, of, row.data_as_of, known_at=row.created_at)
    return replace(found, plan_hash=row.plan_hash, analysis_id=row.id)


async def of_result(session: AsyncSession, settings: Settings, row: Experiment, at: datetime) -> Computation:
    """What is behind the latest result of an experiment; before there is any, an analysis as of now."""
    result_id = await stored_result.latest_id(session, kind="experiment", subject_key=row.key)
    made = await analysis.of_result(session, result_id=result_id) if result_id is not None else None
    if made is not None:
        return await of_analysis(session, settings, made)
    return await of_next(session, settings, row, at)


async def of_next(session: AsyncSession, settings: Settings, row: Experiment, at: datetime) -> Computation:
    """What an analysis as of now would read, by the frozen plan. Raises `NotReady` for a draft."""
    plan = load(experiment.require_plan(row))
    assert isinstance(plan, AnalysisPlan)
    return replace(await _started(session, settings, plan, row, at), plan_hash=row.plan_hash or "")


async def of_draft(session: AsyncSession, settings: Settings, row: Experiment, at: datetime) -> Computation:
    """What an analysis would read that began `DRAFT_DAYS` ago. Raises `PlanIncomplete`, `InvalidDefinition`."""
    plan = await freezing.freeze(session, row)
    # Without a start an experiment has no slice of its own, and nobody was exposed to it.
    history = BaselinePlan(unit_type=plan.unit_type, metrics=plan.metrics, fact_sources=plan.fact_sources)
    data = await slice_for(session, settings, history, experiment=None, data_as_of=at)
    data = replace(data, started_at=at - timedelta(days=DRAFT_DAYS))
    access = await connection.access_for(session, sources=plan.fact_sources, settings=settings)
    return Computation(plan, plan_hash(document(plan)), at, data, access, assumed_days=DRAFT_DAYS)


async def _started(
    session: AsyncSession,
    settings: Settings,
    plan: AnalysisPlan,
    row: Experiment,
    data_as_of: datetime,
    known_at: datetime | None = None,
) -> Computation:
    data = await slice_for(session, settings, plan, experiment=row, data_as_of=data_as_of, known_at=known_at)
    access = await connection.access_for(session, sources=plan.fact_sources, settings=settings)
    return Computation(plan, "", data_as_of, data, access)


def home_of(found: Computation) -> DialectName:
    """The dialect of the place where the rows are."""
    return "duckdb" if found.access is None else found.access.spec.kind


async def sql_of(found: Computation, settings: Settings, dialect: DialectName) -> SqlOut:
    """The statements. No transaction is open while an engine is asked. Raises `SourceUnreadable`, `NotReady`."""

    def write() -> "Written":
        # Only who asks for statements needs the compiler.
        from warehouse.engines.embedded import DuckDBEngine
        from warehouse.engines.opening import open_engine
        from warehouse.written import written

        if found.access is not None:
            with closing(open_engine(found.access)) as engine:
                return written(found.plan, found.data, engine, dialect)
        memory = f"{settings.analysis_memory_mb}MB"
        with closing(DuckDBEngine(threads=settings.analysis_threads, memory_limit=memory)) as here:
            return written(found.plan, found.data, here, dialect)

    return SqlOut.of(found, await asyncio.get_running_loop().run_in_executor(_ASKING, write))


async def cost_of(found: Computation) -> CostOut:
    """What it would read. No transaction is open while an engine is asked. Raises `SourceUnreadable`."""

    def price() -> "ReadingCost":
        from warehouse.reading import reading_cost

        cost = reading_cost(found.plan, found.data, found.access)
        if found.assumed_days is None:
            return cost
        # Nobody was exposed to a draft, and how many will be is what sample sizes are about.
        return replace(cost, sources=tuple(one for one in cost.sources if one.source is not None))

    return CostOut.of(found, await asyncio.get_running_loop().run_in_executor(_ASKING, price))


async def priced(database: Database, settings: Settings, key: str, at: datetime) -> CostOut:
    """The cost of the next analysis of an experiment, or of a draft."""
    async with database.read() as session:
        row = await experiment.get(session, key=key)
        of = of_draft if row.plan is None else of_next
        found = await of(session, settings, row, at)
    return await cost_of(found)


_TEXT: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_PROBLEMS = problems(NotFound, NotReady, DataDeleted, SourceUnreadable, NoSecretKey, SecretUnreadable)
Dialect = Annotated[DialectName | None, Query(description="Default: that of the place where the rows are")]
Which = Annotated[Literal["means", "moments"], Query(description="Which statement the text is")]
Format = Annotated[
    Literal["json", "text"] | None, Query(description="Default: text for `Accept: text/plain`, else JSON")
]


@router.get(
    "/sql", summary="How the latest result was computed, as SQL", response_model=SqlOut, responses=_PROBLEMS | _TEXT
)
async def get_sql_of_experiment(
    caller: Reader,
    database: DatabaseDep,
    settings: SettingsDep,
    now: Now,
    key: Handle,
    request: Request,
    dialect: Dialect = None,
    statement: Which = "means",
    format: Format = None,
) -> Response:
    """By the plan and the data of the latest result; before there is any, of an analysis as of now."""
    async with database.read() as session:
        found = await of_result(session, settings, await experiment.get(session, key=key), now)
    return _answer(request, await sql_of(found, settings, dialect or home_of(found)), statement, format)


@of_analyses.get(
    "/{analysis_id}/sql",
    summary="How an analysis was computed, as SQL",
    response_model=SqlOut,
    responses=_PROBLEMS | _TEXT,
)
async def get_sql_of_analysis(
    caller: Reader,
    database: DatabaseDep,
    settings: SettingsDep,
    analysis_id: uuid.UUID,
    request: Request,
    dialect: Dialect = None,
    statement: Which = "means",
    format: Format = None,
) -> Response:
    """By the frozen plan of that very analysis, on the data as it was then."""
    async with database.read() as session:
        found = await of_analysis(session, settings, await analysis.get(session, analysis_id=analysis_id))
    return _answer(request, await sql_of(found, settings, dialect or home_of(found)), statement, format)


@router.get(
    "/cost",
    summary="What an analysis would read",
    responses=_PROBLEMS | problems(PlanIncomplete, InvalidDefinition),
)
async def get_cost(caller: Reader, database: DatabaseDep, settings: SettingsDep, now: Now, key: Handle) -> CostOut:
    """Rows and bytes by source, from footers of files or by the warehouse's own estimate; nothing is read for it."""
    return await priced(database, settings, key, now)


def _answer(request: Request, made: SqlOut, statement: Literal["means", "moments"], format: str | None) -> Response:
    if format == "text" or (format is None and "text/plain" in request.headers.get("accept", "")):
        return PlainTextResponse(made.text(statement))
    return JSONResponse(made.model_dump(mode="json"))
