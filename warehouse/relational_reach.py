"""How much of the company an experiment reached, where its facts are tables of a warehouse (METHODS E5).

As `warehouse.reach`: totals by week, arm and hash bucket come back, no unit does. Buckets are by MD5 there.
"""

from collections.abc import Sequence

import numpy as np

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from stats.moment_set import Reach
from warehouse.compile.everybody import Span, reached
from warehouse.compile.preparing import Prepared
from warehouse.engines.contract import Engine
from warehouse.reach import BUCKETS, WEEK_US, Rows, reach_wanted, sums_of


def reach_relational(work: Prepared, engine: Engine) -> Reach | None:
    """As `reach.reach_sums`, of an experiment's units; None where `reach_wanted` is. Raises `SourceUnreadable`."""
    wanted = reach_wanted(work.plan, work.work.exposed_us)
    if wanted is None:
        return None
    question, begin = work.question(len(work.work.looks) - 1), work.work.exposed_us[0]
    span = Span(begin, begin + wanted.weeks * WEEK_US, WEEK_US)

    def read(spec: FactSourceSpec, columns: Sequence[Column]) -> Rows | None:
        statement = reached(question, spec.key, columns, span, buckets=BUCKETS)
        if statement is None:
            return None
        found = engine.run(statement)
        # Arms are added up in this order.
        order = np.lexsort((found["arm"], found["period"], found["bucket"]))
        rows = {name: values[order] for name, values in found.items()}
        return {**rows, "week": rows["period"] // WEEK_US}

    return sums_of(work.work, wanted, read).finish(wanted)
