"""`northlift erase` and `northlift erasures`: deleting everything of a unit, and how far that is."""

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.faults import faults_end_the_command

erasure_cli = typer.Typer()
out = Console()

Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]
DEFAULT_URL = "http://127.0.0.1:8321"


@erasure_cli.command()
def erase(
    unit_type: Annotated[str, typer.Argument(help="What the id is one of, for example user")],
    unit_id: Annotated[str, typer.Argument(help="The id; - reads it from standard input, out of the shell's history")],
    key: Key,
    reason: Annotated[str, typer.Option(help="Why; kept, so it must not name the unit")] = "",
    also: Annotated[list[str] | None, typer.Option(help="Another id of the same unit; may be repeated")] = None,
    refuse_future: Annotated[bool, typer.Option("--refuse-future", help="Refuse new rows of it from now on")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete everything of a unit. Workers do it within minutes; `northlift erasures` shows how far they are."""
    from app.cli.client import ApiClient

    wanted = {
        "unit_type": unit_type,
        "unit_id": sys.stdin.readline().rstrip("\r\n") if unit_id == "-" else unit_id,
        "also_ids": also or [],
        "reason": reason,
        "refuse_future": refuse_future,
    }
    with faults_end_the_command(), ApiClient(url, key) as client:
        made = client.post("/v1/erasures", wanted)
    for row in made["items"]:
        out.print(f"Erasure {row['id']} is {row['state']}.", highlight=False)


@erasure_cli.command()
def erasures(key: Key, url: Url = DEFAULT_URL) -> None:
    """List erasures: how far each is, and what it deleted."""
    from app.cli.client import ApiClient
    from app.cli.launches import every_item

    with faults_end_the_command(), ApiClient(url, key) as client:
        out.print(table_of(every_item(client, "/v1/erasures")))


def table_of(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line per erasure; ids of units are in none."""
    table = Table("erasure", "unit type", "state", "asked for", "rows", "experiments", box=SIMPLE_HEAD, show_edge=False)
    for row in rows:
        effects = row["effects"] or {"rows": {}, "experiments": {}}
        count = sum(sum(each.values()) for each in effects["rows"].values())
        lost = ", ".join(sorted(effects["experiments"])) or "none"
        known = row["effects"] is not None
        asked = row["requested_at"][:16].replace("T", " ")
        table.add_row(
            row["id"], row["unit_type"], row["state"], asked, str(count) if known else "", lost if known else ""
        )
    return table
