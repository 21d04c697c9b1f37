"""All experiments together: what they did in sum, and what moves in inputs have been worth (METHODS E9, F1-F4)."""
