"""Fitting one question: sample, diagnose, try once more, summarise; numbers only from chains to trust (METHODS I3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from stats.bayes.diagnostics import Diagnostics, diagnose
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.sampling.contract import Array, Data, Draws, Program, Sampling, SamplingFailed

type Status = Literal["ok", "unreliable", "not_estimable"]
type Method = Literal["nuts", "grid", "closed_form"]


@dataclass(frozen=True, slots=True)
class EffectPosteriors:
    """Posteriors of E effects, every array (E,); NaN where the model has no such number.

    `log_mean`, `log_sd` are of the log lift, `mcse` is the Monte Carlo standard error of `log_mean`. `lift`,
    `hdi_lower`, `hdi_upper` are fractions, the HDI taken on the log scale. Losses are expected log lift forgone, as in
    `stats.bayes.normal.Posterior`. `difference` is in units of the metric. `sign_differs` is the chance that an effect
    points against the overall one of its hierarchy.
    """

    log_mean: Array
    log_sd: Array
    mcse: Array
    lift: Array
    hdi_lower: Array
    hdi_upper: Array
    chance_to_win: Array
    expected_loss: Array
    expected_loss_of_not_shipping: Array
    rope_probability: Array
    difference: Array
    difference_hdi_lower: Array
    difference_hdi_upper: Array
    sign_differs: Array


@dataclass(frozen=True, slots=True)
class ArmPosteriors:
    """Posteriors of the means of A arms, control first, every array (A,), in units of the metric."""

    mean: Array
    hdi_lower: Array
    hdi_upper: Array
    chance_to_be_best: Array


@dataclass(frozen=True, slots=True)
class PredictiveCheck:
    """A statistic of one arm beside its replications: `p_value` is the share of replications at least as large.

    A model whose `p_value` leaves [0.025, 0.975] does not describe this side of the data (METHODS C2).
    """

    statistic: str
    arm: int
    observed: float
    expected: float
    p_value: float

    @property
    def passed(self) -> bool:
        """Whether the data look like the model's own."""
        return 0.025 <= self.p_value <= 0.975


@dataclass(frozen=True, slots=True)
class Densities:
    """Posterior densities of the E lifts on one axis each: `lift`, `posterior` and `prior` are (E, P)."""

    lift: Array
    posterior: Array
    prior: Array


@dataclass(frozen=True, slots=True, eq=False)
class PathPosterior:
    """What a launch did to a series of T periods, on the scale of the series (METHODS D4).

    `mean` (P,) are the effects in the treated `periods`, at the coverage of the time, and `covariance` (P, P) what is
    not known about them. `effect` is the average at full coverage, with its standard deviation, equal-tailed interval
    and two-sided tail probability. `fitted` (T,) is the series without the launch: forecast a period ahead before it,
    from the last period before it afterwards, nan where neither is possible.
    """

    mean: Array
    covariance: Array
    periods: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
    fitted: Array
    effect: float
    standard_error: float
    lower: float
    upper: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ModelFit:
    """The answer of a model. Anything but `ok` carries a `reason` and no numbers, except diagnostics.

    `hyper` holds (mean, lower, upper) of hyper-parameters by name, at 95 %. `prior_sensitivity` is how fast the
    posterior of the effects moves when the prior is scaled (Kallioinen et al. 2024): above 0.05 the prior matters.
    `covariances` (S, M, M) are draws of how true effects on M metrics vary together; `draws` (S, ...) by name are there
    where another engine computes the rest from each of them.
    """

    model: str
    version: int
    status: Status
    reason: str = ""
    method: Method = "nuts"
    seed: int = 0
    effects: EffectPosteriors | None = None
    arms: ArmPosteriors | None = None
    hyper: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    checks: tuple[PredictiveCheck, ...] = ()
    prior_sensitivity: float | None = None
    densities: Densities | None = None
    path: PathPosterior | None = None
    covariances: Array | None = None
    draws: Mapping[str, Array] = field(default_factory=dict)
    diagnostics: Diagnostics | None = None


class Question(Protocol):
    """Data, prior and options of one fit: a frozen, picklable dataclass of the model's module."""

    @property
    def definition(self) -> ModelDefinition:
        """The model that is asked."""
        ...

    @property
    def size(self) -> int:
        """The size class that holds the data. Raises `ImpossibleData`."""
        ...

    def data(self) -> Data:
        """The data of the compiled model, padded to the size class. Raises `ImpossibleData`."""
        ...

    def monitored(self, draws: Draws) -> Mapping[str, Array]:
        """Quantities whose chains must agree, each (chains, draws): everything that is reported."""
        ...

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """The posterior as numbers, with `status` ok; `seed` is for replications."""
        ...


def fit(
    question: Question,
    programs: Callable[[ModelDefinition, int], Program],
    sampling: Sampling,
    *,
    seed: int,
    should_cancel: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ModelFit:
    """Fit a question with the program that `programs` keeps for it.

    Data that no model can have produced are `not_estimable`; chains that fail their diagnostics twice, or a sampler
    that fails twice, are `unreliable`. Raises `FitCancelled`.
    """
    definition = question.definition
    failed = ModelFit(definition.name, definition.version, "unreliable", seed=seed)
    try:
        data = question.data()
        program = programs(definition, question.size)
    except ImpossibleData as error:
        return replace(failed, status="not_estimable", reason=str(error))
    furthest = 0.0

    def report(fraction: float) -> None:
        nonlocal furthest  # a second attempt starts counting again; what we report never goes back
        furthest = max(furthest, fraction)
        progress(furthest)

    for attempt in (replace(sampling, target_accept=definition.target_accept), sampling.harder()):
        try:
            draws = program.sample(data, attempt, seed=seed, should_cancel=should_cancel, progress=report)
        except SamplingFailed as error:
            failed = replace(failed, reason=f"sampler failed: {error}"[:200], diagnostics=None)
            continue
        monitored = question.monitored(draws)
        broken = [name for name, values in monitored.items() if not np.isfinite(values).all()]
        if broken:
            failed = replace(failed, reason=f"draws of {broken[0]} are not finite", diagnostics=None)
            continue
        diagnostics = diagnose(monitored, draws.divergences)
        if not diagnostics.problem:
            progress(1.0)
            return replace(question.summarise(draws, seed), diagnostics=diagnostics, seed=seed)
        failed = replace(failed, reason=diagnostics.problem, diagnostics=diagnostics)
    return failed
