"""What the terminal shows of growth reviews: the headline, and the lines of the ledger with their intervals."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.numbers import percent

_HEADLINE: Final = (
    ("kappa", "Share of claims that was realised"),
    ("programme_lift", "All ships together, corrected"),
    ("claimed_lift", "All ships together, claimed"),
    ("chance_to_hit", "Chance to hit the target, no further launches"),
    ("chance_with_programme", "Chance to hit the target, with the usual launches"),
    ("slope", "Growth of the base per week"),
)


def reviews_table(reviews: Iterable[Mapping[str, Any]], lines: Iterable[Mapping[str, Any]]) -> Table:
    """One line per review, the newest period first; `lines` are those of the newest ledgers."""
    launches = {line["review_key"]: line for line in lines if line["component"] == "launches" and line["key"] is None}
    table = Table("review", "name", "North Star", "period", "launches", "80 %", box=SIMPLE_HEAD, show_edge=False)
    for review in sorted(reviews, key=lambda each: str(each["ends_on"]), reverse=True):
        line = launches.get(review["key"])
        table.add_row(
            review["key"],
            review["name"],
            review["north_star_key"],
            f"{review['begins_on']} to {review['ends_on']}",
            "–" if line is None else _units(line["units"]),
            "–" if line is None else _interval(line),
        )
    return table


def print_review(document: Mapping[str, Any], console: Console) -> None:
    """The story, the lines of the ledger, the headline, and the checks that did not pass."""
    ledger = document["ledger"]
    console.print(
        f"[bold]{document['review_key']}[/]: {document['name']}, {document['begins_on']} to {document['ends_on']}",
        highlight=False,
    )
    for sentence in ledger["story"]:
        console.print(f"  {sentence}", highlight=False, markup=False)
    if ledger["lines"]:
        console.print(ledger_table(ledger))
    for name, label in _HEADLINE:
        if document["headline"].get(name) is not None:
            console.print(f"  {label}: {percent(document['headline'][name])}", highlight=False, markup=False)
    console.print(f"  {document['holdout_advice']}", highlight=False, markup=False)
    for check in document["checks"]:
        if check["status"] != "pass":
            text = f"  {check['status']}: {check['detail']} {check['remedy']}"
            console.print(text, highlight=False, markup=False)


def ledger_table(ledger: Mapping[str, Any]) -> Table:
    """Whole components, each followed by its parts; they add up to what was observed."""
    unit = ledger["unit"] or "units"
    table = Table("part", unit, "80 %", "claimed", box=SIMPLE_HEAD, show_edge=False)
    for line in ledger["lines"]:
        exact = line["component"] == "observed"
        table.add_row(
            line["name"] if line["key"] is None else f"  {line['name']}",
            _units(line["units"]),
            "" if exact else _interval(line),
            "" if line["claimed_units"] is None else _units(line["claimed_units"]),
        )
    return table


def _interval(line: Mapping[str, Any]) -> str:
    return f"{_units(line['lower_80'])} to {_units(line['upper_80'])}"


def _units(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"
