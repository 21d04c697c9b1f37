"""Launches without randomisation: what shipped, what would have happened without it, how much to believe it (D)."""
