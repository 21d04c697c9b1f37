"""The prior of each metric, what is believed after the data, how much the prior mattered (METHODS C1, C3, C5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from experiments.definitions import Direction, Role
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import PriorAlternative, PriorSensitivity, PriorUse
from experiments.types import finite
from experiments.verdict import Situation
from stats.bayes.normal import Posterior, posterior
from stats.bayes.prior import Family, Prior
from stats.lift import Lifts
from stats.moments import Floats

_DEFAULTS: Final = {Family.NORMAL: (0.0, 0.05), Family.STUDENT_T4: (0.0, 0.03)}


def metric_prior(plan: AnalysisPlan, metric: PlannedMetric) -> Prior:
    """The prior on the metric's log lift that the plan froze: the learned one where there is one, else the stated."""
    beliefs = plan.estimation.beliefs
    if beliefs.prior == "flat":
        return Prior.flat()
    if beliefs.prior == "learned" and metric.prior is not None:
        learned = metric.prior
        components = tuple((weight, mean, sd) for weight, mean, sd in learned.components)
        source = f"learned from {learned.experiments} experiments (version {learned.version})"
        return Prior(Family.LEARNED, learned.mean, learned.scale, source, components)
    family = Family(beliefs.family)
    mean, scale = plan.estimation.prior_mean, plan.estimation.prior_scale
    origin = "default" if (mean, scale) == _DEFAULTS[family] else "plan"
    shape = "Normal" if family is Family.NORMAL else "Student-t4"
    return Prior(family, mean, scale, f"{origin}: {shape}({mean:g}, {scale:g}) on the log lift")


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """Metrics of a block (positions `at`) that share prior and direction; arrays of `posterior` are (cells, V-1, n)."""

    at: tuple[int, ...]
    posterior: Posterior


@dataclass(frozen=True, slots=True, eq=False)
class BlockBeliefs:
    """What is believed about every lift of a block; without groups where the Bayesian engine is off or withheld."""

    groups: tuple[Belief, ...]

    def __bool__(self) -> bool:
        return bool(self.groups)

    def __iter__(self) -> Iterator[Belief]:
        return iter(self.groups)

    def of(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A number of every posterior, in the block's own (cells, V-1, M)."""
        if len(self.groups) == 1 and len(self.groups[0].at) == shape[-1]:
            whole: Floats = getattr(self.groups[0].posterior, name)
            return whole
        found = np.full(shape, np.nan)
        for group in self.groups:
            found[..., group.at] = getattr(group.posterior, name)
        return found

    def sources(self, metrics: int) -> list[str]:
        """Where each metric's prior came from."""
        found = [""] * metrics
        for group in self.groups:
            for m in group.at:
                found[m] = group.posterior.prior_source
        return found


DECIDING: Final = (Role.PRIMARY, Role.GUARDRAIL)
NO_BELIEFS: Final = BlockBeliefs(())


def withheld_metrics(plan: AnalysisPlan, standing: Situation) -> frozenset[str]:
    """Metrics about which nothing may be said yet: without a prior, nothing before the planned end (METHODS C5)."""
    if standing.complete:
        return frozenset()
    return frozenset(metric.metric_key for metric in plan.metrics if metric_prior(plan, metric).is_flat)


def block_beliefs(
    plan: AnalysisPlan,
    block: BlockShapes,
    lifts: Lifts,
    standing: Situation,
    cells: slice = slice(None),
    roles: Collection[Role] = tuple(Role),
) -> BlockBeliefs:
    """Posteriors of these cells (C1) of metrics in these roles, grouped by prior and direction; empty when off.

    Metrics whose beliefs are withheld are in no group.
    """
    if plan.estimation.engine == "frequentist":
        return NO_BELIEFS
    hidden = withheld_metrics(plan, standing)
    groups: dict[tuple[Direction, Prior], list[int]] = {}
    for m, metric in enumerate(block.metrics):
        if metric.role not in roles or metric.metric_key in hidden:
            continue
        groups.setdefault((metric.direction, metric_prior(plan, metric)), []).append(m)
    value, error = lifts.log_value[cells], lifts.log_standard_error[cells]
    return BlockBeliefs(
        tuple(
            Belief(tuple(at), _believed(plan, value[..., at], error[..., at], prior, direction))
            for (direction, prior), at in groups.items()
        )
    )


def _believed(plan: AnalysisPlan, value: Floats, error: Floats, prior: Prior, direction: Direction) -> Posterior:
    return posterior(
        value,
        error,
        prior,
        direction=direction.value,
        # The plan's region is on the log lift, the posterior takes a relative change.
        rope=float(np.expm1(plan.estimation.rope)),
        level=plan.estimation.ci_level,
    )


def prior_uses(plan: AnalysisPlan) -> list[PriorUse]:
    """The prior of every metric of the plan; empty when the Bayesian engine is off."""
    if plan.estimation.engine == "frequentist":
        return []
    found: list[PriorUse] = []
    for metric in plan.metrics:
        prior = metric_prior(plan, metric)
        learned = metric.prior if prior.family is Family.LEARNED else None
        found.append(
            PriorUse(
                metric_key=metric.metric_key,
                family=prior.family.value,
                mean=prior.mean,
                scale=prior.scale,
                source=prior.source,
                prior_id=learned.prior_id if learned else None,
                prior_version=learned.version if learned else None,
                experiments=learned.experiments if learned else None,
            )
        )
    return found


def prior_sensitivity(
    plan: AnalysisPlan, block: BlockShapes, lifts: Lifts, standing: Situation
) -> list[PriorSensitivity]:
    """Effects on everybody that people decide on, under other priors; cells of `lifts` begin with everybody."""
    if plan.estimation.engine == "frequentist":
        return []
    hidden = withheld_metrics(plan, standing)
    decided = [
        m for m, metric in enumerate(block.metrics) if metric.role in DECIDING and metric.metric_key not in hidden
    ]
    found: list[PriorSensitivity] = []
    for m in decided:
        metric = block.metrics[m]
        beliefs = [
            (
                name,
                _believed(plan, lifts.log_value[0, :, m], lifts.log_standard_error[0, :, m], prior, metric.direction),
            )
            for name, prior in _alternatives(metric_prior(plan, metric))
        ]
        for v, variant in enumerate(plan.variants[1:]):
            if not beliefs[0][1].estimable[v]:
                continue
            alternatives = [_alternative(name, belief, v) for name, belief in beliefs]
            found.append(
                PriorSensitivity(
                    metric_key=metric.metric_key,
                    variant_key=variant.key,
                    alternatives=alternatives,
                    robust=_one_side(alternatives, plan.estimation.beliefs.chance_to_win),
                )
            )
    return found


def _alternatives(prior: Prior) -> list[tuple[str, Prior]]:
    """The plan's prior first, then the ones a sceptic would ask for."""
    named = [("as planned", prior)]
    if prior.is_flat:
        return [*named, ("default", Prior.default())]
    named += [(name, Prior(Family.NORMAL, prior.mean, prior.scale * k, name)) for name, k in _SCALED]
    named.append(("fat tails", Prior(Family.STUDENT_T4, prior.mean, prior.scale / np.sqrt(2), "fat tails")))
    if prior.family is Family.LEARNED:
        named.append(("default", Prior.default()))
    return [*named, ("no prior", Prior.flat())]


_SCALED: Final = (("half as wide", 0.5), ("twice as wide", 2.0))


def _alternative(name: str, belief: Posterior, v: int) -> PriorAlternative:
    return PriorAlternative(
        prior=name,
        posterior_lift=finite(float(belief.lift[v])),
        hdi_lower=finite(float(belief.hdi_lower[v])),
        hdi_upper=finite(float(belief.hdi_upper[v])),
        chance_to_win=finite(float(belief.chance_to_win[v])),
        expected_loss=finite(float(belief.expected_loss[v])),
    )


def _one_side(alternatives: Sequence[PriorAlternative], threshold: float) -> bool | None:
    """Whether all priors lead to the same side of the plan's threshold. No prior at all is shown, not counted."""
    chances = [item.chance_to_win for item in alternatives if item.prior != "no prior"]
    known = [chance for chance in chances if chance is not None]
    if not known:
        return None
    return all(chance >= threshold for chance in known) or all(chance < threshold for chance in known)
