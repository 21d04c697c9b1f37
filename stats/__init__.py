"""Pure statistics of Northlift: moments in, evidence out.

Everything here is a function of arrays. No database, no HTTP, no clock, no files, no global random state. Method ids in
docstrings (A1, B1, ...) refer to docs/methods.
"""
