"""Units by what they did themselves, as parts of a statement: as if each had been exposed at its first activity."""

from collections.abc import Sequence

from sqlglot import exp

from warehouse.compile.facts import facts_of_source
from warehouse.compile.question import Facts
from warehouse.compile.words import BIGINT, E, cast, col, count_rows, minus, named, select, table, whole
from warehouse.engine import MICROSECONDS_A_DAY


def exposed(facts: Facts, sources: Sequence[str], period_us: tuple[int, int]) -> exp.Select:
    """What `people` says of the exposed, of active units: all of them are in the one arm that there is."""
    rows: exp.Select | exp.Union = facts_of_source(facts, sources[0], period_us, ())
    for key in sources[1:]:
        rows = exp.Union(this=rows, expression=facts_of_source(facts, key, period_us, ()), distinct=False)
    first = exp.Min(this=col("at_us", "f"))
    constant = {"arm": 0, "crossed": 0, "alone": -1}
    chosen: list[E] = [
        col("unit_id", "f"),
        *(named(whole(value), name) for name, value in constant.items()),
        named(first, "assigned_us"),
        named(first.copy(), "at_us"),
    ]
    every = exp.Subquery(this=rows, alias=exp.TableAlias(this=exp.Identifier(this="f", quoted=False)))
    return select(chosen, every, group=[col("unit_id", "f")])


def first_days(start_us: int) -> exp.Select:
    """Lines of day, in microseconds since the start, and how many units were first active on it as `n`."""
    since = exp.Paren(this=minus(col("at_us"), whole(start_us)))
    day = minus(since, exp.Paren(this=exp.Mod(this=since.copy(), expression=whole(MICROSECONDS_A_DAY))))
    days = exp.Subquery(
        this=select([named(day, "day")], table("units")),
        alias=exp.TableAlias(this=exp.Identifier(this="d", quoted=False)),
    )
    return select(
        [named(cast(col("day"), BIGINT), "day"), named(cast(count_rows(), BIGINT), "n")], days, group=[col("day")]
    )
