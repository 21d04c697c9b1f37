"""Growth reviews: from everything on record to one document (METHODS F6 to F8, H6)."""
