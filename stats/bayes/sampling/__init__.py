"""From a model to draws: compiled once, re-used with new data, cancellable (METHODS C4, I3)."""
