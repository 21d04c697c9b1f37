"""All studies in the order of the report: what each is called, and the functions that make its cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.validation import (
    clusters,
    cuped,
    decisions,
    multiplicity,
    null_experiments,
    power,
    quantiles,
    sample_ratio,
    sequential,
    sequential_methods,
    size_and_coverage,
)
from tests.validation.cells import Cell

type Function = Callable[[float], list[Cell]]


@dataclass(frozen=True, slots=True)
class Study:
    """`functions` take the part of the replications to make; what they do is told by their docstrings."""

    name: str
    title: str
    seed: int
    about: str
    functions: tuple[Function, ...]

    def run(self, part: float = 1.0) -> list[Cell]:
        return [cell for function in self.functions for cell in function(part)]


def _study(name: str, title: str, seed: int, about: str | None, *functions: Function) -> Study:
    told = [(about or "").split("\n", 1)[-1].strip(), *(_paragraph(f.__doc__) for f in functions)]
    first = (about or "").split("\n", 1)[0].strip()
    return Study(name, title, seed, " ".join(part for part in [first, *told] if part), functions)


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").split())


STUDIES = (
    _study(
        "size_and_coverage",
        "Size and coverage of estimators",
        size_and_coverage.SEED,
        size_and_coverage.__doc__,
        size_and_coverage.means,
        size_and_coverage.proportions,
        size_and_coverage.ratios,
        size_and_coverage.adjusted_means,
        size_and_coverage.stratified_means,
    ),
    _study("clusters", "Few clusters", clusters.SEED, clusters.__doc__, clusters.type_one_error, clusters.repeated),
    _study("quantiles", "Quantiles with clustering", quantiles.SEED, quantiles.__doc__, quantiles.sizes),
    _study("cuped", "Variance reduction", cuped.SEED, cuped.__doc__, cuped.variance_ratios),
    _study(
        "sample_ratio",
        "Sample ratio",
        sample_ratio.SEED,
        sample_ratio.__doc__,
        sample_ratio.false_alarms,
        sample_ratio.detection,
    ),
    _study(
        "sequential",
        "Type-I error of looks",
        sequential.SEED,
        sequential.__doc__,
        sequential.type_one_error,
        sequential.open_ended,
    ),
    _study(
        "sequential_methods",
        "Which method when",
        sequential_methods.SEED,
        sequential_methods.__doc__,
        sequential_methods.methods,
    ),
    _study("power", "Power and margins", power.SEED, power.__doc__, power.designs, power.margins),
    _study("decisions", "The decision rule", decisions.SEED, decisions.__doc__, decisions.decision_rule),
    _study("multiplicity", "Many tests", multiplicity.SEED, multiplicity.__doc__, multiplicity.false_claims),
    _study(
        "null_experiments",
        "A/A experiments through the engine",
        null_experiments.SEED,
        null_experiments.__doc__,
        null_experiments.decisions,
    ),
)
