"""What the terminal shows of programmes and holdouts."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.numbers import chance, percent, percent_interval


def print_programme(document: Mapping[str, Any], console: Console) -> None:
    """Totals by every method, experiments claimed and believed, holdouts, and what did not pass."""
    complete = document["completeness"]
    console.print(
        f"[bold]{document['metric_name']}[/]: {document['shipped']} of {document['experiments']} experiments shipped,"
        f" {complete['analysed']} of {complete['started']} are in the numbers",
        highlight=False,
    )
    if document["reason"]:
        console.print(f"  no total: {document['reason'].replace('_', ' ')}", highlight=False)
    else:
        console.print(totals_table(document))
        console.print(f"  {_made_of(document)}", highlight=False)
    if document["effects"]:
        console.print(effects_table(document))
    for holdout in document["holdouts"]:
        print_holdout(holdout, console)
    for check in (complete["check"], *document["checks"]):
        _print_check(check, console)
    for each in complete["missing"]:
        reason = each["reason"].replace("_", " ")
        console.print(f"  missing: {each['experiment_key']}, {reason}", highlight=False, markup=False)


def totals_table(document: Mapping[str, Any]) -> Table:
    """One line per method; the first is the answer."""
    table = Table("total of what shipped", "lift", "80 %", "95 %", "note", box=SIMPLE_HEAD, show_edge=False)
    for total in document["totals"]:
        table.add_row(
            total["method"].replace("_", " ") + (" (leads)" if total["leads"] else ""),
            percent(total["lift"]),
            percent_interval(total["lower_80"], total["upper_80"]),
            percent_interval(total["lower_95"], total["upper_95"]),
            total["note"],
        )
    return table


def effects_table(document: Mapping[str, Any]) -> Table:
    """Experiments on the log scale, the best believed first."""
    table = Table(
        "experiment", "shipped", "grade", "claimed", "believed", "80 %", "good", "share of total",
        box=SIMPLE_HEAD, show_edge=False,
    )  # fmt: skip
    sign = 1 if document["direction"] == "increase" else -1
    for effect in sorted(document["effects"], key=lambda each: -sign * each["shrunk"]):
        share = effect["share_of_total"]
        table.add_row(
            effect["experiment_key"],
            "yes" if effect["shipped"] else "no",
            effect["evidence_grade"],
            f"{percent(effect['claimed'])} ± {percent(effect['claimed_standard_error'], sign=False)}",
            percent(effect["shrunk"]),
            percent_interval(effect["shrunk_lower_80"], effect["shrunk_upper_80"]),
            chance(effect["chance_positive"]),
            "–" if share is None else f"{share:.0%}",
        )
    return table


def print_holdout(holdout: Mapping[str, Any], console: Console) -> None:
    """Realised, claimed and the rate between them."""
    console.print(f"[bold]{holdout['name']}[/] ({holdout['share']:.1%} held back)", highlight=False)
    if holdout["realised"] is not None:
        ends = percent_interval(holdout["realised_lower_95"], holdout["realised_upper_95"])
        console.print(f"  realised {percent(holdout['realised'])} ({ends})", highlight=False)
    if holdout["claimed"] is not None:
        spread = percent(holdout["claimed_sd"], sign=False)
        console.print(f"  claimed {percent(holdout['claimed'])} ± {spread}", highlight=False)
    console.print(f"  {_rate(holdout)}", highlight=False)
    for check in holdout["checks"]:
        _print_check(check, console)


def holdouts_table(holdouts: Iterable[Mapping[str, Any]]) -> Table:
    """One line per holdout."""
    table = Table("holdout", "name", "metric", "experiment", "since", "released", box=SIMPLE_HEAD, show_edge=False)
    for each in holdouts:
        released = each["released_at"]
        table.add_row(
            each["key"],
            each["name"],
            each["metric_key"],
            each["experiment_key"],
            each["started_at"][:10],
            released[:10] if released else "–",
        )
    return table


def _made_of(document: Mapping[str, Any]) -> str:
    parts = [f"{document['harmful_ships']:.1f} of those shipped are expected to harm"]
    if document["wins_for_80"] is not None:
        parts.insert(0, f"{document['wins_for_80']} make 80 % of the total")
    if document["exaggeration"] is not None:
        parts.append(f"claims are {document['exaggeration']:.2f} times what is believed")
    return "; ".join(parts)


def _rate(holdout: Mapping[str, Any]) -> str:
    if holdout["kappa"] is None:
        return f"no rate: {(holdout['reason'] or 'nothing claimed').replace('_', ' ')}"
    if holdout["kappa_unbounded"]:
        return f"{holdout['kappa']:.2f} of the claim realised; any rate fits, the claim may be nothing"
    return f"{holdout['kappa']:.2f} of the claim realised ({holdout['kappa_lower']:.2f} … {holdout['kappa_upper']:.2f})"


def _print_check(check: Mapping[str, Any], console: Console) -> None:
    if check["status"] != "pass":
        console.print(f"  {check['status']}: {check['detail']} {check['remedy']}", highlight=False, markup=False)
