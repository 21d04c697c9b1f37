"""Draws out of nutpie's raw trace, without the libraries that usually read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stats.bayes.sampling.contract import Array, Draws


def read(trace: Any, kept: Mapping[str, tuple[int, ...]], tune: int) -> Draws:
    """The draws after warm-up of the quantities `kept`, given with their shapes."""
    chains, statistics = trace.get_arrow_trace()
    return Draws(
        values={name: np.stack([_column(chain, name, kept[name])[tune:] for chain in chains]) for name in kept},
        divergences=sum(int(np.sum(chain.column("diverging").to_numpy()[tune:])) for chain in statistics),
    )


def _column(chain: Any, name: str, shape: tuple[int, ...]) -> Array:
    """(draws, *shape): anything but a scalar arrives as lists of equal length."""
    column = chain.column(name)
    if not shape:
        return np.asarray(column.to_numpy(), dtype=np.float64)
    from arro3.core import list_flatten

    return np.asarray(list_flatten(column).to_numpy(), dtype=np.float64).reshape(len(column), *shape)
