"""After a form has submitted an analysis and its transaction is committed: tell the workers."""

from fastapi import Request

from app.api.background import Background
from app.api.deps import get_bell
from experiments.tables import Analysis


def ring(request: Request, row: Analysis) -> None:
    """Ring without making the browser wait; a bell that nobody hears costs a second, not the analysis."""
    background: Background = request.app.state.background
    background.start(get_bell(request).ring(row.id, row.attempt))
