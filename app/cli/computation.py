"""What an analysis would read, as a table and a sentence."""

from collections.abc import Mapping
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

_PLACES: Final = {"embedded": "here", "postgres": "in PostgreSQL", "spark": "in Spark"}


def cost_table(cost: Mapping[str, Any]) -> Table:
    """A row per source."""
    table = Table(title=escape(f"An analysis of {cost['experiment_key']} reads {_PLACES[cost['engine']]}"))
    table.add_column("Source")
    for name in ("Rows", "MB", "Times"):
        table.add_column(name, justify="right")
    table.add_column("Known from")
    for one in cost["sources"]:
        table.add_row(
            escape(one["source"] or "exposures that were sent"),
            _count(one["rows"]),
            _megabytes(one["bytes"]),
            str(one["times"]),
            escape("; ".join(part for part in (one["basis"], one["reason"]) if part)),
        )
    return table


def cost_line(cost: Mapping[str, Any]) -> str:
    """All sources together, and what is assumed."""
    if cost["engine"] == "none":
        return "Nothing is read: the numbers are sent as summaries."
    line = f"In all: {_count(cost['rows'])} rows, {_megabytes(cost['bytes'])} MB."
    if cost["engine"] == "embedded":
        line += " A refresh reads less."
    if cost["assumed_days"] is not None:
        line += f" As if it had begun {cost['assumed_days']} days ago, without its exposures."
    return line


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _megabytes(number: int | None) -> str:
    return "unknown" if number is None else f"{number / 1e6:,.1f}"
