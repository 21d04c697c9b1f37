"""What has to be known before a statement can be compiled: columns of the sources, levels of the exposures."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import duckdb
from sqlglot import exp

from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan
from stats.moment_set import UnmappedFacts
from warehouse.compile.facts import mapping_losses
from warehouse.compile.people import code, shown
from warehouse.compile.question import Question, Shown
from warehouse.compile.relations import Rows, Store, rows_of
from warehouse.compile.words import Words, col, count_rows, named, select, subquery
from warehouse.crossings import Dimensions, segments_of
from warehouse.data_slice import DataSlice
from warehouse.engines.contract import Engine
from warehouse.one_pass import Pass
from warehouse.planned_pass import attributes_of, mapped_us, planned_pass
from warehouse.strata import strata_with
from warehouse.units import MAX_LEVELS, OTHER_LEVELS, SEGMENT_PREFIX


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A pass over the tables of an engine."""

    plan: AnalysisPlan
    work: Pass
    words: Words
    shown: Shown | None
    rows: Mapping[str, Rows | None]

    def question(self, look: int) -> Question:
        """What is asked as of a look."""
        return Question(self.work, self.plan, self.words, self.shown, self.rows, look)


def prepared(
    plan: AnalysisPlan,
    data: DataSlice,
    engine: Engine,
    connection: duckdb.DuckDBPyConnection,
    pool: Executor,
    *,
    losses: bool = True,
) -> Prepared:
    """Sources are opened, and exposures read once or twice for their levels. Raises `SourceUnreadable`.

    `connection` and `pool` are for what is done here with the moments that come back. Without `losses` nobody counts
    the facts that mappings lose, which takes a pass over them.
    """
    work = planned_pass(plan, data, connection, pool)
    rows = {key: rows_of(engine, spec, data) for key, spec in work.sources.items()}
    bare = Prepared(plan, work, Words(engine.dialect), _shown(plan, data, engine, rows), rows)
    levels = _levels(bare, engine, attributes_of(plan))

    def count(dimensions: Dimensions) -> list[tuple[int, ...]]:
        return _combinations(bare, engine, dimensions)

    return replace(
        bare,
        work=replace(
            work,
            levels=levels,
            segments=segments_of(count, levels, plan.segments, plan.two_way_segments),
            strata=strata_with(count, data, levels, plan.estimation.stratify_by),
            unmapped=_unmapped(bare, engine) if losses else {},
        ),
    )


def _shown(plan: AnalysisPlan, data: DataSlice, engine: Engine, rows: Mapping[str, Rows | None]) -> Shown | None:
    """Where the exposures are."""
    if plan.exposures is not None:
        given = plan.exposures
        of = rows[given.fact_source]
        named_segments = {name.lower(): column for name, column in given.segments.items()}
        if of is None:
            return None
        return Shown(of, given.variant_column, named_segments, given.fact_source, tuple(given.filters))
    if not isinstance(engine, Store):
        raise SourceUnreadable(
            "the exposures of this experiment were sent to the ingest, its facts are tables of a warehouse",
            remedy="let the exposures be rows of a fact source of the same connection (`exposures`)",
        )
    stored = engine.stored_exposures(data)
    if stored is None:
        return None
    prefix = len(SEGMENT_PREFIX)
    return Shown(
        stored, "variant_key", {name[prefix:]: name for name in stored.kinds if name.startswith(SEGMENT_PREFIX)}
    )


def _levels(bare: Prepared, engine: Engine, dimensions: Sequence[str]) -> tuple[tuple[str, Sequence[str]], ...]:
    """The levels of each dimension that exposures carry, most frequent first (as `units.segment_levels`)."""
    found: list[tuple[str, Sequence[str]]] = []
    question = bare.question(0)
    for name in dimensions:
        if bare.shown is None or bare.shown.column(name) is None:
            continue
        counted = select(
            [named(col("level_0", "s"), "level"), named(count_rows(), "n")],
            subquery(shown(question, [name]), "s"),
            group=[col("level_0", "s")],
        )
        order = [exp.Ordered(this=col("n"), desc=True, nulls_first=False), exp.Ordered(this=col("level"))]
        most = select([col("level"), col("n")], subquery(counted, "c"))
        most.set("order", exp.Order(expressions=order))
        most.set("limit", exp.Limit(expression=exp.Literal.number(MAX_LEVELS + 1)))
        kept = [str(level) for level in engine.run(most)["level"]]
        found.append((name, [*kept[: MAX_LEVELS - 1], OTHER_LEVELS] if len(kept) > MAX_LEVELS else kept))
    return tuple(found)


def _combinations(bare: Prepared, engine: Engine, dimensions: Dimensions) -> list[tuple[int, ...]]:
    """As `units.count_level_combinations`."""
    if bare.shown is None:
        return []
    codes = [
        named(code(col(f"level_{i}", "s"), tuple(levels)), f"code_{i}") for i, (_, levels) in enumerate(dimensions)
    ]
    coded = select(codes, subquery(shown(bare.question(0), [name for name, _ in dimensions]), "s"))
    keys = [f"code_{i}" for i in range(len(dimensions))]
    counted = select(
        [*(col(key) for key in keys), named(count_rows(), "n")],
        subquery(coded, "c"),
        group=[col(key) for key in keys],
    )
    table = engine.run(counted)
    rows = zip(*(table[key].tolist() for key in keys), table["n"].tolist(), strict=True)
    ordered = sorted(rows, key=lambda row: (-row[-1], *row[:-1]))
    return [tuple(int(place) for place in row[:-1]) for row in ordered]


def _unmapped(bare: Prepared, engine: Engine) -> dict[str, UnmappedFacts]:
    """What mappings lose (as `unit_mapping.unmapped_facts`)."""
    found = {}
    question, period = bare.question(0), mapped_us(bare.work)
    for spec in bare.plan.fact_sources:
        if spec.unit_mapping is None:
            continue
        if bare.rows[spec.key] is None:
            found[spec.key] = UnmappedFacts(0, 0, 0)
            continue
        counted = engine.run(mapping_losses(question, spec, period))
        every, without, ambiguous = (int(counted[name][0]) for name in ("facts", "without_unit", "ambiguous"))
        found[spec.key] = UnmappedFacts(every, without, ambiguous)
    return found
