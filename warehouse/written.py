"""An experiment's numbers as text to read, copy and run: what is read from where, in the dialect that one asks for.

Only columns and levels are looked up to write it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlglot import exp

from experiments.columns import AgedMetric, aged, company_specs
from experiments.definitions import DuckDBSource, EventSource, FactSourceSpec, FileSource
from experiments.errors import NotReady
from experiments.plan import AnalysisPlan
from warehouse.compile.asked import compiled_quantiles
from warehouse.compile.means import means
from warehouse.compile.preparing import Prepared, prepared
from warehouse.compile.question import Question
from warehouse.compile.relations import Rows, table_named
from warehouse.compile.statement import statement
from warehouse.compile.words import Dialect, Statement, Words, name, text_literal
from warehouse.data_slice import DataSlice
from warehouse.engine import connect
from warehouse.engines.contract import Engine
from warehouse.source_files import catalogue_of, source_path

_SETUP: Final[dict[Dialect, tuple[str, ...]]] = {
    "duckdb": ("SET TimeZone = 'UTC'",),
    # The planner takes the parts of a statement for small, and would search them once per unit.
    "postgres": ("SET TIME ZONE 'UTC'", "SET enable_nestloop = off"),
    "spark": (
        "SET TIME ZONE 'UTC'",
        "SET spark.sql.ansi.enabled = true",
        "SET spark.sql.ansi.doubleQuotedIdentifiers = false",
        "SET spark.sql.parser.escapedStringLiterals = false",
    ),
}
"""What a session has to be told, so that a statement means there what it means here."""


@dataclass(frozen=True, slots=True)
class Written:
    """Two statements in one dialect that share their parts; `setup` is run before either.

    `means` has one row per variant. The lines of `moments` are all that an analysis of a connected warehouse reads
    (`warehouse.compile.lines`). `at_home`: the dialect is that of the place where the rows are, so they run as they
    stand; elsewhere somebody has to make the tables of `expects`, (name, what is in it). `columns` are the numbers of a
    unit, x_0, x_1, …; `left_out` says what of a result is in neither.
    """

    dialect: Dialect
    at_home: bool
    setup: tuple[str, ...]
    means: str
    moments: str
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    expects: tuple[tuple[str, str], ...]


def written(plan: AnalysisPlan, data: DataSlice, engine: Engine, dialect: Dialect) -> Written:
    """The statements of the last look, on the rows of `engine`. Files below the data folder are named as seen from it.

    Raises `SourceUnreadable`, and `NotReady` for an experiment whose numbers were sent as summaries.
    """
    if plan.data == "summary":
        raise NotReady(
            "the numbers of this experiment were sent as summaries, so no rows are read",
            remedy="ask those who send the summaries how they are computed",
        )
    with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
        work = prepared(plan, data, engine, connection, pool, losses=False)
    at_home = dialect == engine.dialect
    if not at_home:
        work = _elsewhere(work, dialect)
    question = work.question(len(work.work.looks) - 1)
    whole, asked = statement(question)
    of_people = means(question, asked, whole)
    for each in (whole, of_people):
        _from_the_folder(each, data)
    return Written(
        dialect=dialect,
        at_home=at_home,
        setup=(*_SETUP[dialect], *(_databases(plan, data) if at_home else ())),
        means=of_people.sql(dialect=dialect, pretty=True, copy=False),
        moments=whole.sql(dialect=dialect, pretty=True, copy=False),
        columns=tuple(column.name for column in work.work.columns),
        left_out=tuple(_left_out(plan, question)),
        expects=() if at_home else tuple(_expected(work)),
    )


def _elsewhere(work: Prepared, dialect: Dialect) -> Prepared:
    """The same pass on tables of another engine, whose columns are those of the stored rows."""
    specs = work.work.sources
    rows = {key: None if of is None else replace(of, relation=_table_of(specs[key])) for key, of in work.rows.items()}
    shown = work.shown
    if shown is not None:
        sent = exp.Table(this=name(work.plan.experiment_key), db=name("exposures"))
        of = None if shown.source is None else rows[shown.source]
        shown = replace(shown, rows=of or replace(shown.rows, relation=sent))
    return replace(work, words=Words(dialect), rows=rows, shown=shown)


def _table_of(spec: FactSourceSpec) -> exp.Table:
    if isinstance(spec, EventSource):
        return exp.Table(this=name(spec.event), db=name("events"))
    if isinstance(spec, FileSource):
        return exp.Table(this=name(spec.key), db=name("files"))
    return table_named(spec.table)


def _expected(work: Prepared) -> Iterator[tuple[str, str]]:
    if work.shown is not None and work.shown.source is None:
        yield _called(work.shown.rows), f"exposures, with {_columns(work.shown.rows)}"
    for key, of in work.rows.items():
        if of is not None:
            yield _called(of), f"rows of the fact source {key}, with {_columns(of)}"


def _called(rows: Rows) -> str:
    return ".".join(str(part.name) for of in rows.relation.find_all(exp.Table) for part in of.parts)


def _columns(rows: Rows) -> str:
    return ", ".join(f"{column} ({kind})" for column, kind in rows.kinds.items())


def _from_the_folder(whole: Statement, data: DataSlice) -> None:
    """Names of files as seen from the data folder, or from that of file sources for what is not below it."""
    for call in whole.find_all(exp.Anonymous):
        if str(call.this).upper().startswith("READ_"):
            for path in [literal for literal in call.find_all(exp.Literal) if literal.is_string]:
                path.replace(text_literal(_seen(Path(str(path.this)), data)))


def _seen(path: Path, data: DataSlice) -> str:
    for folder in (data.data_dir, data.file_source_dir):
        if folder is not None and path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
        if folder is not None and path.is_relative_to(folder.resolve()):
            return path.relative_to(folder.resolve()).as_posix()
    return str(path)


def _databases(plan: AnalysisPlan, data: DataSlice) -> list[str]:
    """ATTACH takes no file search path, so these are where the folder of file sources is. Sources may share one."""
    found = []
    for spec in plan.fact_sources:
        if isinstance(spec, DuckDBSource):
            path = text_literal(_seen(source_path(data.file_source_dir, spec.path, spec.key), data))
            alias = name(catalogue_of(spec))
            found.append(f"ATTACH {path.sql(dialect='duckdb')} AS {alias.sql(dialect='duckdb')} (READ_ONLY)")
    return list(dict.fromkeys(found))


def _left_out(plan: AnalysisPlan, question: Question) -> Iterator[str]:
    """What of the result is not in the statements (`warehouse.engines.capabilities`)."""
    work = question.work
    yield "intervals, tests, beliefs and the verdict, which are computed from the moments (docs/methods.md)"
    if work.has_open_columns:
        yield "earlier looks of open windows: each look is a statement of its own"
    if followed := compiled_ages(plan):
        by_day = ", ".join(one.metric_key for one in followed)
        yield f"effects by days since exposure ({by_day}): each metric is a statement of its own"
    here = {metric.metric_key for metric in compiled_quantiles(question)}
    if missing := [metric.metric_key for metric in work.wanted.quantiles if metric.metric_key not in here]:
        yield f"quantiles ({', '.join(missing)}): single values would have to leave the warehouse (not_compiled)"
    if work.data.concurrent:
        yield "the screen of experiments that ran at the same time"
    if company_specs(plan) and plan.purpose != "aa":
        yield "the share of the North Star's company, which is one more pass over the facts of everybody"
    if any(spec.unit_mapping is not None for spec in plan.fact_sources):
        yield "how many facts the unit mappings lose"


def compiled_ages(plan: AnalysisPlan) -> list[AgedMetric]:
    """The metrics whose days since exposure are a statement of their own each."""
    return [one for one in aged(plan) if one.column.cap is None]
