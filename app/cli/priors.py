"""`northlift priors`: what a metric's past experiments taught, as tables."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.numbers import percent


def print_prior(document: Mapping[str, Any], console: Console) -> None:
    """The prior of the next experiment, of each team where they differ, and every past effect before and after it."""
    whole = document["strata"][0]
    console.print(
        f"[bold]{document['metric_key']}[/]: prior version {document['version']},"
        f" learned from {whole['experiments']} experiments",
        highlight=False,
    )
    if document["chance_strata_differ"] is not None:
        differ = "teams differ" if document["stratified"] else "one prior serves all teams"
        console.print(f"  {differ} (chance {document['chance_strata_differ']:.0%} that they do)", highlight=False)
    console.print(strata_table(document))
    console.print(effects_table(document))


def strata_table(document: Mapping[str, Any]) -> Table:
    """One line for all experiments together and one for every team with a prior of its own."""
    table = Table(
        "experiments of",
        "number",
        "mean effect",
        "spread (tau)",
        "next effect",
        "note",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for stratum in document["strata"]:
        table.add_row(
            stratum["stratum"] or "everybody",
            str(stratum["experiments"]),
            _belief(stratum["mean"], sign=True),
            _belief(stratum["tau"], sign=False),
            f"{percent(stratum['prior_mean'])} ± {percent(stratum['prior_scale'], sign=False)}",
            stratum["reason"] or "",
        )
    return table


def effects_table(document: Mapping[str, Any]) -> Table:
    """Past effects on the log scale, largest first, as measured and as believed."""
    table = Table("experiment", "variant", "team", "measured", "believed", box=SIMPLE_HEAD, show_edge=False)
    for effect in sorted(document["effects"], key=lambda each: -each["log_lift"]):
        table.add_row(
            effect["experiment_key"],
            effect["variant_key"],
            effect["stratum"] or "–",
            f"{percent(effect['log_lift'])} ± {percent(effect['standard_error'], sign=False)}",
            f"{percent(effect['shrunk_log_lift'])} ± {percent(effect['shrunk_sd'], sign=False)}",
        )
    return table


def _belief(parameter: Mapping[str, Any] | None, *, sign: bool) -> str:
    if parameter is None:
        return "–"
    ends = f"{percent(parameter['lower'], sign=sign)} … {percent(parameter['upper'], sign=sign)}"
    return f"{percent(parameter['mean'], sign=sign)} ({ends})"
