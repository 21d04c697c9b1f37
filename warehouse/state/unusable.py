"""Why what was kept cannot be used."""


class Unusable(Exception):
    """What was kept does not fit the data; everything is computed anew. Never leaves this package."""
