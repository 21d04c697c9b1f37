"""The document of a learned prior: what a metric's past experiments say about the next one (METHODS C3)."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from experiments.plan import PriorPlan
from experiments.result import HyperParameter, LearnedPriorResult, LearnedStratum, PastEffectShown
from experiments.types import finite
from stats.bayes.population import Belief, Population, stratified


def learned_prior_result(
    plan: PriorPlan, *, analysis_id: str, data_as_of: datetime, code_version: str
) -> LearnedPriorResult:
    """Priors for all experiments together and, where teams differ, for each team with 8 experiments.

    Every past effect is shown as measured and as believed under the prior that the others of its population give.
    """
    effects = plan.effects
    found = stratified(
        [effect.log_lift for effect in effects],
        [effect.standard_error for effect in effects],
        [effect.stratum for effect in effects],
    )
    own = found.own if found.stratified else {}
    mean, sd = found.pooled.shrunk_mean.copy(), found.pooled.shrunk_sd.copy()
    names = np.array([effect.stratum or "" for effect in effects], dtype=np.str_)
    for name, population in own.items():
        members = found.pooled.usable & (names == name)
        mean[members], sd[members] = population.shrunk_mean, population.shrunk_sd
    return LearnedPriorResult(
        analysis_id=analysis_id,
        metric_key=plan.metric_key,
        version=plan.version,
        data_as_of=data_as_of,
        strata=[_stratum(None, found.pooled), *(_stratum(name, population) for name, population in own.items())],
        stratified=found.stratified,
        chance_strata_differ=found.chance_different,
        effects=[
            PastEffectShown(
                experiment_key=effect.experiment_key,
                variant_key=effect.variant_key,
                stratum=effect.stratum,
                log_lift=effect.log_lift,
                standard_error=effect.standard_error,
                shrunk_log_lift=finite(mean[k]),
                shrunk_sd=finite(sd[k]),
            )
            for k, effect in enumerate(effects)
        ],
        methods=["C3"],
        code_version=code_version,
    )


def _stratum(name: str | None, population: Population) -> LearnedStratum:
    if population.predictive is None:
        return LearnedStratum(
            stratum=name,
            experiments=population.experiments,
            mean=None,
            tau=None,
            prior_mean=None,
            prior_scale=None,
            components=[],
            reason=population.reason,
        )
    prior = population.prior("the metric")
    return LearnedStratum(
        stratum=name,
        experiments=population.experiments,
        mean=_hyper("mean", population.mean),
        tau=_hyper("tau", population.tau),
        prior_mean=prior.mean,
        prior_scale=prior.scale,
        components=list(prior.components),
    )


def _hyper(name: str, belief: Belief | None) -> HyperParameter | None:
    return (
        None if belief is None else HyperParameter(name=name, mean=belief.mean, lower=belief.lower, upper=belief.upper)
    )
