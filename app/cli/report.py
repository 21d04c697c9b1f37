"""What the terminal shows of an analysis: a progress bar while it runs, a table when it is done."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.beliefs import beliefs_table, engine_lines, model_lines, prior_lines, waiting_lines
from app.cli.client import ApiClient
from app.cli.funnels import funnel_table
from app.cli.numbers import percent, percent_interval

VERDICT_STYLE = {"better": "green", "worse": "red", "unreliable": "yellow"}


def follow(client: ApiClient, analysis_id: str, console: Console) -> None:
    """Show stage and fraction until the analysis ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("queued", total=1.0)
        client.wait(
            analysis_id, progress=lambda stage, fraction: bar.update(task, description=stage, completed=fraction)
        )


def result_table(result: dict[str, Any]) -> Table:
    """One line per metric and variant: lift, interval, p-value, or why there is no number."""
    rows = [row for row in result["rows"] if row["segment"] is None]
    table = Table("metric", "role", "variant", "lift", "interval", "p", box=SIMPLE_HEAD, show_edge=False)
    noted = any(row["reason"] for row in rows)
    if noted:
        table.add_column("note")
    for row in rows:
        table.add_row(
            row["metric_key"],
            row["role"],
            row["variant_key"],
            percent(row["lift"]),
            percent_interval(row["ci_lower"], row["ci_upper"]),
            "–" if row["p_value"] is None else f"{row['p_value']:.2g}",
            *([row["reason"] or ""] if noted else []),
        )
    return table


def decision_lines(result: dict[str, Any]) -> list[str]:
    """What to do, and which interval decides where it is not the one that the table shows."""
    lines = []
    if result.get("recommendation"):
        lines.append(f"Recommended: {result['recommendation']['action'].replace('_', ' ')}.")
    if result["decision_interval"] != "fixed":
        lines.append(f"The {result['decision_interval'].replace('_', '-')} interval decides, not the one below.")
    return lines


def print_result(client: ApiClient, experiment_key: str, console: Console) -> None:
    """Verdict, reasons, the recommendation, both engines, checks that did not pass, and the tables."""
    show(client.get(f"/v1/experiments/{experiment_key}/result"), console)


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    verdict = result["verdict"]
    console.print(f"Verdict: [{VERDICT_STYLE.get(verdict, 'bold')}]{verdict}[/]")
    for line in (*result["verdict_reasons"], *decision_lines(result), *engine_lines(result), *waiting_lines(result)):
        console.print(f"  {line}", highlight=False, markup=False)
    for check in result["checks"]:
        if check["status"] != "pass":
            console.print(f"  {check['status']}: {check['detail']} {check['remedy']}", highlight=False, markup=False)
    console.print(result_table(result))
    steps = funnel_table(result)
    if steps is not None:
        console.print(steps)
    believed = beliefs_table(result)
    if believed is not None:
        console.print(believed)
    if result.get("monitoring"):
        console.print(f"  {result['monitoring']}", highlight=False, markup=False)
    for line in (*prior_lines(result), *model_lines(result)):
        console.print(f"  {line}", highlight=False, markup=False)
