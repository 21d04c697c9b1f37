"""Corrected numbers of all rows, and those that decide (METHODS A11, B5).

Families: `success` (primaries x variants, about everybody), `guardrail` (no correction: all must clear), `exploratory`
(secondary and monitor metrics x variants) and `segments` (every row of a segment). Adjusted numbers belong to the
fixed-horizon ones beside them; the deciding ones follow the plan's way of paying for looks. Tests that sequential
plans have not been able to make yet count into their family, so that their arrival takes nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special as sc

from experiments.evidence.effects import Effects
from experiments.evidence.levels import Bound, Levels
from experiments.evidence.monitors import Course, Key
from experiments.evidence.rows import RowDraft
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.types import finite
from experiments.verdict import Situation
from stats.moments import Bools, Floats
from stats.multiplicity import adjusted, dunnett, e_bh, fcr_level, simultaneous_level

type Family = Literal["success", "guardrail", "exploratory", "segments"]

_OF_ROLE: dict[str, Family] = {"primary": "success", "guardrail": "guardrail"}
_SPELLED = {
    # Holm rejects more than any set of simple simultaneous intervals can show.
    "holm": "holm (intervals: bonferroni)",
    "bonferroni": "bonferroni",
    "dunnett": "dunnett",
    "benjamini_hochberg": "benjamini_hochberg (intervals: false coverage rate)",
    "benjamini_yekutieli": "benjamini_yekutieli (intervals: false coverage rate)",
    "e_bh": "e_bh (intervals: false coverage rate)",
}


def family_of(row: RowDraft) -> Family:
    """The comparisons among which a row is corrected."""
    if row["segment"] is not None:
        return "segments"
    return _OF_ROLE.get(row["role"], "exploratory")


def correct(
    plan: AnalysisPlan,
    drafts: Sequence[RowDraft],
    levels: Levels,
    situation: Situation,
    *,
    scheduled: Mapping[Key, Course] | None = None,
    arm_variance: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Add family, corrected and deciding numbers to the drafts. Those beyond the rows of `levels` have no data.

    `scheduled` are the monitors of a group-sequential plan by metric and variant; `arm_variance` (V,) by metric are
    squared standard errors of the arms, from which Dunnett's correlations follow (without: from the units).
    """
    places: dict[Family, list[int]] = {"success": [], "guardrail": [], "exploratory": [], "segments": []}
    for i, draft in enumerate(drafts):
        draft["family"] = family_of(draft)
        places[draft["family"]].append(i)
    work = _Work(plan, list(drafts), levels, situation)
    work.success(places["success"], scheduled or {}, arm_variance or {})
    work.guardrail(places["guardrail"])
    work.findings(places["exploratory"], deciding=True)
    work.findings(places["segments"], deciding=False)


def arm_variances(shapes: Sequence[BlockShapes], heads: Sequence[Effects]) -> dict[str, list[float]]:
    """Squared standard errors (V,) of every metric's arms, everybody: what Dunnett's correlations follow from."""
    return {
        metric.metric_key: head.estimates.variance[0, :, m].tolist()
        for known, head in zip(shapes, heads, strict=True)
        for m, metric in enumerate(known.metrics)
    }


@dataclass(slots=True, eq=False)
class _Work:
    plan: AnalysisPlan
    rows: list[RowDraft]
    levels: Levels
    situation: Situation

    @property
    def alpha(self) -> float:
        return 1 - self.plan.estimation.ci_level

    def _numbers(self, where: Sequence[int], name: str) -> Floats:
        """(m,) of a field, nan where it is null."""
        found = (self.rows[i].get(name) for i in where)
        return np.array([np.nan if number is None else number for number in found], dtype=np.float64)

    def success(
        self,
        where: Sequence[int],
        scheduled: Mapping[Key, Course],
        arm_variance: Mapping[str, Sequence[float]],
    ) -> None:
        """Familywise: Holm, Bonferroni or Dunnett over primaries x variants, or nothing."""
        method = self.plan.estimation.correction
        p = self._numbers(where, "p_value")
        if method == "dunnett":
            self._dunnett(where, arm_variance)
        elif method != "none":
            level = float(simultaneous_level(max(int((~np.isnan(p)).sum()), 1), 1 - self.alpha))
            self._adjust(where, adjusted(p, method), method, level)
        for i in where:
            row = self.rows[i]
            if self.situation.interval == "group_sequential":
                seen = scheduled.get((row["metric_key"], row["variant_key"]))
                if seen is not None:
                    row |= _decision(seen.decision_lower, seen.decision_upper, seen.decision_p_value, seen.crossed)
                    row |= {"sequential_lower": seen.lower, "sequential_upper": seen.upper}
                    row["sequential_p_value"] = seen.p_value
            elif self.situation.interval == "fixed" and self.situation.complete:
                bounds = row["ci_lower"], row["ci_upper"]
                if row.get("correction"):
                    bounds = row["ci_lower_adjusted"], row["ci_upper_adjusted"]
                row |= self._judged(*bounds, row.get("p_value_adjusted", row["p_value"]))
        if self.situation.interval == "always_valid":
            share = 1.0 if method == "none" else 1 / max(len(where), 1)
            # Dunnett's correlations are those of one look; over many looks Bonferroni holds whatever they are.
            stepwise: Literal["holm", "bonferroni", "none"] = "bonferroni" if method == "dunnett" else method
            made = self._numbers(where, "always_valid_p_value")
            corrected = np.where(np.isnan(made), np.nan, adjusted(np.where(np.isnan(made), 1.0, made), stepwise))
            self._decide_always_valid(where, corrected, share)

    def _dunnett(self, where: Sequence[int], arm_variance: Mapping[str, Sequence[float]]) -> None:
        """Within each primary over its variants; Bonferroni over primaries."""
        by_metric: dict[str, list[int]] = {}
        for i in where:
            by_metric.setdefault(self.rows[i]["metric_key"], []).append(i)
        tested = [m for m, at in by_metric.items() if np.isfinite(self._numbers(at, "p_value")).any()]
        share = max(len(tested), 1)
        for metric, at in by_metric.items():
            if metric not in tested:
                self._adjust(at, np.full(len(at), np.nan), "dunnett", 1 - self.alpha)
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                t = self._numbers(at, "difference") / self._numbers(at, "difference_standard_error")
            df = np.where(np.isnan(self._numbers(at, "df")), np.inf, self._numbers(at, "df"))
            counts = [self.rows[at[0]]["n_control"], *(self.rows[i]["n_treatment"] for i in at)]
            units = np.maximum(np.array(counts, dtype=np.float64), 1)
            spread = arm_variance.get(metric)
            variance = None if spread is None else np.asarray(spread, dtype=np.float64)
            p, critical = dunnett(t, df, units, level=1 - self.alpha / share, variance=variance)
            # The level whose single normal interval has Dunnett's critical value.
            level = float(2 * sc.ndtr(float(critical)) - 1)
            self._adjust(at, np.minimum(np.asarray(p) * share, 1.0), "dunnett", level)

    def guardrail(self, where: Sequence[int]) -> None:
        """Not corrected: all of them must clear (intersection-union)."""
        self._decide_uncorrected(where)

    def findings(self, where: Sequence[int], *, deciding: bool) -> None:
        """False discovery rate over a list of findings, with intervals at the false coverage rate for the selected."""
        method = self.plan.estimation.exploratory_correction
        if not where:
            return
        if method == "none":
            if deciding:
                self._decide_uncorrected(where)
            return
        if method == "e_bh":
            chosen, evidence = e_bh(self._numbers(where, "log_e_value"), self.alpha)
            q = np.exp(-np.maximum(evidence, 0.0))
            size = int((~np.isnan(q)).sum())
            share = max(int(chosen.sum()), 1) / max(size, 1)
            self._adjust_by_evidence(where, q, chosen, min(share, 1.0))
            if deciding and self.situation.deciding:
                self._decide_always_valid(where, q, min(share, 1.0))
            return
        q = adjusted(self._numbers(where, "p_value"), method)
        level, chosen = self._false_coverage(q)
        self._adjust(where, q, method, level, only=chosen)
        if not deciding or not self.situation.deciding:
            return
        if self.situation.margins == "fixed":
            bounds = self.levels.fixed(level)
            for i, number in zip(where, q.tolist(), strict=True):
                ends = _at(bounds.lift_lower, i), _at(bounds.lift_upper, i)
                self.rows[i] |= self._judged(*ends, finite(number))
            return
        made = self._numbers(where, "always_valid_p_value")
        late = np.where(np.isnan(made), np.nan, adjusted(np.where(np.isnan(made), 1.0, made), method))
        share = max(int((late <= self.alpha).sum()), 1) / len(where)
        self._decide_always_valid(where, late, share)

    def _false_coverage(self, q: Floats) -> tuple[float, Bools]:
        with np.errstate(invalid="ignore"):
            chosen = np.asarray(q <= self.alpha)
        size = max(int((~np.isnan(q)).sum()), 1)
        return float(fcr_level(chosen, 1 - self.alpha, tests=size)), chosen

    def _adjust(self, where: Sequence[int], p: Floats, method: str, level: float, *, only: Bools | None = None) -> None:
        bounds = self.levels.fixed(level)
        for k, (i, number) in enumerate(zip(where, p.tolist(), strict=True)):
            shown = only is None or bool(only[k])
            self.rows[i] |= {
                "correction": _SPELLED[method],
                "p_value_adjusted": finite(number),
                "ci_lower_adjusted": _at(bounds.lift_lower, i) if shown else None,
                "ci_upper_adjusted": _at(bounds.lift_upper, i) if shown else None,
                "difference_ci_lower_adjusted": _at(bounds.difference_lower, i) if shown else None,
                "difference_ci_upper_adjusted": _at(bounds.difference_upper, i) if shown else None,
            }

    def _adjust_by_evidence(self, where: Sequence[int], q: Floats, chosen: Bools, share: float) -> None:
        lower, upper = self.levels.always_valid(share)
        for i, number, selected in zip(where, q.tolist(), chosen.tolist(), strict=True):
            self.rows[i] |= {
                "correction": _SPELLED["e_bh"],
                "p_value_adjusted": finite(number),
                "ci_lower_adjusted": _at(lower, i) if selected else None,
                "ci_upper_adjusted": _at(upper, i) if selected else None,
            }

    def _decide_always_valid(self, where: Sequence[int], p: Floats, share: float) -> None:
        lower, upper = self.levels.always_valid(share)
        for i, number in zip(where, p.tolist(), strict=True):
            self.rows[i] |= self._judged(_at(lower, i), _at(upper, i), finite(number))

    def _decide_uncorrected(self, where: Sequence[int]) -> None:
        if not self.situation.deciding:
            return
        for i in where:
            row = self.rows[i]
            if self.situation.margins == "fixed":
                self.rows[i] |= self._judged(row["ci_lower"], row["ci_upper"], row["p_value"])
            else:
                bounds = row["always_valid_lower"], row["always_valid_upper"]
                self.rows[i] |= self._judged(*bounds, row["always_valid_p_value"])

    def _judged(self, lower: float | None, upper: float | None, p: float | None) -> RowDraft:
        return _decision(lower, upper, p, None if p is None else p <= self.alpha)


def _decision(lower: float | None, upper: float | None, p: float | None, significant: bool | None) -> RowDraft:
    return {"decision_lower": lower, "decision_upper": upper, "decision_p_value": p, "significant": significant}


def _at(bound: Bound, i: int) -> float | None:
    """Rows of metrics without data come after those that the bounds are about."""
    return bound[i] if i < len(bound) else None
