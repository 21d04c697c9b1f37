"""Sentences about rows: every reason of a verdict carries the numbers it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from experiments.plan import AnalysisPlan
from experiments.result import Row, WaitingValue
from experiments.verdict.outcomes import FUTILE_BELOW, Forecast
from experiments.verdict.situation import Situation

_NAMES = {"fixed": "interval", "always_valid": "always-valid interval", "group_sequential": "repeated interval"}


@dataclass(frozen=True)
class Words:
    """Variants are called by their names where they have one."""

    plan: AnalysisPlan
    situation: Situation

    @cached_property
    def names(self) -> dict[str, str]:
        return {variant.key: variant.name or variant.key for variant in self.plan.variants}

    def variant(self, key: str) -> str:
        return self.names.get(key, key)

    def subject(self, row: Row) -> str:
        many = len(self.plan.variants) > 2
        return f"{row.metric_name} of {self.variant(row.variant_key)}" if many else row.metric_name

    def _numbers(self, row: Row) -> str:
        if row.lift is None:
            return f"difference {row.difference:+.4g}" if row.difference is not None else "no estimate"
        # Scheduled looks are about primaries; everything else is read by what may be read at any time.
        kind = self.situation.interval if row.role == "primary" else self.situation.margins
        name = f"{row.ci_level * 100:g} % {_NAMES[kind]}"
        low, high = row.decision_lower, row.decision_upper
        span = f"no {name}" if low is None or high is None else f"{name} {low * 100:+.2f} % to {high * 100:+.2f} %"
        return f"lift {row.lift * 100:+.2f} %, {span}"

    def moved(self, row: Row, conclusion: str) -> str:
        return f"{self.subject(row)} is {conclusion}: {self._numbers(row)}."

    def won(self, row: Row) -> str:
        return self.moved(row, "better than control")

    def harmed(self, row: Row) -> str:
        if row.harm_p_value is None:
            return self.moved(row, "worse than control")
        return f"{self.moved(row, 'worse than control')[:-1]}, one-sided always-valid p = {row.harm_p_value:.2g}."

    def equivalent(self, row: Row) -> str:
        return f"{self.subject(row)} is within ±{(row.mde or 0) * 100:g} % of control: {self._numbers(row)}."

    def non_inferior(self, row: Row) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        kind = "Guardrail" if row.role == "guardrail" else "North Star"
        return f"{kind} {self.subject(row)} stays within its margin of {margin:g} %: {self._numbers(row)}."

    def not_cleared(self, row: Row) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        kind = "Guardrail" if row.role == "guardrail" else "North Star"
        why = (
            "cannot be judged"
            if row.non_inferior is None
            else f"is not shown to stay within its margin of {margin:g} %"
        )
        return f"{kind} {self.subject(row)} {why}: {self._numbers(row)}."

    def open(self, row: Row) -> str:
        if not row.estimable:
            return f"{self.subject(row)} cannot be estimated ({row.reason})."
        if not self.situation.deciding:
            return f"{self.subject(row)} is not judged before the planned end."
        if row.decision_p_value is None:
            if self.situation.interval == "group_sequential":
                return f"{self.subject(row)} has had no scheduled look that could decide yet."
            return f"{self.subject(row)} has too few or too skewed data for an always-valid interval yet."
        return f"{self.subject(row)} is undecided: {self._numbers(row)}."

    def futile(self, forecast: Forecast) -> str:
        power = forecast.predictive_power
        if power is None or power >= FUTILE_BELOW:
            return "A futility bound was crossed: more data will hardly change this."
        known = " It would not be worth its days either." if forecast.worth_waiting is False else ""
        return f"The chance that the planned end shows a win is {power:.0%}: more data will hardly change this.{known}"

    def worth(self, waiting: WaitingValue) -> str:
        """What more data are worth, said of the primary that they are worth most for."""
        days, gain = round(waiting.days_worth_waiting or 0), waiting.net_gain or 0.0
        count = "day" if days == 1 else "days"
        return (
            f"Testing {days} more {count} is expected to bring {amount(gain)} days' worth of {self._named(waiting)} "
            "more than deciding now."
        )

    def _named(self, waiting: WaitingValue) -> str:
        names = {metric.metric_key: metric.spec.name for metric in self.plan.metrics}
        name = names.get(waiting.metric_key, waiting.metric_key)
        return f"{name} of {self.variant(waiting.variant_key)}" if len(self.plan.variants) > 2 else name


def amount(number: float) -> str:
    """A positive number as people read it: two significant digits, whole from ten on."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"
