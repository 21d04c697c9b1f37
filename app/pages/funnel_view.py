"""The steps of funnels as the experiment page shows them: by step, then by variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.result import ExperimentResult, FunnelStepEffect, Row, StepShare


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a variant's units got: `share` (of the funnel's units) and `passed` (of the step before), each with its

    interval (value, lower, upper). The effects are None for the control.
    """

    name: str
    share: tuple[float | None, float | None, float | None]
    passed: tuple[float | None, float | None, float | None] | None
    reached_effect: StepShare | None
    passed_effect: StepShare | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number, its name, whether its share is of all units, and every variant."""

    number: int
    name: str
    of_all: bool
    arms: Sequence[Walked]


@dataclass(frozen=True, slots=True)
class Funnel:
    """A funnel metric; `of_first`: shares from the second step on are of those who took the first."""

    metric_key: str
    name: str
    of_first: bool
    ci_level: float
    steps: Sequence[Step]


def funnels(document: ExperimentResult, variants: Mapping[str, str]) -> Sequence[Funnel]:
    """Every funnel of the document. `variants` (key to name) has the control first."""
    by_metric: dict[str, list[tuple[Row, list[FunnelStepEffect]]]] = {}
    for row in document.rows:
        if row.segment is None and row.funnel:
            by_metric.setdefault(row.metric_key, []).append((row, row.funnel))
    control = next(iter(variants.values()), "Control")
    return [
        Funnel(
            metric_key=key,
            name=found[0][0].metric_name,
            of_first=any(step.of == "first_step" for step in found[0][1]),
            ci_level=found[0][0].ci_level,
            steps=[_step(i, found, control, variants) for i in range(len(found[0][1]))],
        )
        for key, found in by_metric.items()
    ]


def _step(
    place: int, found: Sequence[tuple[Row, list[FunnelStepEffect]]], control: str, variants: Mapping[str, str]
) -> Step:
    first = found[0][1][place]
    arms = [
        Walked(control, _control(first.reached), None if first.passed is None else _control(first.passed), None, None)
    ]
    for other, effects in found:
        effect = effects[place]
        arms.append(
            Walked(
                variants.get(other.variant_key, other.variant_key),
                _treatment(effect.reached),
                None if effect.passed is None else _treatment(effect.passed),
                effect.reached,
                effect.passed,
            )
        )
    return Step(first.step, first.name, first.of == "units", arms)


def _control(share: StepShare) -> tuple[float | None, float | None, float | None]:
    return share.control, share.control_lower, share.control_upper


def _treatment(share: StepShare) -> tuple[float | None, float | None, float | None]:
    return share.treatment, share.treatment_lower, share.treatment_upper
