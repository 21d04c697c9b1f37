"""What a pass over an experiment keeps for the next one, so that a day's refresh costs what a day's data cost."""
