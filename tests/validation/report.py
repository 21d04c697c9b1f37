"""A report from cells: what passed, what is warned of, and every number with its tolerance."""

from __future__ import annotations

import csv
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.validation.cells import Cell
from tests.validation.studies import Report

MARKS = {"pass": "pass", "warn": "warned", "FAIL": "**FAIL**", "shown": "for comparison"}
SIGNS = {"equal": "", "at_most": "≤ ", "at_least": "≥ ", "report": ""}
LONG = 40
FIELDS = (
    "study",
    "table",
    "case",
    "quantity",
    "observed",
    "rule",
    "nominal",
    "tolerance",
    "replications",
    "warned",
    "skewness",
    "status",
    "slack",
    "within",
    "extra",
)


def write_cells(path: Path, cells: dict[str, list[Cell]]) -> None:
    """Every cell as a row of a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for study, found in cells.items():
            for c in found:
                numbers = ["" if x is None else f"{x:.6g}" for x in (c.warned, c.skewness)]
                extra = {k: round(v, 6) for k, v in c.extra.items()}
                writer.writerow(
                    [
                        study,
                        c.table,
                        json.dumps(c.case, ensure_ascii=False),
                        c.quantity,
                        f"{c.observed:.6g}",
                        c.rule,
                        f"{c.nominal:.6g}",
                        f"{c.tolerance:.6g}",
                        c.replications,
                        *numbers,
                        c.status,
                        f"{c.slack:g}",
                        "" if c.within is None else f"{c.within:.6g}",
                        json.dumps(extra),
                    ]
                )


def read_cells(path: Path) -> dict[str, list[Cell]]:
    """Cells of an earlier run, by study."""
    cells: dict[str, list[Cell]] = {}
    if not path.exists():
        return cells
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            cells.setdefault(row["study"], []).append(
                Cell(
                    row["table"],
                    json.loads(row["case"]),
                    row["quantity"],
                    float(row["observed"]),
                    float(row["nominal"]),
                    int(row["replications"]),
                    row["rule"],  # type: ignore[arg-type]
                    float(row["slack"]),
                    _number(row["warned"]),
                    _number(row["skewness"]),
                    _number(row["within"]),
                    json.loads(row["extra"]),
                )
            )
    return cells


def _number(text: str) -> float | None:
    return float(text) if text else None


def markdown(report: Report, cells: dict[str, list[Cell]], charts: dict[str, str]) -> str:
    """The report; `charts` are file names by study."""
    every = [cell for study in report.studies for cell in cells.get(study.name, [])]
    counts = Counter(cell.status for cell in every)
    lines = [
        f"# {report.title}",
        "",
        f"Made by `make validation` ({report.duration} of one core); every number is in `{report.name}.csv`. A shorter",
        "version with the same cells runs in the default test suite (`tests/validation`).",
        "",
        *textwrap.wrap(report.notes, 118),
        "",
        f"**{counts['pass']} cells pass, {counts['warn']} are warned of, {counts['FAIL']} fail**; "
        f"{counts['shown']} are shown for comparison.",
        "",
        f"![All cells, in units of their tolerance]({report.name}_overview.png)",
        "",
        "| study | seed | cells | pass | warned | fail | for comparison | replications |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for study in report.studies:
        found = cells.get(study.name, [])
        by = Counter(cell.status for cell in found)
        reps = sorted({cell.replications for cell in found})
        span = f"{reps[0]:,}–{reps[-1]:,}" if reps else ""
        lines.append(
            f"| {study.title} | {study.seed} | {len(found)} | {by['pass']} | {by['warn']} | {by['FAIL']} | "
            f"{by['shown']} | {span} |"
        )
    failing = [cell for cell in every if cell.status == "FAIL"]
    if failing:
        lines += ["", "## Cells outside their tolerance without a warning", ""]
        lines += [f"- {c.name}: {_shown(c.observed)}, {_target(c)}" for c in failing]
    for study in report.studies:
        found = cells.get(study.name, [])
        lines += ["", f"## {study.title}", "", study.about, ""]
        if study.name in charts:
            lines += [f"![{study.title}]({charts[study.name]})", ""]
        for table in dict.fromkeys(cell.table for cell in found):
            lines += _table([cell for cell in found if cell.table == table], table)
    return "\n".join(lines).rstrip() + "\n"


def _table(cells: Sequence[Cell], name: str) -> Iterator[str]:
    folded = len(cells) > LONG
    by = Counter(cell.status for cell in cells)
    summary = f"{name}: {len(cells)} cells, {by['pass']} pass, {by['warn']} warned, {by['FAIL']} fail"
    if folded:
        yield f"<details><summary>{summary}</summary>"
    else:
        yield f"### {summary}"
    yield ""
    keys = list(dict.fromkeys(key for cell in cells for key in cell.case))
    yield "| " + " | ".join([*keys, "", "observed", "target", "R", "warned", ""]) + " |"
    yield "|" + "---|" * (len(keys) + 1) + "--:|--:|--:|--:|---|"
    for cell in cells:
        case = [cell.case.get(key, "") for key in keys]
        warned = "" if cell.warned is None else f"{cell.warned:.0%}"
        row = [*case, cell.quantity, _shown(cell.observed), _target(cell), f"{cell.replications:,}", warned]
        yield "| " + " | ".join([*row, MARKS[cell.status]]) + " |"
    yield ""
    if folded:
        yield "</details>"
        yield ""


def _shown(number: float) -> str:
    return f"{number:.4f}" if abs(number) < 1 else f"{number:.3g}"


def _target(cell: Cell) -> str:
    if cell.rule == "report":
        return ""
    sign = "±" if cell.rule == "equal" else ("+" if cell.rule == "at_most" else "−")
    return f"{SIGNS[cell.rule]}{cell.nominal:.4g} {sign} {cell.tolerance:.4f}"
