"""From the plan of a growth review to its document, by way of the ledger's engines (METHODS F6 to F8, H6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from experiments.evidence import formula_defects
from experiments.evidence.attribution import WeeksOfTree, attribution
from experiments.evidence.programme import programme_result
from experiments.evidence.review.context import ReviewContext
from experiments.evidence.review.data import Compared, Told, compared, told, weeks_of_period
from experiments.evidence.review.decisions import (
    believed_together,
    decisions,
    false_sign_rate,
    learnings,
    running,
)
from experiments.evidence.review.follow_ups import follow_ups
from experiments.evidence.review.forecast import target_forecast
from experiments.evidence.review.headline import changes, headline
from experiments.evidence.review.ledger import ledger
from experiments.evidence.review.stagnation import stagnation
from experiments.plan import HoldoutEvidence, ReviewPlan
from experiments.result import (
    Attribution,
    Check,
    GrowthReviewResult,
    ProgrammeResult,
    SourceShown,
)
from stats.bayes.models.fit import ModelFit, Question
from stats.bayes.models.ledger import LedgerQuestion, ledger_fit
from stats.ledger import collapsed
from stats.ledger.contract import LedgerFit

_METHODS: Final = ("E3", "E4", "F1", "F2", "F3", "F4", "F6", "F7", "F8", "G8", "H6")
_WELL_KNOWN: Final = 0.3 / 1.96
"""The error of a holdout, as a share of what was claimed, that makes kappa known to within 0.3 (METHODS F3)."""


@dataclass(frozen=True, slots=True, eq=False)
class ReviewDraft:
    """A review still without the answers of the sampled engine. Picklable.

    `collapsed` is the quick engine's fit, where it was asked or has to stand in; `questions` are for the sampled one:
    where the review wants it, and where importance sampling was of too little worth.
    """

    plan: ReviewPlan
    context: ReviewContext
    told: Told
    pairs: Compared
    collapsed: LedgerFit
    questions: tuple[Question, ...]

    def finish(self, fits: Sequence[ModelFit] | None = None) -> GrowthReviewResult:
        """The document; `fits` answer `questions`, one each. Without `fits` nobody was there to ask.

        A sampled engine that fails costs only itself: the quick one's fit stands. Raises `ValueError` for fits that are
        too few or too many.
        """
        answers = [None] * len(self.questions) if fits is None else list(fits)
        if len(answers) != len(self.questions):
            raise ValueError(f"{len(self.questions)} questions have {len(answers)} answers")
        fit = self.collapsed
        if answers and answers[0] is not None and answers[0].status == "ok":
            fit = ledger_fit(answers[0], self.told.data, self.told.priors, self.context.seed)
        return _document(self, fit)


def draft_review(plan: ReviewPlan, context: ReviewContext) -> ReviewDraft:
    """Everything that needs no sampled model: a pure function of the plan and the circumstances."""
    given = told(plan)
    fit = collapsed.fit(given.data, given.priors, seed=context.seed)
    wanted = plan.review.engine == "sampled" or fit.reason == collapsed.UNRELIABLE
    asked = wanted and collapsed.long_enough(given.data)
    questions: tuple[Question, ...] = (LedgerQuestion(given.data, given.priors),) if asked else ()
    return ReviewDraft(plan, context, given, compared(plan), fit, questions)


def _document(draft: ReviewDraft, fit: LedgerFit) -> GrowthReviewResult:
    plan, context, pairs = draft.plan, draft.context, draft.pairs
    programme = programme_result(
        plan.programme,
        analysis_id=context.analysis_id,
        data_as_of=context.data_as_of,
        code_version=context.code_version,
    )
    reconciled = ledger(plan, draft.told, pairs, fit, seed=context.seed)
    accounted = _attribution(draft)
    level = _level(plan)
    forecast = target_forecast(plan, fit, seed=context.seed)
    alarm = stagnation(plan, draft.told, seed=context.seed)
    decided = decisions(plan, programme, level=level)
    numbers = headline(level=level, ledger=reconciled, programme=programme, forecast=forecast, stagnation=alarm)
    spec = plan.north_star.spec
    return GrowthReviewResult(
        analysis_id=context.analysis_id,
        review_key=plan.review.key,
        name=plan.review.name,
        north_star_key=spec.key,
        north_star_version=plan.north_star.version,
        metric_key=spec.metric_key,
        unit=plan.unit,
        direction=plan.direction.value,
        begins_on=plan.review.begins_on,
        ends_on=plan.review.ends_on,
        plan_hash=context.plan_hash,
        seed=context.seed,
        data_as_of=context.data_as_of,
        forecast=forecast,
        ledger=reconciled,
        stagnation=alarm,
        attribution=accounted,
        programme=programme,
        decisions=decided,
        decisions_believed=believed_together(decided),
        false_sign_rate=false_sign_rate(decided),
        running=running(plan),
        holdouts=programme.holdouts,
        holdout_advice=holdout_advice(programme, draft.told.holdouts),
        learnings=learnings(plan),
        follow_ups=follow_ups(plan, programme, reconciled.launches, at=context.data_as_of),
        headline=numbers,
        changes=changes(numbers, plan.previous),
        previous_review_key=None if plan.previous is None else plan.previous.review_key,
        sources=[
            SourceShown(name=each.name, analysis_id=each.analysis_id, known_at=each.known_at) for each in plan.sources
        ],
        checks=[*reconciled.checks, *_formula(plan), *programme.checks],
        methods=list(_METHODS),
        code_version=context.code_version,
    )


def holdout_advice(programme: ProgrammeResult, used: Sequence[HoldoutEvidence]) -> str:
    """What a holdout says, or what one would have to be like to say something; `used` are those of the ledger."""
    if used:
        return "A holdout measured what was realised: the ledger uses it."
    start = "No holdout has said anything yet" if programme.holdouts else "There is no holdout"
    total = next((each for each in programme.totals if each.leads), None)
    if total is None or total.log_total == 0:
        return f"{start}: how much of the claims was realised is mostly prior."
    return (
        f"{start}: how much of the claims was realised is mostly prior. A holdout with a standard error of "
        f"{abs(total.log_total) * _WELL_KNOWN:.2%} would tell it to within 0.3."
    )


def _formula(plan: ReviewPlan) -> list[Check]:
    """Whether the formula is fit to steer by. Plans of earlier reviews do not say how inputs should move."""
    if not plan.natures:
        return []
    found = formula_defects.defects(plan.north_star.spec, plan.natures, plan.direction, plan.inputs)
    return [formula_defects.check(found)]


def _attribution(draft: ReviewDraft) -> Attribution:
    plan, pairs = draft.plan, draft.pairs
    if not pairs.after.size:
        return Attribution(
            method="none",
            begins_at=pairs.begins_at,
            ends_at=pairs.ends_at,
            compared_begins_at=pairs.compared_begins_at,
            compared_ends_at=pairs.compared_ends_at,
            change=None,
            parts=[],
            uncertainty="",
            estimable=False,
            reason="no_weeks_to_compare",
        )
    return attribution(
        plan.north_star.spec,
        plan.names,
        WeeksOfTree(plan.weeks, plan.values, plan.inputs, plan.without),
        after=pairs.after.tolist(),
        before=pairs.before.tolist(),
        seed=draft.context.seed,
        segments=plan.segments,
    )


def _level(plan: ReviewPlan) -> float | None:
    """The mean week of the period, of those that are known; None where lifts of it would mean nothing."""
    known = [value for i in weeks_of_period(plan) if (value := plan.values[i]) is not None]
    return float(np.mean(known)) if known and np.mean(known) > 0 else None
