"""How a result was computed, and what the next one would read: parts of an experiment's page that load when wanted."""

from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.computation import ENGINES, CostOut, DialectName, SqlOut, home_of, of_result, priced, sql_of
from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import connection, experiment
from experiments.definitions import TableSource
from experiments.errors import DomainError
from experiments.plan import AnalysisPlan

router = pages()


@router.get("/experiments/{key}/sql")
async def sql_page(
    key: str,
    request: Request,
    browser: Browser,
    database: DatabaseDep,
    settings: SettingsDep,
    at: Now,
    dialect: DialectName | None = None,
    statement: Annotated[Literal["means", "moments"], Query()] = "means",
) -> Response:
    """The part by itself where the experiment's page asks for it, else a page around it."""
    problem: DomainError | None = None
    made: SqlOut | None = None
    async with database.read() as session:
        row = await experiment.get(session, key=key)
        try:
            found = await of_result(session, settings, row, at)
        except DomainError as error:
            problem = error
    if problem is None:
        dialect = dialect or home_of(found)
        try:
            made = await sql_of(found, settings, dialect)
        except DomainError as error:
            problem = error
    return render(
        request,
        "_sql.html" if request.headers.get("hx-request") else "sql.html",
        experiment=row,
        made=made,
        text=made.text(statement) if made else "",
        dialect=dialect or "duckdb",
        statement=statement,
        dialects=ENGINES,
        problem=problem,
    )


@router.get("/experiments/{key}/cost")
async def cost_page(
    key: str, request: Request, browser: Browser, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """As `sql_page`."""
    async with database.read() as session:
        row = await experiment.get(session, key=key)
    cost: CostOut | None = None
    problem: DomainError | None = None
    try:
        cost = await priced(database, settings, key, at)
    except DomainError as error:
        problem = error
    template = "_cost.html" if request.headers.get("hx-request") else "cost.html"
    return render(request, template, experiment=row, cost=cost, places=PLACES, problem=problem)


PLACES = {"embedded": "here, with DuckDB", "postgres": "in PostgreSQL", "spark": "in Spark"}


async def place_of(session: AsyncSession, plan: AnalysisPlan | None) -> tuple[str, str] | None:
    """Engine and connection of a plan whose rows stay in a warehouse."""
    sources = plan.fact_sources if plan is not None else []
    key = next((source.connection for source in sources if isinstance(source, TableSource)), None)
    if key is None:
        return None
    spec = connection.spec_of(await connection.get(session, key=key))
    return ENGINES[spec.kind], key
