"""Models fitted by sampling, each from sufficient statistics, so cost is independent of users (METHODS C)."""
