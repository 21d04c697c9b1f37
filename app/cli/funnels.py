"""Steps of funnels in the terminal: who gets to each, and who of the step before."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from app.cli.numbers import percent, percent_interval


def funnel_table(result: dict[str, Any]) -> Table | None:
    """Two lines per step and treatment: the share of all (or of the first step), and that of the step before."""
    rows = [row for row in result["rows"] if row["segment"] is None and row.get("funnel")]
    if not rows:
        return None
    arms = ("control", "interval", "treatment", "interval", "lift", "interval")
    table = Table("funnel", "variant", "step", "share of", *arms, box=SIMPLE_HEAD, show_edge=False)
    for row in rows:
        for step in row["funnel"]:
            shares = {"all units" if step["of"] == "units" else "the first step": step["reached"]}
            if step["passed"] is not None:
                shares["the step before"] = step["passed"]
            for of, share in shares.items():
                cells = [row["metric_key"], row["variant_key"], f"{step['step']} {step['name']}", of]
                for arm in ("control", "treatment"):
                    cells.append(percent(share[arm], sign=False))
                    cells.append(percent_interval(share[f"{arm}_lower"], share[f"{arm}_upper"], sign=False))
                table.add_row(
                    *map(escape, cells),
                    percent(share["lift"]) if share["lift"] is not None else share["reason"] or "–",
                    percent_interval(share["ci_lower"], share["ci_upper"]),
                )
    return table
