"""Whether the engines say the same, and why not: sentences made of the numbers that differ (METHODS C5, H3)."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.result import Agreement, Row
from experiments.verdict.bayesian import BayesianCase, BayesianWords, chance_words, small_share
from experiments.verdict.judgement import FrequentistCase
from experiments.verdict.outcomes import FUTILE_BELOW, Judgement
from experiments.verdict.words import amount


def agreement(frequentist: FrequentistCase, first: Judgement, bayesian: BayesianCase, second: Judgement) -> Agreement:
    """The engines agree when they recommend the same for the same variant."""
    one, other = first.recommendation, second.recommendation
    if (one.action, one.variant_key) == (other.action, other.variant_key):
        return Agreement(agrees=True, reasons=[])
    found = _Difference(frequentist, bayesian)
    if one.action == other.action == "ship":
        reasons = list(found.other_variant(one.variant_key, other.variant_key))
    elif other.action == "ship":
        reasons = list(found.only_bayesian(other.variant_key))
    elif one.action == "ship":
        reasons = list(found.only_frequentist(one.variant_key))
    else:
        reasons = [
            *found.equivalence(),
            *found.giving_up(first, second),
            *found.win_of_one(),
            *found.harmless(first, second),
        ]
    if not reasons:
        reasons = [f"Frequentist: {one.reasons[0]}", f"Bayesian: {other.reasons[0]}"]
    return Agreement(agrees=False, reasons=list(dict.fromkeys(reasons)))


class _Difference:
    def __init__(self, frequentist: FrequentistCase, bayesian: BayesianCase) -> None:
        self.frequentist, self.bayesian = frequentist, bayesian
        self.plan, self.situation, self.stakes = bayesian.plan, bayesian.situation, bayesian.stakes
        self.words = frequentist.words
        assert isinstance(bayesian.words, BayesianWords)
        self.beliefs = bayesian.words

    def only_bayesian(self, variant: str | None) -> Iterator[str]:
        """Why the intervals do not ship what posteriors do."""
        cleared = [row for row in self.frequentist.wins() if row.variant_key == variant]
        for row in self.bayesian.wins():
            if row.variant_key == variant and not cleared:
                yield from self._undecided(row)
        yield from self._guarded_differently(variant)

    def only_frequentist(self, variant: str | None) -> Iterator[str]:
        """Why posteriors do not ship what intervals do."""
        believed = [row for row in self.bayesian.wins() if row.variant_key == variant]
        for row in self.frequentist.wins():
            if row.variant_key == variant and not believed:
                yield from self._unconvinced(row)
        yield from self._guarded_differently(variant)

    def other_variant(self, one: str | None, other: str | None) -> Iterator[str]:
        """Both ship, but not the same."""
        for row in self.frequentist.wins():
            if row.variant_key == one:
                yield f"{self.words.variant(row.variant_key)} has the larger measured lift: {_pulled(row)}."
        for row in self.bayesian.wins():
            if row.variant_key == other:
                yield f"{self.words.variant(row.variant_key)} has the larger lift after the prior: {_pulled(row)}."
        yield from self._guarded_differently(one)
        yield from self._guarded_differently(other)

    def win_of_one(self) -> Iterator[str]:
        """Neither ships, but one has a win that is not shown safe."""
        wins = {id(row) for row in self.frequentist.wins()}
        believed = {id(row) for row in self.bayesian.wins()}
        for row in self.bayesian.primaries:
            if id(row) in believed and id(row) not in wins:
                yield from self._undecided(row)
            elif id(row) in wins and id(row) not in believed:
                yield from self._unconvinced(row)

    def equivalence(self) -> Iterator[str]:
        for row in self.bayesian.primaries:
            by_interval, by_posterior = self.frequentist.equivalent(row), self.bayesian.equivalent(row)
            if by_interval == by_posterior or row.mde is None:
                continue
            interval = f"interval that may decide now ({_span(row.decision_lower, row.decision_upper)})"
            posterior = f"HDI ({_span(row.hdi_lower, row.hdi_upper)})"
            inside, outside = (interval, posterior) if by_interval else (posterior, interval)
            subject = self.words.subject(row)
            yield f"The {inside} of {subject} lies within ±{row.mde * 100:g} %, and its {outside} does not."

    def giving_up(self, first: Judgement, second: Judgement) -> Iterator[str]:
        """One engine has given up and the other has not."""
        if (first.recommendation.rule == 4) == (second.recommendation.rule == 4):
            return
        ahead = self.frequentist.forecast
        if first.recommendation.rule == 4 and ahead.worth_waiting and ahead.waiting is not None:
            yield (
                "By the intervals nothing is left to wait for; by the posteriors more data are expected to bring "
                f"{amount(ahead.waiting.net_gain or 0.0)} days' worth more than deciding now."
            )
        power, with_prior = ahead.predictive_power, ahead.predictive_power_with_prior
        if power is not None and with_prior is not None and (power < FUTILE_BELOW) != (with_prior < FUTILE_BELOW):
            yield (
                f"The chance that the planned end shows a win is {power:.0%} if the effect is as measured, and "
                f"{with_prior:.0%} given the prior."
            )

    def harmless(self, first: Judgement, second: Judgement) -> Iterator[str]:
        """A rule of doing no harm that only one engine finds kept."""
        if "neutral" in (first.recommendation.action, second.recommendation.action):
            variants = (first.recommendation.variant_key, second.recommendation.variant_key)
            yield from self._guarded_differently(next((key for key in variants if key), None))

    def _undecided(self, row: Row) -> Iterator[str]:
        """Why a row that convinces the Bayesian engine is no win by its interval."""
        alpha, name = 1 - row.ci_level, self.words.subject(row)
        deciding = "no interval that may decide yet"
        if row.decision_lower is not None and row.decision_upper is not None:
            deciding = f"{row.decision_lower * 100:+.2f} % to {row.decision_upper * 100:+.2f} %"
        at_this_look = row.p_value is not None and row.p_value <= alpha
        looks = not self.situation.complete or self.situation.interval == "group_sequential"
        if at_this_look and looks:
            free = f" The prior ({row.prior_source}) makes no such payment." if row.prior_source else ""
            yield (
                f"The interval of {name} pays for every look that could have stopped the test ({deciding}); read at "
                f"this look alone it would exclude zero ({_span(row.ci_lower, row.ci_upper)}).{free}"
            )
        elif at_this_look and row.decision_p_value is not None and row.correction is not None:
            yield (
                f"Correcting for several tests takes the p-value of {name} from {row.p_value:.2g} to "
                f"{row.decision_p_value:.2g}; posteriors are not corrected, their prior expects small effects already."
            )
        else:
            p = "" if row.p_value is None else f" (p = {row.p_value:.2g})"
            yield (
                f"The engines ask different questions of {name}: its interval still holds zero{p}, while its chance to "
                f"win is {chance_words(row.chance_to_win or 0.0)} and shipping it has an {self.beliefs.lost(row)}, "
                f"within the {small_share(self.plan.estimation.beliefs.expected_loss)} that may be lost."
            )

    def _unconvinced(self, row: Row) -> Iterator[str]:
        """Why a row that wins by its interval does not convince the Bayesian engine."""
        asked, name = self.plan.estimation.beliefs, self.words.subject(row)
        if row.chance_to_win is None:
            yield f"{name} has no posterior to decide by."
            return
        convinced = True
        if not self.stakes.likely(row):
            convinced = False
            yield (
                f"The prior of {name} ({row.prior_source}) expects smaller effects: {_pulled(row)}, which leaves a "
                f"chance to win of {chance_words(row.chance_to_win)} where {asked.chance_to_win * 100:g} % are asked."
            )
        if not self.stakes.affordable(row):
            convinced = False
            limit = small_share(asked.expected_loss)
            yield f"Shipping {name} has an {self.beliefs.lost(row)}, more than the {limit} that may be lost."
        if convinced and row.metric_key in self.bayesian.early:
            yield (
                f"The always-valid interval of {name} may decide at any look; its posterior (chance to win "
                f"{chance_words(row.chance_to_win)}) may not before the planned end, because its prior was not learned."
            )

    def _guarded_differently(self, variant: str | None) -> Iterator[str]:
        for row in self.bayesian.guardrails:
            if row.variant_key != variant or row.non_inferiority_margin is None:
                continue
            by_interval, by_posterior = self.frequentist.cleared(row), self.bayesian.cleared(row)
            if by_interval == by_posterior:
                continue
            chance, margin = self.stakes.chance(row), f"{row.non_inferiority_margin * 100:g} %"
            said = "no posterior" if chance is None else f"a chance of {chance_words(chance)}"
            asked = f"{self.plan.estimation.beliefs.guardrail_chance * 100:g} %"
            shown = "is" if by_interval else "is not"
            yield (
                f"{self.words.subject(row)} {shown} shown by its interval to stay within its margin of {margin}, and "
                f"has {said} to, where {asked} are asked."
            )


def _pulled(row: Row) -> str:
    """What the prior did to the estimate."""
    if row.lift is None or row.posterior_lift is None:
        return "no lift"
    return (
        f"measured {row.lift * 100:+.2f} % ({_span(row.ci_lower, row.ci_upper)}), after the prior "
        f"{row.posterior_lift * 100:+.2f} % ({_span(row.hdi_lower, row.hdi_upper)})"
    )


def _span(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else f"{low * 100:+.2f} % to {high * 100:+.2f} %"
