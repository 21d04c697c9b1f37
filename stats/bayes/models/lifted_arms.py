"""What models of arms with a log lift each have in common: names of quantities, checks, the summary (METHODS C2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stats.bayes.models.arm_effects import arm_effects, lift_densities
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ModelFit, PredictiveCheck
from stats.bayes.models.lift_prior import components, log_density
from stats.bayes.normal import Direction
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Array
from stats.bayes.sensitivity import prior_sensitivity

type Hyper = Mapping[str, tuple[float, float, float]]


def refuse_impossible_arms(units: Array, totals: Array, prior: Prior, noun: str) -> None:
    """Raise `ImpossibleData` unless every arm (A,) of at least two has units and a possible sum of `noun`."""
    if len(units) < 2 or units.shape != totals.shape:
        raise ImpossibleData("there are no two arms to compare")
    if not (np.isfinite(units).all() and np.isfinite(totals).all()):
        raise ImpossibleData(f"a number of units or {noun} is missing")
    if (units < 1).any():
        raise ImpossibleData("an arm has no units")
    if (totals < 0).any():
        raise ImpossibleData(f"an arm has fewer than no {noun}")
    if prior.family is Family.FLAT and (totals == 0).any():
        raise ImpossibleData(f"an arm has no {noun}: with a flat prior its lift could be anything")


def named(means: Array) -> dict[str, Array]:
    """What chains must agree on, from draws of arm means (chains, draws, A): `mean[0]`, ..., `log_lift[1]`, ..."""
    logs = np.log(means)
    arms = range(means.shape[-1])
    return {f"mean[{a}]": means[..., a] for a in arms} | {
        f"log_lift[{a}]": logs[..., a] - logs[..., 0] for a in arms if a
    }


def predictive_checks(
    statistic: str, observed: Array, replicated: Callable[[int], Array], arms: Sequence[int]
) -> tuple[PredictiveCheck, ...]:
    """One check per arm: `replicated(arm)` are its replications (R,). A replication that ties counts half."""
    checks = []
    for arm in arms:
        again = replicated(arm)
        share = ((again > observed[arm]).mean() + (again >= observed[arm]).mean()) / 2
        checks.append(PredictiveCheck(statistic, arm, float(observed[arm]), float(again.mean()), float(share)))
    return tuple(checks)


def interval(draws: Array) -> tuple[float, float, float]:
    """Mean and the central 95 % of draws."""
    lower, upper = np.quantile(draws, [0.025, 0.975])
    return float(draws.mean()), float(lower), float(upper)


def summary(
    definition: ModelDefinition,
    means: Array,
    prior: Prior,
    *,
    direction: Direction,
    rope: float,
    level: float,
    checks: tuple[PredictiveCheck, ...],
    hyper: Hyper | None = None,
) -> ModelFit:
    """The fit behind draws (chains, draws, A) of arm means."""
    effects, arms = arm_effects(means, direction=direction, rope=rope, level=level)
    quantities = named(means)
    lifts = {name: draws for name, draws in quantities.items() if name.startswith("log_lift")}
    log_lifts = np.stack(list(lifts.values()), axis=-1)
    return ModelFit(
        definition.name,
        definition.version,
        "ok",
        effects=effects,
        arms=arms,
        hyper=hyper or {},
        checks=checks,
        prior_sensitivity=prior_sensitivity(log_density(log_lifts, components(prior)).sum(-1), lifts),
        densities=lift_densities(log_lifts.reshape(-1, log_lifts.shape[-1]), prior),
    )
