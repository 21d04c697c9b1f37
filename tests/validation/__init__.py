"""Simulation studies behind docs/validation/frequentist.md: one module per table, each a pure function of a seed."""
