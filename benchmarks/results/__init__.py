"""What it costs to turn numbers into stored results."""
