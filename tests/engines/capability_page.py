"""docs/engines.md from the table of capabilities: python -m tests.engines.capability_page"""

from tests.servers import REPOSITORY
from warehouse.engines.capabilities import CAPABILITIES

PAGE = REPOSITORY / "docs" / "engines.md"
HEAD = """# What each engine can do

Moments are made on one of two roads ([architecture](architecture.md)). The *embedded* one reads what was sent,
files and DuckDB databases. The *compiled* one turns a plan into one statement that runs where the rows are, in
PostgreSQL or Spark ([connections](deploy.md#warehouses)), and gives back moments; its statement for DuckDB is the
one that is shown beside results. Both give the same numbers, to 1e-9 of their spread.

What a road cannot do is left out of the result with its reason. It never is a number.

| feature | embedded | compiled | |
|---|---|---|---|
"""
FOOT = """
One suite holds all engines to the same numbers, and to those that loops in plain Python find: `make test` for
DuckDB and PostgreSQL, `make engines` for Spark (`tests/engines`). Its worlds have what real tables have: nulls,
infinities, rows that come twice or late, units in two variants, exposures at the same moment with other attributes,
ids of blanks and of every script, ids in columns of floats, offsets of 1e9, and a shop's real invoices with their
returns.

What to know of the compiled road:

- The sums of a column are taken about one constant for all cells. Where a cell is so many of its own standard
  deviations away from it that its variance would lose digits (some hundreds, with many units), those cells are asked
  for again in a second statement, each about its own centre.
- Units above a cap, and units by their value, are counted after sums of floats, which engines add up in their own
  order. Who lies exactly at the cap may be above it in one engine, and not in another.
- Totals of everybody are sums of floats there. With Northlift they are sums of whole numbers, which no order changes;
  what is 1e25 times smaller than the largest number of its column is nothing beside it.
- Ids, variants and levels in columns of numbers are text without decimals, `13085`, however large a whole decimal is;
  zero has no sign. Fractions, and floats from 2^63 on, are as the engine writes them.
"""


def page() -> str:
    """The page as Markdown."""
    rows = [f"| {one.feature} | {one.embedded} | {one.compiled} | {one.reason} |" for one in CAPABILITIES]
    return HEAD + "\n".join(rows) + "\n" + FOOT


if __name__ == "__main__":
    PAGE.write_text(page())
