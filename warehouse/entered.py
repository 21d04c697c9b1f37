"""Facts of the units that count."""

import numpy as np

from stats.moments import Bools
from warehouse.facts import Facts
from warehouse.values import AllFacts


def of_entered(facts: AllFacts, entered: Bools) -> dict[str, Facts | None]:
    """The facts of the units that have `entered` (n,) the analysis.

    What others did, whose window is not complete or who are in no arm, must not withdraw a column.
    """
    if entered.all():
        return dict(facts)
    return {key: None if source is None else _of(source, entered) for key, source in facts.items()}


def _of(source: Facts, entered: Bools) -> Facts:
    kept = np.flatnonzero(entered[source.position])
    return Facts(
        units=source.units,
        position=source.position[kept],
        since_us=source.since_us[kept],
        inputs={name: values[kept] for name, values in source.inputs.items()},
        names=source.names,
        most=source.most,
    )
