"""`northlift sql` and `northlift cost`: how an experiment is computed, and what that would read."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

computation_cli = typer.Typer()
out = Console()

Experiment = Annotated[str, typer.Argument(help="Key of the experiment")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]
DEFAULT_URL = "http://127.0.0.1:8321"


class Dialect(StrEnum):
    """Where a statement is to run."""

    DUCKDB = "duckdb"
    POSTGRES = "postgres"
    SPARK = "spark"


class Statement(StrEnum):
    """What a statement gives."""

    MEANS = "means"
    MOMENTS = "moments"


@computation_cli.command("sql")
def sql(
    experiment: Experiment,
    key: Key,
    dialect: Annotated[Dialect, typer.Option(help="DuckDB reads what was sent")] = Dialect.DUCKDB,
    statement: Annotated[
        Statement, typer.Option(help="A row per variant, or all that intervals are computed from")
    ] = Statement.MEANS,
    url: Url = DEFAULT_URL,
) -> None:
    """Print the statement behind the latest result, to be read and run."""
    from app.cli.client import ApiClient

    with faults_end_the_command(), ApiClient(url, key) as client:
        params = {"dialect": dialect.value, "statement": statement.value, "format": "text"}
        text = client.request("GET", f"/v1/experiments/{experiment}/sql", params=params).text
        out.print(text, end="", highlight=False, markup=False, soft_wrap=True)


@computation_cli.command("cost")
def cost(experiment: Experiment, key: Key, url: Url = DEFAULT_URL) -> None:
    """Say what an analysis would read, before it runs."""
    from app.cli.client import ApiClient
    from app.cli.computation import cost_line, cost_table

    with faults_end_the_command(), ApiClient(url, key) as client:
        found = client.get(f"/v1/experiments/{experiment}/cost")
        if found["sources"]:
            out.print(cost_table(found))
        out.print(cost_line(found), highlight=False)
