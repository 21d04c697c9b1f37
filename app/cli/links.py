"""`northlift links`: learned links as tables."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.numbers import chance, percent


def print_links(document: Mapping[str, Any], console: Console) -> None:
    """Every input's link, the proxy that they make, checks that did not pass, and what is missing."""
    console.print(
        f"[bold]{document['north_star_key']}[/] version {document['north_star_version']}:"
        f" links learned from {document['experiments']} experiments",
        highlight=False,
    )
    console.print(links_table(document))
    if document["proxy"]:
        weights = " + ".join(f"{each['weight']:.2f} × {each['metric_key']}" for each in document["proxy"])
        console.print(f"  proxy: {weights} (correlation {document['proxy_correlation']:.2f})", highlight=False)
    else:
        console.print("  no input may stand for the North Star", highlight=False)
    for check in document["checks"]:
        if check["status"] != "pass":
            console.print(f"  {check['status']}: {check['detail']}. {check['remedy']}", highlight=False, markup=False)
    for each in document["missing"]:
        console.print(f"  missing: {each['experiment_key']}, {each['reason']}", highlight=False, markup=False)


def links_table(document: Mapping[str, Any]) -> Table:
    """One line for every input: what a rise of 1 % has been worth, beside what the raw scatter would say."""
    table = Table(
        "input",
        "worth of +1 %",
        "80 %",
        "raw scatter",
        "others held still",
        "correlation",
        "beyond 0.3",
        "may stand for it",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for link in document["links"]:
        table.add_row(
            link["metric_key"],
            _slope(link["slope"]),
            f"{_slope(link['slope_lower_80'])} … {_slope(link['slope_upper_80'])}",
            _slope(link["naive_slope"]),
            _slope(link["joint_slope"]),
            "–" if link["correlation"] is None else f"{link['correlation']:.2f}",
            chance(link["chance_correlation"]),
            "yes" if link["usable"] else f"no: {link['reason']}".replace("_", " "),
        )
    return table


def _slope(slope: float | None) -> str:
    return percent(None if slope is None else slope / 100)
