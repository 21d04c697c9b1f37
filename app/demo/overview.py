"""What the demo prints when it has been loaded."""

from rich.console import Console
from rich.table import Table

from app.cli.client import ApiClient
from app.cli.numbers import percent
from app.cli.report import VERDICT_STYLE


def print_overview(client: ApiClient, console: Console) -> None:
    """One line per experiment: verdict and lift of the primary metric (of the best variant where there are several)."""
    table = Table("experiment", "status", "verdict", "primary metric", "lift", "interval", box=None, pad_edge=False)
    for experiment in reversed(client.get("/v1/experiments", limit="200")["items"]):
        if experiment["verdict"] is None:
            table.add_row(experiment["key"], experiment["status"], "not analysed")
            continue
        result = client.get(f"/v1/experiments/{experiment['key']}/result")
        primary = [row for row in result["rows"] if row["segment"] is None and row["role"] == "primary"]
        row = next((row for row in primary if row["variant_key"] == result["verdict_variant"]), primary[-1])
        style = VERDICT_STYLE.get(result["verdict"], "default")
        interval = "" if row["ci_lower"] is None else f"{percent(row['ci_lower'])} … {percent(row['ci_upper'])}"
        table.add_row(
            experiment["key"],
            experiment["status"],
            f"[{style}]{result['verdict']}[/]",
            row["metric_key"],
            percent(row["lift"]),
            interval,
        )
    console.print(table)
