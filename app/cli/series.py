"""`northlift series`: values from a file, and series as tables."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.client import ApiClient

_NOTHING: Final = "–"
_MOST_SEGMENTS: Final = 8
_MOST_VALUES: Final = "10000"


def push(client: ApiClient, key: str, body: bytes, *, batch_id: str | None = None) -> dict[str, Any]:
    """Send a JSON array or CSV of values; the report. Without an id the batch is a new one, whatever is in it."""
    kind = "application/json" if body.lstrip()[:1] in (b"[", b"{") else "text/csv"
    report: dict[str, Any] = client.request(
        "POST",
        f"/v1/series/{key}/values",
        content=body,
        params={"batch_id": batch_id or str(uuid.uuid4())},
        headers={"Content-Type": kind},
    ).json()
    return report


def said_of(key: str, report: Mapping[str, Any]) -> str:
    """A report in a sentence or two."""
    if report["replayed"]:
        return f"{key}: the batch {report['batch_id']} was in already; nothing has changed."
    new = report["accepted"] - report["unchanged"] - report["restated"]
    text = f"{key}: {report['accepted']} values: {new} new, {report['restated']} restated"
    text += f", {report['unchanged']} known already."
    if report["early"]:
        text += f" {report['early']} are of a period that goes on: send them again when it has ended."
    return text


def series_table(series: Iterable[Mapping[str, Any]]) -> Table:
    """One line per series."""
    table = Table("key", "name", "grain", "by", "values", "role", "version", box=SIMPLE_HEAD, show_edge=False)
    for each in series:
        table.add_row(
            each["key"],
            each["name"],
            each["grain"],
            each["dimension"] or _NOTHING,
            _where_from(each),
            each["role"],
            str(each["version"]),
        )
    return table


def print_series(client: ApiClient, key: str, console: Console, *, periods: int) -> None:
    """The definition of a series, its newest periods, and its newest restatements."""
    series = client.get(f"/v1/series/{key}")
    by = f" by {series['dimension']}" if series["dimension"] else ""
    console.print(
        f"[bold]{key}[/]: {series['name']}, one value per {series['grain']}{by}, {_where_from(series)}"
        f" (version {series['version']})",
        highlight=False,
    )
    if series["source"] != "pushed":
        return
    values = client.get(f"/v1/series/{key}/values", limit=_MOST_VALUES)["items"]
    console.print(values_table(values, periods) if values else "No values yet.")
    restated = client.get(f"/v1/series/{key}/restatements", limit="10")["items"]
    if restated:
        console.print(restatements_table(restated))


def values_table(values: Sequence[Mapping[str, Any]], periods: int) -> Table:
    """The newest periods, a column per segment; a value in brackets was sent before its period had ended."""
    starts = list(dict.fromkeys(value["at"] for value in values))[:periods]
    segments = sorted({value["segment"] for value in values if value["at"] in starts})
    told = {(value["at"], value["segment"]): _said(value) for value in values}
    shown = segments[:_MOST_SEGMENTS]
    more = [f"and {len(segments) - len(shown)} more"] if len(segments) > len(shown) else []
    table = Table("period", *(segment or "value" for segment in shown), *more, box=SIMPLE_HEAD, show_edge=False)
    for at in reversed(starts):
        table.add_row(_day(at), *(told.get((at, segment), _NOTHING) for segment in shown))
    return table


def restatements_table(restated: Sequence[Mapping[str, Any]]) -> Table:
    """What took the place of what, the newest first."""
    table = Table("restated", "period", "segment", "before", "now", box=SIMPLE_HEAD, show_edge=False)
    for each in restated:
        at, now, before = each["at"], each["now"], each["before"]
        table.add_row(now["known_at"][:16] + "Z", _day(at), each["segment"] or _NOTHING, _said(before), _said(now))
    return table


def ask_design(
    client: ApiClient, key: str, days: Sequence[int], sets: Sequence[str], exclude: str, history: int
) -> dict[str, Any]:
    """What launches in sets of segments could show; each set is text with commas."""
    question = {
        "days": list(days),
        "candidates": [_names(text) for text in sets],
        "excluded_segments": _names(exclude),
        "history": history,
    }
    design: dict[str, Any] = client.post(f"/v1/series/{key}/rollout-design", question)
    return design


def print_design(design: Mapping[str, Any], console: Console) -> None:
    """The smallest effect that each set would show, by days."""
    every, length = design["grain"], design["periods"]
    text = f"[bold]{design['series_key']}[/]: judged by {length} {every}s up to {_day(design['last_period'])}"
    text += f" of {design['compared_segments']} segments"
    if design["searched"] is not None:
        text += f"; {design['searched']} sets searched"
    console.print(f"{text}.", highlight=False, soft_wrap=True)
    if design["launches_in_history"]:
        launches = ", ".join(design["launches_in_history"])
        console.print(
            f"In this history something was launched ({launches}): effects look harder to detect than they are."
        )
    table = Table(
        "launch in", "share", "days", "would show", "adds", "misfit", "note", box=SIMPLE_HEAD, show_edge=False
    )
    for option in design["options"]:
        table.add_row(
            ", ".join(option["segments"]),
            f"{option['share']:.0%}",
            str(option["days"]),
            _detectable(option),
            _NOTHING if option["adds"] is None else f"{option['adds']:,.4g}",
            _NOTHING if option["misfit"] is None else f"{option['misfit']:.2f}",
            (option["reason"] or "").replace("_", " "),
        )
    console.print(table)


def _detectable(option: Mapping[str, Any]) -> str:
    rise, drop = option["detectable_rise"], option["detectable_drop"]
    return _NOTHING if rise is None else f"+{rise:.1%} or -{drop:.1%}"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _where_from(series: Mapping[str, Any]) -> str:
    return "pushed" if series["source"] == "pushed" else f"from the facts of {series['metric_key']}"


def _said(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return _NOTHING
    return f"{value['value']:,.6g}" if value["complete"] else f"({value['value']:,.6g})"


def _day(at: str) -> str:
    """A period by its start: days and weeks begin at midnight."""
    return at[:10] if at[11:16] == "00:00" else at[:16] + "Z"
