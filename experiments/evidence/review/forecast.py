"""Where the North Star is heading, and whether that is enough (METHODS F8)."""
