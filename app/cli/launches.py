"""What the terminal shows of launches: what shipped, what every method says of it, and how much to believe it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.client import ApiClient
from app.cli.numbers import percent, percent_interval

_DESIGNS: Final = {
    "experiment": "the experiment behind it",
    "staged": "users with it beside users without, by lot",
    "switchback": "switched on and off by lot",
    "random_order": "segments in an order drawn by lot",
    "staggered": "segments one after the other",
    "concurrent": "segments with it beside segments without",
    "donors": "series that it did not touch",
    "before_after": "before and after, nothing beside it",
    "none": "no measurement",
}


def every_item(client: ApiClient, path: str, **params: str) -> Iterator[dict[str, Any]]:
    """All items of a list, page by page."""
    cursor: dict[str, str] = {}
    while True:
        page = client.get(path, limit="200", **params, **cursor)
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def launches_table(launches: Iterable[Mapping[str, Any]], effects: Iterable[Mapping[str, Any]]) -> Table:
    """One line per launch, the newest first; `effects` are the leading ones, of which the primary series is shown."""
    leading = {(effect["launch_key"], effect["series_key"]): effect for effect in effects}
    table = Table(
        "launch", "name", "first step", "series", "grade", "lift", "interval", box=SIMPLE_HEAD, show_edge=False
    )
    for launch in sorted(launches, key=lambda each: str(each["rollout"][0]["at"]), reverse=True):
        series = launch["measurements"][0]["series_key"] if launch["measurements"] else None
        effect = leading.get((launch["key"], series))
        table.add_row(
            launch["key"],
            launch["name"],
            launch["rollout"][0]["at"][:10],
            series or "–",
            "–" if effect is None else effect["evidence_grade"],
            "–" if effect is None else _lift(effect, effect["evidence_grade"]),
            "–" if effect is None else percent_interval(effect["ci_lower"], effect["ci_upper"]),
        )
    return table


def print_launch(document: Mapping[str, Any], console: Console) -> None:
    """Every measurement: the grade and why, the estimates, and the checks that did not pass."""
    for measured in document["measurements"]:
        grade = measured["grade"]
        console.print(
            f"[bold]{document['launch_key']}[/] on {measured['series_name']}: grade {grade['grade']}", highlight=False
        )
        for line in _grade_lines(measured):
            console.print(f"  {line}", highlight=False, markup=False)
        for check in measured["checks"]:
            if check["status"] != "pass":
                text = f"  {check['status']}: {check['detail']} {check['remedy']}"
                console.print(text, highlight=False, markup=False)
        console.print(estimates_table(measured))


def estimates_table(measured: Mapping[str, Any]) -> Table:
    """One line per method, the one that was chosen first; intervals hold sampling error and bias."""
    table = Table("method", "lift", f"{measured['level'] * 100:g} %", "p", "note", box=SIMPLE_HEAD, show_edge=False)
    for estimate in sorted(measured["estimates"], key=lambda each: not each["leads"]):
        table.add_row(
            estimate["method"].replace("_", " ") + (" (leads)" if estimate["leads"] else ""),
            _lift(estimate, measured["grade"]["grade"]),
            percent_interval(estimate["ci_lower"], estimate["ci_upper"]),
            "–" if estimate["p_value"] is None else f"{estimate['p_value']:.2g}",
            _words(estimate["reason"] or ""),
        )
    return table


def _grade_lines(measured: Mapping[str, Any]) -> Iterator[str]:
    grade = measured["grade"]
    if grade["grade"] == "U":
        believed = any(estimate["method"] == "prior" for estimate in measured["estimates"])
        also = ": the interval is what is believed of launches like this one" if believed else ""
        yield f"Nothing was measured{also}."
    else:
        every = measured["grain"]
        yield f"{measured['periods_before']} {every}s before the launch and {measured['periods_after']} since."
        yield from (f"Design: {_DESIGNS[each['design']]}." for each in measured["designs"] if each["chosen"])
    if grade["reasons"]:
        yield f"Lowered because: {', '.join(map(_words, grade['reasons']))}."
    if grade["raised_by"]:
        yield f"What would raise it: {', '.join(map(_words, grade['raised_by']))}."


def _lift(effect: Mapping[str, Any], grade: str) -> str:
    """An effect; of what was not measured only the interval is shown, which is what is believed."""
    return "not measured" if grade == "U" else percent(effect["lift"])


def _words(code: str) -> str:
    return code.replace("_", " ")
