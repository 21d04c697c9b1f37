"""`python -m tests.validation [study ...]`: run all studies, or some of them, and write docs/validation.

Studies that are not run keep the numbers of the last time.
"""

from __future__ import annotations

import sys
import time

from tests.servers import REPOSITORY
from tests.validation.charts import draw
from tests.validation.report import markdown, read_cells, write_cells
from tests.validation.studies import REPORTS, Report

FOLDER = REPOSITORY / "docs" / "validation"


def main(wanted: list[str]) -> int:
    names = [study.name for report in REPORTS for study in report.studies]
    if unknown := set(wanted) - set(names):
        sys.stderr.write(f"unknown studies {sorted(unknown)}; there are {', '.join(names)}\n")
        return 2
    return max(_run(report, wanted) for report in REPORTS)


def _run(report: Report, wanted: list[str]) -> int:
    path = FOLDER / f"{report.name}.csv"
    names = [study.name for study in report.studies]
    if wanted and not set(wanted) & set(names):
        return 0
    cells = read_cells(path)
    for study in report.studies:
        if wanted and study.name not in wanted:
            continue
        began = time.process_time()
        cells[study.name] = study.run()
        bad = [cell for cell in cells[study.name] if cell.status == "FAIL"]
        sys.stdout.write(
            f"{study.name}: {len(cells[study.name])} cells, {len(bad)} fail, {time.process_time() - began:.0f} s\n"
        )
        sys.stdout.write(
            "".join(f"  {cell.name}: {cell.observed:.4f} (tolerance {cell.tolerance:.4f})\n" for cell in bad)
        )
        sys.stdout.flush()
        cells = {name: cells[name] for name in names if name in cells}
        write_cells(path, cells)
    (FOLDER / f"{report.name}.md").write_text(markdown(report, cells, draw(FOLDER, report.name, cells)))
    return int(any(cell.status == "FAIL" for found in cells.values() for cell in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
