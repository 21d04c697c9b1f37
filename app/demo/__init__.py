"""The demo: a synthetic company, loaded into a running service as its product teams would have (METHODS I2)."""

from app.demo.loading import load_company, loaded
from app.demo.overview import print_overview

__all__ = ["load_company", "loaded", "print_overview"]
