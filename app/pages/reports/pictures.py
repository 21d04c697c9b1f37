"""Charts as SVG, drawn on the server in the light theme: no browser, no scripts."""

from typing import Final

import vl_convert

from app.charts.theme import Spec

WIDTH: Final = 680


def svg(chart: Spec) -> str:
    """The picture as SVG text. Fonts are named, not embedded."""
    drawn: str = vl_convert.vegalite_to_svg({**chart, "width": WIDTH, "background": "#ffffff"})
    return drawn
