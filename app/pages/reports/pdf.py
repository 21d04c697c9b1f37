"""A report as PDF, typeset by Typst with the fonts that it brings: the same bytes on every machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import typst

from app.pages.reports.blocks import Block, Picture, Report
from app.pages.reports.pictures import svg

_TEMPLATE: Final = (Path(__file__).parent / "report.typ").read_bytes()
_FONTS: Final = typst.Fonts(include_system_fonts=False)


def pdf(report: Report) -> bytes:
    """The file. Texts reach the template as data, so that nothing in them is markup."""
    document = {
        "title": report.title,
        "subtitle": report.subtitle,
        "made_of": report.made_of,
        "blocks": [_plain(block) for block in report.blocks],
    }
    made = typst.compile(
        _TEMPLATE,
        font_paths=_FONTS,
        ignore_system_fonts=True,
        format="pdf",
        sys_inputs={"report": json.dumps(document)},
        timestamp=int(report.at.timestamp()),
    )
    if not isinstance(made, bytes):
        raise TypeError("a PDF is one file")
    return made


def _plain(block: Block) -> dict[str, Any]:
    kind = type(block).__name__.lower()
    if isinstance(block, Picture):
        return {"kind": kind, "svg": svg(block.chart), "caption": block.caption, "alt": block.chart["description"]}
    return {"kind": kind, **asdict(block)}
