"""Baselines where the facts are tables of a warehouse: the history of metrics for planning (METHODS A14).

As `warehouse.baseline`: moments and a curve of enrolment come back, no unit does.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from experiments.plan import BaselinePlan
from stats.moments import Ints
from warehouse.answered import parts_of
from warehouse.asking import answer_of
from warehouse.baseline import Baseline, active_sources, pass_over
from warehouse.compile import activity, people
from warehouse.compile.question import Active, Question
from warehouse.compile.relations import rows_of
from warehouse.compile.words import Words
from warehouse.data_slice import DataSlice
from warehouse.engine import MICROSECONDS_A_DAY, connect
from warehouse.engines.contract import Engine
from warehouse.experiment_moments import combine


def baseline_relational(
    plan: BaselinePlan,
    data: DataSlice,
    engine: Engine,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Baseline:
    """As `baseline.extract_baseline`, of sources that are in one engine. Raises `SourceUnreadable`."""
    with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
        progress("reading activity", 0.0)
        work = pass_over(plan, data, connection, pool)
        rows = {key: rows_of(engine, spec, data) for key, spec in work.sources.items()}
        active = Active(tuple(source.key for source in active_sources(plan)))
        question = Question(work, active, Words(engine.dialect), None, rows, look=0)
        moments = combine(work, parts_of(answer_of(question, engine)))
        progress("reading activity", 0.8)
        start = work.exposed_us[0]
        counted = engine.run(question.words.with_parts(people.parts(question), activity.first_days(start)))
        by_day: Ints = np.zeros(plan.weeks * 7, dtype=np.int64)
        by_day[counted["day"] // MICROSECONDS_A_DAY] = counted["n"]
        return Baseline(moments, tuple(int(n) for n in np.cumsum(by_day)))
