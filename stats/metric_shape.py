"""How a metric is computed from the columns of a moment matrix: what it averages, divides, and is adjusted by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stats.moments import Floats

type Evaluate = Callable[[Floats], tuple[Floats, Floats]]
"""Maps input means (..., c) to values (...,) and gradients (..., c)."""


@dataclass(frozen=True, slots=True)
class MetricShape:
    """How one metric is computed from the moment columns.

    `value` is the column of a mean or proportion, or the numerator of a ratio whose `denominator` is given. A formula
    has `inputs` columns and an `evaluate` function instead. `covariates` are pre-exposure columns: the pre-period
    value, or pre-period numerator and denominator (two covariates are never worse than their ratio, A7). `indicators`
    mark units whose covariates are missing: covariates as well, but one that says nothing new is no news (A7).
    """

    key: str
    kind: Literal["mean", "proportion", "ratio", "formula"]
    value: int = -1
    denominator: int | None = None
    covariates: tuple[int, ...] = ()
    indicators: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    evaluate: Evaluate | None = None

    def __post_init__(self) -> None:
        if (self.kind == "ratio") != (self.denominator is not None):
            raise ValueError(f"metric {self.key!r}: a ratio, and only a ratio, has a denominator column")
        if (self.kind == "formula") != (self.evaluate is not None and bool(self.inputs)):
            raise ValueError(f"metric {self.key!r}: a formula, and only a formula, has inputs and an evaluate function")
        if self.kind != "formula" and self.value < 0:
            raise ValueError(f"metric {self.key!r}: no value column")

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns the metric's value depends on (covariates not included)."""
        if self.kind == "formula":
            return self.inputs
        return (self.value,) if self.denominator is None else (self.value, self.denominator)
