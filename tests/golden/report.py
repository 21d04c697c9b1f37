"""Writes docs/validation/references.md: what was compared with what, to which tolerance, and where we differ and why.

python -m tests.golden.report
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tests.golden import test_gbstats, test_libraries
from tests.golden.comparing import Behaves, Cases, Differs, Same
from tests.shared_data import golden

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "validation" / "references.md"
SOURCES: dict[str, tuple[str, Cases]] = {
    "gbstats 0.8.0 and GrowthBook's calculators": ("gbstats", test_gbstats.CASES),
    "tea-tasting, statsmodels, scipy, spotify-confidence, confseq, ville, gsdesign, rpact and R": (
        "libraries",
        test_libraries.CASES,
    ),
}
HAND_WRITTEN = "## Real experiments\n"
"""From here on the document is kept as it is: its tests are in tests/references and the two test_torture.py."""


def shown(numbers: ArrayLike) -> str:
    values = np.atleast_1d(np.asarray(numbers, dtype=float))
    return ", ".join(f"{value:.4g}" for value in values[:4]) + (", …" if len(values) > 4 else "")


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def agreements(cases: Cases) -> Iterator[str]:
    yield "| case | the same | relative tolerance |\n|---|---|---|\n"
    for name in cases.checks:
        same = [comparison for comparison in cases.run(name) if isinstance(comparison, Same)]
        for rtol in sorted({comparison.rtol for comparison in same}):
            quantities = "; ".join(comparison.quantity for comparison in same if comparison.rtol == rtol)
            yield f"| `{name}` | {cell(quantities)} | {rtol:.0e} |\n"


def differences(cases: Cases) -> Iterator[str]:
    yield "| case | quantity | theirs | ours | apart | why |\n|---|---|---|---|--:|---|\n"
    for name in cases.checks:
        for found in cases.run(name):
            if isinstance(found, Differs):
                numbers = f"{shown(found.theirs)} | {shown(found.ours)} | {100 * found.apart:.3g} %"
                yield f"| `{name}` | {cell(found.quantity)} | {numbers} | {cell(found.why)} |\n"
            elif isinstance(found, Behaves):
                answer = f"`{found.ours}`"
                yield f"| `{name}` | {cell(found.quantity)} | {cell(found.theirs)} | {answer} | | {cell(found.why)} |\n"


def document() -> str:
    parts = [
        "# Northlift's numbers against those of others\n\n",
        "Every comparison below is a test of the default suite (`tests/golden`, `tests/references`, `tests/stats/"
        "test_torture.py`, `tests/system/test_torture.py`). The tables of libraries are made by\n\n",
        "```sh\npython -m tests.golden.report\n```\n\n",
        "Where definitions are the same, so are the numbers. Where ours differ by choice, ours are checked against our "
        "definition worked out another way, and the distance to theirs is asserted as well: relative to theirs, for "
        "the two ends of an interval relative to its width. Letters and numbers are those of "
        "[methods](../methods.md).\n\n",
    ]
    for title, (source, cases) in SOURCES.items():
        compared, elsewhere = len(cases.checks), len(cases.elsewhere)
        parts += [f"## {title}\n\n", f"{compared} of {compared + elsewhere} cases are compared.\n\n### The same\n\n"]
        parts += agreements(cases)
        parts += ["\n### Different, and by how much\n\n", *differences(cases)]
        parts += ["\n### Not about one experiment, or not offered\n\n| case | why |\n|---|---|\n"]
        parts += [f"| `{name}` | {cell(why)} |\n" for name, why in cases.elsewhere.items() if golden(source, name)]
        parts.append("\n")
    kept = DOCUMENT.read_text().partition(HAND_WRITTEN)
    return "".join([*parts, kept[1], kept[2]])


if __name__ == "__main__":
    DOCUMENT.write_text(document())
