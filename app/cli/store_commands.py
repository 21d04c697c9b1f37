"""`northlift store`: what is in the store of this machine, and having it compacted now."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

store_cli = typer.Typer(name="store", help="The store of batches", no_args_is_help=True)
out = Console()


@store_cli.command("status")
def store_status() -> None:
    """Show every event and every experiment's exposures: rows, batches, files, bytes."""
    from app.cli.store import table_of_store
    from experiments.settings import settings

    with faults_end_the_command():
        table, line = asyncio.run(table_of_store(settings()))
        out.print(table)
        out.print(line, highlight=False)


@store_cli.command("compact")
def store_compact(
    everything: Annotated[
        bool, typer.Option("--everything", help="One segment per subject, however few batches it has")
    ] = False,
) -> None:
    """Do now what workers do from time to time: compact, delete what is not kept, sweep."""
    from app.cli.store import compact_now
    from experiments.settings import settings

    with faults_end_the_command():
        for line in asyncio.run(compact_now(settings(), everything=everything)):
            out.print(line, highlight=False)
