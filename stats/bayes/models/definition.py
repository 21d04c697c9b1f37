"""What a model of the library consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stats.bayes.sampling.contract import Data


class ImpossibleData(ValueError):
    """Data that no parameter could have produced, or that say nothing; the message is a reason for people."""


@dataclass(frozen=True, slots=True)
class ModelDefinition:
    """A model of the library.

    `story` tells how data come about, priors included, in a paragraph for people. `sizes` are its size classes,
    ascending: the number of parameters is compiled in, so arms are padded with empty ones up to the next class; a
    model whose parameters do not grow with the data has the one class 1. `build(size)` makes the PyMC model (importing
    PyMC when called); everything data goes in by `pm.Data` as float64, standardised inside the graph so that parameters
    are of order one. `example(size)` is data to compile with and to test a compiled program on. `kept` names the
    deterministics that `summarise` reads. `version` rises with every change of density, prior, data or `kept`: compiled
    code is kept under it. `target_accept` is the acceptance rate of the first attempt: models whose posterior is round
    and never diverges say 0.8, which takes a quarter fewer steps.
    """

    name: str
    version: int
    story: str
    methods: tuple[str, ...]
    sizes: tuple[int, ...]
    build: Callable[[int], Any]
    example: Callable[[int], Data]
    kept: tuple[str, ...]
    target_accept: float = 0.9

    def size_for(self, arms: int) -> int:
        """The smallest size class that holds this many arms. Raises `ImpossibleData` beyond the largest."""
        for size in self.sizes:
            if size >= arms:
                return size
        raise ImpossibleData(f"{self.name} takes at most {self.sizes[-1]} arms, not {arms}")
