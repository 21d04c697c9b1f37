"""Engines that run compiled statements where the rows are; only moments come back."""
