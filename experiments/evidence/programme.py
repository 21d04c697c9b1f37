"""The document of a programme: what all experiments on a metric did together (METHODS F1 to F4).

Inside, effects are positive where good, so that all rules about winners hold for metrics that should fall as well; the
document has the signs of the metric. `chance_positive` is the chance that an effect is good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import numpy as np

from experiments.evidence.facts import check
from experiments.evidence.holdout_rates import realised_against_claimed
from experiments.evidence.programme_sums import ProgrammeSums, shipped_again, sums_of
from experiments.plan import ProgrammePlan
from experiments.result import (
    Check,
    Completeness,
    CumulativePoint,
    HyperParameter,
    ProgrammeResult,
    ShrunkEffect,
    TotalEstimate,
)
from experiments.result.programme import TotalMethod
from experiments.types import finite
from stats.bayes.mixture import Array
from stats.bayes.population import Belief, BoolArray
from stats.programme import selection
from stats.programme.selection import SelectedTotal
from stats.programme.totals import wins_for

COMPLETE: Final = 0.9
"""With a smaller share of the experiments analysed, what is missing may be what matters (METHODS F1)."""
MOST_OF_IT: Final = 0.8
FEWEST_WITHOUT_LOSERS: Final = 3
"""So many experiments, and every one of them shipped: the others were not recorded."""
_LARGEST_LOG: Final = 700.0
_Z_80: Final = 1.2815515655446004
_Z_95: Final = 1.959963984540054
_FULL_BAYES: Final = (
    "Every effect shrunk towards the population of all experiments, with what is not known of that population."
)
_BY_ASSUMPTION: Final = "Only winners are on record: each corrected for having won, under an assumed spread of effects."
_OTHERS: Final[tuple[tuple[TotalMethod, Callable[[Array, Array, BoolArray], SelectedTotal], str], ...]] = (
    ("naive_sum", selection.naive, "The sum of what was measured. What shipped was chosen for large estimates."),
    ("lee_shen", selection.lee_shen, "Lee and Shen 2018 with estimates as effects: corrects too much where noisy."),
    (
        "lee_shen_posterior",
        selection.lee_shen_posterior,
        "Lee and Shen 2018 over posteriors: right on average, less precise than the posteriors themselves.",
    ),
    (
        "james_stein",
        selection.james_stein,
        "One factor for all, as in GrowthBook: precise effects lose too much.",
    ),
    ("plug_in", selection.plug_in, "Empirical Bayes as if the population were known: its interval is too short."),
    ("winners_only", selection.winners_only, "Learned from winners only: wrong, it has learned the choice."),
)


def programme_result(
    plan: ProgrammePlan, *, analysis_id: str, data_as_of: datetime, code_version: str
) -> ProgrammeResult:
    """The programme's total and every experiment's part in it, claimed and believed."""
    sums = sums_of(plan)
    again = shipped_again(plan)
    shipped = [effect for effect in plan.effects if effect.shipped and effect.experiment_key not in again]
    reason = None if shipped else "nothing_shipped" if plan.effects else "no_effects"
    population, sign = (sums.population, sums.sign) if sums is not None else (None, 1.0)
    known = sums if shipped else None
    chances = known.effects.chance_positive[known.shipped] if known is not None else None
    return ProgrammeResult(
        analysis_id=analysis_id,
        metric_key=plan.metric_key,
        metric_name=plan.metric_name,
        direction=plan.direction.value,
        data_as_of=data_as_of,
        experiments=len(plan.effects),
        shipped=len(shipped),
        win_rate=len(shipped) / len(plan.effects) if plan.effects else None,
        mean=_hyper("mean", population.mean, sign) if population is not None else None,
        tau=_hyper("tau", population.tau, 1.0) if population is not None else None,
        totals=_totals(known) if known is not None else [],
        cumulative=_cumulative(known) if known is not None else [],
        effects=_effects(sums) if sums is not None else [],
        wins_for_80=wins_for(MOST_OF_IT, known.effects.mean[known.shipped]) if known is not None else None,
        false_sign_rate=float((1 - chances).mean()) if chances is not None else None,
        harmful_ships=float((1 - chances).sum()) if chances is not None else None,
        exaggeration=_exaggeration(known) if known is not None else None,
        completeness=_completeness(plan),
        holdouts=[realised_against_claimed(each, sums, data_as_of) for each in plan.holdouts],
        assumed_everybody=sum(effect.topline_source == "everybody" for effect in plan.effects),
        selection_corrected_by_assumption=plan.winners_only,
        checks=_checks(plan),
        estimable=reason is None,
        reason=reason,
        methods=["D7", "E5", "F1", "F2", *(["F3"] if plan.holdouts else []), "F4"],
        code_version=code_version,
    )


def _totals(sums: ProgrammeSums) -> list[TotalEstimate]:
    """Ours first; the others see the same effects with sampling errors only."""
    total = sums.totals(sums.shipped)
    q = total.quantiles[0]
    note = _FULL_BAYES if sums.population is not None else _BY_ASSUMPTION
    found = [
        _total(sums.sign, "full_bayes", float(total.mean[0]), float(total.sd[0]), (q[1], q[2]), (q[0], q[3]), note)
    ]
    for method, rule, words in _OTHERS:
        other = rule(sums.claimed, sums.error, sums.shipped)
        ends = [
            (other.total - z * other.sd, other.total + z * other.sd) if np.isfinite(other.sd) else None
            for z in (_Z_80, _Z_95)
        ]
        found.append(_total(sums.sign, method, other.total, other.sd, ends[0], ends[1], words))
    return found


def _total(
    sign: float,
    method: TotalMethod,
    total: float,
    sd: float,
    eighty: tuple[float, float] | None,
    ninety_five: tuple[float, float] | None,
    note: str,
) -> TotalEstimate:
    lower_80, upper_80 = _lifts(sign, eighty)
    lower_95, upper_95 = _lifts(sign, ninety_five)
    return TotalEstimate(
        method=method,
        leads=method == "full_bayes",
        log_total=sign * total,
        log_sd=finite(sd),
        lift=_as_lift(sign * total),
        lower_80=lower_80,
        upper_80=upper_80,
        lower_95=lower_95,
        upper_95=upper_95,
        note=note,
    )


def _as_lift(log: float) -> float:
    """Of noise without measure the largest lift that a document can hold."""
    return float(np.expm1(min(log, _LARGEST_LOG)))


def _lifts(sign: float, ends: tuple[float, float] | None) -> tuple[float | None, float | None]:
    if ends is None:
        return None, None
    lower, upper = sorted(_as_lift(sign * end) for end in ends)
    return lower, upper


def _cumulative(sums: ProgrammeSums) -> list[CumulativePoint]:
    """In the order in which people decided; experiments without a date of decision when they ended."""
    when = [effect.decided_at or effect.stopped_at for effect in sums.plan.effects]
    order = sorted(np.flatnonzero(sums.shipped).tolist(), key=lambda k: (when[k], sums.plan.effects[k].experiment_key))
    totals = sums.cumulative(order)
    claimed = sums.claimed[order].cumsum()
    points = []
    for position, k in enumerate(order):
        lower, upper = _lifts(sums.sign, (totals.quantiles[position, 1], totals.quantiles[position, 2]))
        assert lower is not None and upper is not None
        points.append(
            CumulativePoint(
                at=when[k],
                experiment_key=sums.plan.effects[k].experiment_key,
                claimed_lift=_as_lift(sums.sign * claimed[position]),
                lift=_as_lift(sums.sign * totals.mean[position]),
                lower_80=lower,
                upper_80=upper,
            )
        )
    return points


def _effects(sums: ProgrammeSums) -> list[ShrunkEffect]:
    """In the order of the plan."""
    shares = sums.shares()
    quantiles = np.sort(sums.sign * sums.effects.quantiles, axis=1)
    return [
        ShrunkEffect(
            experiment_key=effect.experiment_key,
            name=effect.name,
            team=effect.team,
            variant_key=effect.variant_key,
            stopped_at=effect.stopped_at,
            shipped=effect.shipped,
            outcome=effect.outcome,
            launch_key=effect.launch_key,
            evidence_grade=effect.evidence_grade,
            topline_source=effect.topline_source,
            claimed=float(sums.sign * sums.claimed[k]),
            claimed_standard_error=float(sums.error[k]),
            shrunk=float(sums.sign * sums.effects.mean[k]),
            shrunk_sd=float(sums.effects.sd[k]),
            shrunk_lower_95=float(quantiles[k, 0]),
            shrunk_lower_80=float(quantiles[k, 1]),
            shrunk_upper_80=float(quantiles[k, 2]),
            shrunk_upper_95=float(quantiles[k, 3]),
            chance_positive=float(sums.effects.chance_positive[k]),
            share_of_total=finite(shares[k]),
        )
        for k, effect in enumerate(sums.plan.effects)
    ]


def _exaggeration(sums: ProgrammeSums) -> float | None:
    """The claimed total over the believed one; None where that is not positive."""
    believed = float(sums.effects.mean[sums.shipped].sum())
    return float(sums.claimed[sums.shipped].sum()) / believed if believed > 0 else None


def _hyper(name: str, belief: Belief, sign: float) -> HyperParameter:
    lower, upper = sorted((sign * belief.lower, sign * belief.upper))
    return HyperParameter(name=name, mean=sign * belief.mean, lower=lower, upper=upper)


def _completeness(plan: ProgrammePlan) -> Completeness:
    analysed = len(plan.effects)
    share = analysed / plan.started if plan.started else None
    detail = f"{analysed} of {plan.started} experiments that ended are in the numbers."
    remedy = "Analyse or repair the missing ones: who leaves out what failed counts too much."
    return Completeness(
        started=plan.started,
        analysed=analysed,
        share=share,
        missing=[
            {"experiment_key": each.experiment_key, "name": each.name, "reason": each.reason} for each in plan.missing
        ],
        check=check("completeness", "warn" if share is not None and share < COMPLETE else "pass", detail, remedy),
    )


def _checks(plan: ProgrammePlan) -> list[Check]:
    shipped = [effect for effect in plan.effects if effect.shipped]
    losers = len(plan.effects) - len(shipped)
    alone = not losers and not plan.missing and len(shipped) >= FEWEST_WITHOUT_LOSERS
    chosen = sum(effect.variants > 1 for effect in shipped)
    everybody = sum(effect.topline_source == "everybody" for effect in shipped)
    against = sum(effect.against_recommendation for effect in shipped)
    return [
        check(
            "losers_on_record",
            "warn" if alone or plan.winners_only else "pass",
            f"Only winners are recorded: all {len(shipped)} experiments shipped."
            if alone or plan.winners_only
            else f"{losers} experiments that did not ship are in the numbers.",
            "Record the experiments that failed, or ask for a correction by assumption with `winners_only`.",
        ),
        check(
            "choice_among_variants",
            "warn" if chosen else "pass",
            f"{chosen} of {len(shipped)} shipped effects were the best of several variants.",
            "What was chosen among variants is exaggerated once more: read their totals as upper bounds.",
        ),
        check(
            "reach",
            "warn" if everybody else "pass",
            f"{everybody} of {len(shipped)} shipped effects count as if their experiment had reached everybody.",
            "Analyse them again with a North Star or state `north_star_share`, if they reached only a part.",
        ),
        check(
            "against_recommendation",
            "warn" if against else "pass",
            f"{against} of {len(shipped)} were shipped against the recommendation.",
            "See their decisions: an effect that was not shown may still be what was wanted.",
        ),
        *_replicated(plan),
    ]


def _replicated(plan: ProgrammePlan) -> Iterator[Check]:
    again = sorted(shipped_again(plan))
    if again:
        detail = f"{', '.join(again[:5])} shipped, and so did a replication: the change counts once, as measured last."
        yield check("replicated_ships", "pass", detail)
