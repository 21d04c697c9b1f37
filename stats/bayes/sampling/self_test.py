"""What a program computed where it was compiled, kept beside its code and computed again wherever that is loaded.

Code that reads an address of another process computes something else, so a few points say whether it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from stats.bayes.sampling.bundle import Bundle
from stats.bayes.sampling.contract import Array, BundleRejected, SamplingFailed
from stats.bayes.sampling.functions import Functions
from stats.bayes.sampling.inputs import Inputs, Record
from stats.bayes.sampling.starts import Starts

LOGP_TOLERANCE: Final = 1e-10
GRADIENT_TOLERANCE: Final = 1e-8
_POINTS: Final = 4
_FEWEST: Final = 3
_SHRUNK: Final = 0.75
"""The second data set is the example's times this: counts stay below their totals and indices within their range."""


def references(
    functions: Functions, starts: Starts, example: Mapping[str, Array]
) -> tuple[list[str], dict[str, Array]]:
    """Densities, gradients and expanded values at a few points, for the example's data and for other data.

    Returns the names of the references and the arrays they consist of, for `check`. Raises `SamplingFailed` where the
    example does not fit the model, and `BundleRejected` where its density is finite at too few points.
    """
    points = [starts.centre, *(starts(seed) for seed in range(_POINTS))]
    shrunk = {name: np.asarray(values * _SHRUNK) for name, values in example.items()}
    names: list[str] = []
    arrays: dict[str, Array] = {}
    for data_set, data in (("example", example), ("shrunk", shrunk)):
        record = Record(data)
        for k, point in enumerate(points):
            evaluated, expanded = functions.logp(point, record), functions.expand(point, record)
            if evaluated is None or not np.isfinite(expanded).all():
                continue
            name = f"{data_set} {k}"
            names.append(name)
            arrays |= {
                f"{name} point": point,
                f"{name} logp": np.array(evaluated[0]),
                f"{name} gradient": evaluated[1],
                f"{name} expanded": expanded,
            }
        arrays |= {f"{data_set} data {name}": values for name, values in data.items()}
    if sum(name.startswith("example") for name in names) < _FEWEST:
        raise BundleRejected("the density of the example's data is finite at too few points to test the code")
    return names, arrays


def check(functions: Functions, inputs: Inputs, names: Sequence[str], content: Bundle) -> None:
    """Compute the references again. Raises `BundleRejected` where the code computes something else here."""
    for name in names:
        data_set = name.partition(" ")[0]
        record = Record(
            {each: content.array(f"{data_set} data {each}", shape) for each, shape in inputs.example.items()}
        )
        point = content.array(f"{name} point", (functions.parameters,))
        try:
            evaluated, expanded = functions.logp(point, record), functions.expand(point, record)
        except SamplingFailed as error:
            raise BundleRejected(f"its self-test failed: {error}") from error
        if (
            evaluated is None
            or not _near(evaluated[0], content.array(f"{name} logp", ()), LOGP_TOLERANCE)
            or not _near(evaluated[1], content.array(f"{name} gradient", point.shape), GRADIENT_TOLERANCE)
            or not _near(expanded, content.array(f"{name} expanded", expanded.shape), LOGP_TOLERANCE)
        ):
            raise BundleRejected("its self-test failed: it computes other numbers here than where it was made")


def _near(value: Array | float, reference: Array, tolerance: float) -> bool:
    """Relative to the largest entry: a gradient's small entries are differences of large terms."""
    scale = max(float(np.max(np.abs(reference), initial=0.0)), 1e-12)
    return bool(np.all(np.abs(value - reference) <= tolerance * scale))
