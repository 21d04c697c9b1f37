"""A report as one HTML file: its own styles, its own pictures, no scripts, nothing to load."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.charts.theme import Spec
from app.pages.reports.blocks import Report
from app.pages.reports.pictures import svg

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
)
_environment: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(report: Report) -> str:
    """The file. Texts are escaped; pictures are ours."""
    return _environment.get_template("report.html").render(report=report, picture=_picture, kind=_kind)


def _picture(chart: Spec) -> Markup:
    drawn = svg(chart)
    return Markup(drawn[drawn.index("<svg") :])


def _kind(block: object) -> str:
    return type(block).__name__.lower()
