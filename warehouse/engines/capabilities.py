"""What each road to moments can do, and why not."""

QUANTILE_NOT_COMPILED = "not_compiled"
"""A quantile whose values a warehouse does not give away (see the table)."""
