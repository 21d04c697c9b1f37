"""The sampled structural model beside the grid: which launches ask for it, and what its answer changes (METHODS D4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from experiments.evidence.launch.estimates import says_something
from experiments.evidence.launch.measured import Measured
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.launch_series import LaunchSeriesQuestion
from stats.launch.contract import Estimated

FEWEST_DONORS: Final = 3
"""With fewer, there is nothing to choose among, and the grid is exact."""
SAMPLED: Final = "sampled"
GRID_STANDS: Final = "grid_stands"


def question_of(measured: Measured) -> LaunchSeriesQuestion | None:
    """The question to the model, where it leads and its choice among donors could matter.

    Beside another method the grid's answer is enough: a row to compare is not worth seconds of sampling.
    """
    if measured.leads.method != "bsts" or len(measured.data.donors) < FEWEST_DONORS:
        return None
    return LaunchSeriesQuestion(measured.data.series, level=measured.level)


def with_sampled(measured: Measured, fit: ModelFit | None) -> Measured:
    """The measurement with the model's answer in the place of the grid's; where it has none, the grid's stands."""
    grid = measured.estimates.by_method["bsts"]
    path = None if fit is None or fit.status != "ok" else fit.path
    answer = replace(grid, notes=(*grid.notes, GRID_STANDS))
    if fit is not None and path is not None:
        sampled = Estimated(
            method="bsts",
            effect=path.effect,
            standard_error=path.standard_error,
            lower=path.lower,
            upper=path.upper,
            p_value=path.p_value,
            interval_kind="posterior",
            periods=path.periods,
            by_period=path.mean,
            covariance=path.covariance,
            fitted=path.fitted,
            hyper={_named(name, measured.data.donors): value for name, value in fit.hyper.items()},
            notes=(*grid.notes, SAMPLED),
        )
        answer = sampled if says_something(sampled, measured.data.scale) else answer
    by_method = {**measured.estimates.by_method, "bsts": answer}
    return replace(measured, estimates=replace(measured.estimates, by_method=by_method)).graded()


def _named(parameter: str, donors: Sequence[str]) -> str:
    """A parameter with the name of its donor in the place of its number: `donor[2]` is `donor[search]`."""
    found = re.fullmatch(r"donor\[(\d+)\]", parameter)
    return parameter if found is None else f"donor[{donors[int(found[1])]}]"
