"""The screen of concurrent experiments where all of them are tables of a warehouse (METHODS A16).

What another experiment gave the units is a breakdown as any: its exposures stay there, cells of moments come back.
"""

from dataclasses import replace

import numpy as np

from experiments.definitions import FactSourceSpec
from experiments.errors import SourceUnreadable
from stats.moment_set import ConcurrentCells, MomentSet
from warehouse.asking import answer_of
from warehouse.cells import without_columns
from warehouse.compile.everybody import Everybody
from warehouse.compile.people import given_elsewhere
from warehouse.compile.preparing import Prepared
from warehouse.compile.question import Elsewhere, Shown
from warehouse.compile.relations import Store, rows_of
from warehouse.crossings import Crossing
from warehouse.data_slice import ConcurrentExposures
from warehouse.engine import epoch_us
from warehouse.engines.contract import Engine
from warehouse.other_experiments import FEWEST_COMMON_UNITS
from warehouse.units import OTHER_LEVELS
from warehouse.wanted import Wanted


def screened(work: Prepared, engine: Engine, found: MomentSet) -> MomentSet:
    """`found` with the cells of units by what each concurrent experiment gave them, from one more statement.

    That another's exposures cannot be read is no reason to withhold this one's result: it is said in `unscreened`.
    """
    others, given, unreadable = [], [], {}
    for other in work.work.data.concurrent if not work.work.clustered else ():
        try:
            exposures = _elsewhere(work, engine, other)
            if exposures is not None:
                given_elsewhere(exposures)  # whether its columns are there
        except SourceUnreadable as error:
            unreadable[other.key] = error.detail
            continue
        if exposures is not None:
            given.append(exposures)
            others.append(other)
    if not others:
        return replace(found, unscreened=unreadable)
    groups = tuple(
        Crossing(other.key, (i,), (*other.variants, OTHER_LEVELS), np.arange(len(other.variants) + 1))
        for i, other in enumerate(others)
    )
    alone = replace(work.work, segments=groups, levels=(), strata=None, wanted=Wanted())
    question = replace(work.question(len(alone.looks) - 1), work=alone, elsewhere=tuple(given))
    answer = answer_of(question, engine)
    bad = np.array([name in found.invalid for name in found.columns], dtype=np.bool_)
    concurrent = {}
    for i, other in enumerate(others):
        arms = len(other.variants)
        cells = answer.moments([f"group_{i}"], (arms + 1,))[:arms]
        if cells.count.sum() >= FEWEST_COMMON_UNITS:
            concurrent[other.key] = ConcurrentCells(other.variants, without_columns(cells, bad))
    return replace(found, concurrent=concurrent, unscreened=unreadable)


def _elsewhere(work: Prepared, engine: Engine, other: ConcurrentExposures) -> Elsewhere | None:
    """The exposures of another experiment; None where the engine has none of it. Raises `SourceUnreadable`."""
    data = work.work.data
    sources: dict[str, FactSourceSpec] = {source.key: source for source in other.fact_sources}
    rows = {key: rows_of(engine, spec, data) for key, spec in sources.items()}
    if other.exposures is not None:
        of, shown = rows[other.exposures.fact_source], None
        if of is not None:
            key, filters = other.exposures.fact_source, tuple(other.exposures.filters)
            shown = Shown(of, other.exposures.variant_column, {}, key, filters)
    else:
        own = replace(data, exposure_files=other.exposure_files)
        of = engine.stored_exposures(own) if isinstance(engine, Store) else None
        shown = None if of is None else Shown(of, "variant_key", {})
    if shown is None:
        return None
    facts = Everybody(work.words, rows, sources, epoch_us(data.data_as_of))
    return Elsewhere(facts, shown, (epoch_us(other.started_at), epoch_us(other.ended_at)), other.variants)
