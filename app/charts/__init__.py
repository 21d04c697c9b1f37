"""Vega-Lite specifications as pure functions of result documents: one definition for page, API and report."""
