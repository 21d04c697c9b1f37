"""The document of learned links: what moves in inputs have been worth in the North Star (METHODS E9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np

from experiments.plan import LinksPlan
from experiments.result import Check, LinkEstimate, LinkPoint, LinksResult, ProxyWeight
from stats.bayes.models.effect_covariance import DEFINITION, EffectCovarianceQuestion
from stats.bayes.models.fit import ModelFit
from stats.programme.effect_pairs import Array, Covariances, pair, scales
from stats.programme.links import (
    FEWEST_EXPERIMENTS,
    Link,
    LinkReason,
    Proxy,
    Spread,
    link,
    proxy,
    slopes,
    typical_error,
    without_each,
)

type JointReason = Literal["one_input", "too_many_inputs", "one_formula", "too_few_experiments", "not_sampled"]
_SEPARATE: Final = 0.02
"""Smallest eigenvalue of the errors' mean correlation below which metrics are all but a formula of one another.

What was estimated then lies in a plane, and priors explain it better by no true effects at all: with a prior that
expected small correlations chains did not mix at 0.008, and agreed on slopes of 0.05 where 1 was true at 0.002.
"""
_WHOLE: Final = 0.9


@dataclass(frozen=True, slots=True)
class LinksContext:
    """The circumstances of one analysis."""

    analysis_id: str
    data_as_of: datetime
    seed: int
    code_version: str


@dataclass(frozen=True, slots=True, eq=False)
class LinksDraft:
    """Everything that needs no sampling: the link of each input alone, and what it is without one team. Picklable.

    `questions` has the one about all inputs together, where there is one to ask.
    """

    plan: LinksPlan
    context: LinksContext
    estimate: Array
    covariance: Array
    links: tuple[Link, ...]
    by_team: tuple[dict[str, float], ...]
    questions: tuple[EffectCovarianceQuestion, ...]
    joint_reason: JointReason | None

    def finish(self, fits: Sequence[ModelFit] | None = None) -> LinksResult:
        """The document; `fits` answer `questions`, one each. Without `fits` nobody was there to ask.

        A model that fails costs joint slopes and the weights of several inputs; each input alone keeps its link.
        Raises `ValueError` for fits that are too few or too many.
        """
        answers = [None] * len(self.questions) if fits is None else fits
        fit = next((answer for _, answer in zip(self.questions, answers, strict=True)), None)
        joint = None if fit is None or fit.covariances is None else Covariances.drawn(fit.covariances)
        together = [None] * len(self.links) if joint is None else slopes(joint)
        weighed = self._proxy(joint)
        estimable = len(self.estimate) >= FEWEST_EXPERIMENTS
        spec = self.plan.north_star.spec
        keys = [item.metric_key for item in spec.input_metrics]
        return LinksResult(
            analysis_id=self.context.analysis_id,
            north_star_key=spec.key,
            north_star_version=self.plan.north_star.version,
            metric_key=spec.metric_key,
            data_as_of=self.context.data_as_of,
            experiments=len(self.estimate),
            links=[self._estimate(m, key, slope) for m, (key, slope) in enumerate(zip(keys, together, strict=True))],
            proxy=[ProxyWeight(metric_key=keys[m], weight=float(w)) for m, w in weighed[0]],
            proxy_correlation=weighed[1],
            joint_reason=self.joint_reason or (None if joint is not None else "not_sampled"),
            engine="none" if not estimable else "grid" if joint is None else "nuts",
            diagnostics={} if joint is None or fit is None else _diagnostics(fit),
            missing=[each.model_dump(exclude_none=True) for each in self.plan.missing],
            checks=[self._complete(), *self._steady()],
            estimable=estimable,
            reason=None if estimable else LinkReason.TOO_FEW_EXPERIMENTS,
            methods=list(DEFINITION.methods),
            code_version=self.context.code_version,
        )

    def _estimate(self, position: int, key: str, joint: Spread | None) -> LinkEstimate:
        found = self.links[position]
        slope, correlation = found.slope, found.correlation
        return LinkEstimate(
            metric_key=key,
            naive_slope=found.naive_slope,
            moment_slope=found.moment_slope,
            moment_standard_error=found.moment_standard_error,
            slope=slope and slope.median,
            slope_lower_80=slope and slope.lower_80,
            slope_upper_80=slope and slope.upper_80,
            slope_lower_95=slope and slope.lower_95,
            slope_upper_95=slope and slope.upper_95,
            joint_slope=joint and joint.median,
            joint_slope_lower_80=joint and joint.lower_80,
            joint_slope_upper_80=joint and joint.upper_80,
            joint_slope_lower_95=joint and joint.lower_95,
            joint_slope_upper_95=joint and joint.upper_95,
            correlation=correlation and correlation.median,
            correlation_lower_80=correlation and correlation.lower_80,
            correlation_upper_80=correlation and correlation.upper_80,
            chance_correlation=found.chance,
            usable=found.usable,
            reason=found.reason or None,
            slope_by_team=self.by_team[position],
            points=[self._point(k, 1 + position) for k in range(len(self.estimate))],
        )

    def _point(self, experiment: int, metric: int) -> LinkPoint:
        effect, covariance = self.plan.effects[experiment], self.covariance[experiment]
        own, guide = np.sqrt(covariance[metric, metric]), np.sqrt(covariance[0, 0])
        return LinkPoint(
            experiment_key=effect.experiment_key,
            name=effect.name,
            input_log_lift=float(self.estimate[experiment, metric]),
            input_standard_error=float(own),
            north_star_log_lift=float(self.estimate[experiment, 0]),
            north_star_standard_error=float(guide),
            error_correlation=float(covariance[0, metric] / (own * guide)),
        )

    def _proxy(self, joint: Covariances | None) -> tuple[list[tuple[int, float]], float | None]:
        """Weights of the inputs that may stand for the North Star, by position.

        Where they were not judged together it is the one that goes with it best, alone.
        """
        usable = [m for m, each in enumerate(self.links) if each.usable]
        if not usable:
            return [], None
        if joint is None:
            usable = [max(usable, key=lambda m: _closeness(self.links[m]))]
        metrics = [0, *(1 + m for m in usable)]
        chosen = np.ix_(np.arange(len(self.estimate)), metrics, metrics)
        errors = self.covariance[chosen]
        if joint is None:
            estimate = self.estimate[:, metrics]
            believed = pair(estimate, errors, scales(estimate, errors))
        else:
            believed = Covariances(joint.matrix[np.ix_(np.arange(len(joint.matrix)), metrics, metrics)], joint.weight)
        found: Proxy = proxy(believed, typical_error(errors)[1:, 1:])
        return list(zip(usable, found.weight.tolist(), strict=True)), found.correlation

    def _complete(self) -> Check:
        known, missing = len(self.plan.effects), len(self.plan.missing)
        share = known / (known + missing) if known + missing else 1.0
        whole = share >= _WHOLE
        return Check(
            name="links_completeness",
            status="pass" if whole else "warn",
            detail=f"{known} of {known + missing} experiments that ended have effects on the North Star and all inputs",
            remedy="" if whole else "Analyse the missing ones again: those that are left may not stand for all.",
        )

    def _steady(self) -> list[Check]:
        """Whether a proxy's slope stays within its 80 % interval whichever team is left out."""
        spec = self.plan.north_star.spec
        checks = []
        for each, teams, item in zip(self.links, self.by_team, spec.input_metrics, strict=True):
            if not each.usable or each.slope is None or not teams:
                continue
            inside = {name: each.slope.lower_80 <= slope <= each.slope.upper_80 for name, slope in teams.items()}
            hangs_on = ", ".join(name for name, held in inside.items() if not held)
            said = f"changes without {hangs_on}" if hangs_on else "is the same whichever team is left out"
            checks.append(
                Check(
                    name="link_without_each_team",
                    status="warn" if hangs_on else "pass",
                    detail=f"{item.metric_key}: the slope {said}",
                    remedy="Do not rely on this link outside of that team's surface." if hangs_on else "",
                )
            )
        return checks


def draft_links(plan: LinksPlan, context: LinksContext) -> LinksDraft:
    """Everything but the sampled model: a pure function of the plan.

    Every input, and every team of every input, costs a tenth of a second at 60 experiments, in proportion to them.
    """
    metrics = 1 + len(plan.north_star.spec.input_metrics)
    estimate = np.array([effect.log_lifts for effect in plan.effects]).reshape(-1, metrics)
    covariance = np.array([effect.covariance for effect in plan.effects]).reshape(-1, metrics, metrics)
    teams = [effect.team for effect in plan.effects]
    links, by_team = [], []
    for m in range(1, metrics):
        own = (estimate[:, [0, m]], covariance[:, [[0], [m]], [0, m]])
        links.append(link(*own))
        by_team.append(without_each(*own, teams))
    reason = _no_joint(covariance)
    asked = () if reason else (EffectCovarianceQuestion(estimate, covariance, scales(estimate, covariance)),)
    return LinksDraft(plan, context, estimate, covariance, tuple(links), tuple(by_team), asked, reason)


def _no_joint(covariance: Array) -> JointReason | None:
    """Why inputs cannot be judged together."""
    experiments, metrics = covariance.shape[:2]
    if experiments < FEWEST_EXPERIMENTS:
        return "too_few_experiments"
    if metrics == 2:
        return "one_input"
    if metrics > DEFINITION.sizes[-1]:
        return "too_many_inputs"
    errors = np.sqrt(np.einsum("kmm->km", covariance))
    correlation = (covariance / (errors[:, :, None] * errors[:, None, :])).mean(axis=0)
    return "one_formula" if np.linalg.eigvalsh(correlation)[0] < _SEPARATE else None


def _closeness(found: Link) -> float:
    return 0.0 if found.correlation is None else abs(found.correlation.median)


def _diagnostics(fit: ModelFit) -> dict[str, float]:
    found = fit.diagnostics
    if found is None:
        return {}
    return {"r_hat": found.r_hat, "ess_bulk": found.ess_bulk, "ess_tail": found.ess_tail}
