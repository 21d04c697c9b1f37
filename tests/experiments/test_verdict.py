"""The verdict's truth table, and its error rates on null data."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from experiments.definitions import Estimation
from experiments.evidence import Block, build
from experiments.evidence.corrections import correct
from experiments.evidence.levels import Bounds, Levels
from experiments.evidence.rows import validated
from experiments.evidence.safety import within
from experiments.plan import AnalysisPlan
from experiments.result import Check, Row
from experiments.verdict import Situation, Verdict, decision_interval, holm, verdict
from stats.moment_set import MomentSet
from stats.moments import Moments
from tests.experiments.evidence_cases import END, context, plan_of, planned, spec, variants

PLAN = plan_of([planned(spec("m"), "primary")])
ARMS = plan_of([planned(spec("m"), "primary")], variants(3))
GOOD = {"difference": 1.0, "lift": 0.10, "ci_lower": 0.05, "ci_upper": 0.15, "p_value": 0.001}
BAD = {"difference": -1.0, "lift": -0.10, "ci_lower": -0.15, "ci_upper": -0.05, "p_value": 0.001}
FLAT = {"difference": 0.0, "lift": 0.0, "ci_lower": -0.01, "ci_upper": 0.01, "p_value": 0.9}
PASS = Check(name="sample_ratio", status="pass", detail="fine")
FAIL = Check(name="sample_ratio", status="fail", detail="Exposures are 9 : 1.", remedy="Do not decide.")


def row(numbers: dict[str, Any], role: str = "primary", **extra: Any) -> Row:
    fields: dict[str, Any] = dict.fromkeys(Row.model_fields)
    fields |= {
        "metric_key": f"{role}_metric",
        "metric_version": 1,
        "metric_name": f"{role} metric",
        "unit": "",
        "variant_key": "v1",
        "role": role,
        "direction": "increase",
        "method": "A1",
        "interval_kind": "log_delta",
        "n_control": 100,
        "n_treatment": 100,
        "ci_level": 0.95,
        "estimable": True,
    }
    named = {
        "always_valid_lower": numbers.get("ci_lower"),
        "always_valid_upper": numbers.get("ci_upper"),
        "always_valid_p_value": numbers.get("p_value"),
    }
    if extra.get("mde") is not None:
        named["equivalent"] = within(extra["mde"], numbers["ci_lower"], numbers["ci_upper"])
    return Row(**(fields | named | numbers | extra))


def guard(numbers: dict[str, Any], safe: bool | None) -> Row:
    return row(numbers, "guardrail", non_inferiority_margin=0.02, non_inferior=safe)


class OwnIntervals(Levels):
    """Rows written by hand have one interval, whatever the level."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__([], 0.05)
        self.rows = rows

    def fixed(self, level: float) -> Bounds:
        lift = [row.ci_lower for row in self.rows], [row.ci_upper for row in self.rows]
        return Bounds(*lift, *([None] * len(self.rows) for _ in range(2)))

    def always_valid(self, share: float) -> tuple[list[float | None], list[float | None]]:
        return [row.always_valid_lower for row in self.rows], [row.always_valid_upper for row in self.rows]


def situation_of(interval: str = "fixed", full_weeks: int = 2) -> Situation:
    fixed = interval == "fixed"
    return Situation(interval, complete=fixed, running=not fixed, early=False, full_weeks=full_weeks)


def decide(*rows: Row, plan: AnalysisPlan = PLAN, checks: list[Check] | None = None, **extra: Any) -> Verdict:
    situation = situation_of(**extra)
    drafts = [dict(row) for row in rows]
    correct(plan, drafts, OwnIntervals(rows), situation)
    return verdict(plan, validated(drafts), [PASS] if checks is None else checks, situation)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(GOOD)], "better"),
        ([row(BAD)], "worse"),
        ([row(FLAT)], "inconclusive"),
        ([row(FLAT, mde=0.02)], "equivalent"),
        ([row(FLAT, mde=0.005)], "inconclusive"),
        ([row(GOOD), guard(FLAT, True)], "better"),
        ([row(GOOD), guard(FLAT, False)], "inconclusive"),
        ([row(GOOD), guard(FLAT, None)], "inconclusive"),
        ([row(GOOD), guard(BAD, False)], "worse"),
        ([row(GOOD), guard(BAD, True)], "better"),
        ([row(FLAT), guard(BAD, False)], "worse"),
        ([row(FLAT, mde=0.02), guard(BAD, True)], "equivalent"),
        ([row(BAD, direction="decrease")], "better"),
        ([row(GOOD, direction="decrease")], "worse"),
        ([row(GOOD, role="secondary"), row(FLAT)], "inconclusive"),
        ([row(BAD, role="monitor"), row(GOOD)], "better"),
        ([row(GOOD, segment="de", segment_dimension="country"), row(FLAT)], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_the_verdict_follows_its_truth_table(rows, expected):
    found = decide(*rows)
    assert found.outcome == expected
    assert found.reasons and all(reason.endswith(".") for reason in found.reasons)
    assert found.variant == ("v1" if expected in ("better", "worse") else None)


def test_a_failed_check_outweighs_every_effect_and_gives_its_detail_and_remedy():
    found = decide(row(GOOD), checks=[PASS, FAIL])
    assert found == Verdict("unreliable", None, ("Exposures are 9 : 1. Do not decide.",))


def test_better_needs_a_full_week_but_worse_does_not():
    assert decide(row(GOOD), full_weeks=0).outcome == "inconclusive"
    assert "week" in decide(row(GOOD), full_weeks=0).reasons[-1]
    assert decide(row(BAD), full_weeks=0).outcome == "worse"


def test_while_running_only_the_always_valid_numbers_count():
    early = row(GOOD, always_valid_lower=-0.01, always_valid_upper=0.2, always_valid_p_value=0.3)
    assert decide(early, interval="always_valid").outcome == "inconclusive"
    assert decide(early, interval="fixed").outcome == "better"
    silent = row(GOOD, always_valid_lower=None, always_valid_upper=None, always_valid_p_value=None)
    found = decide(silent, interval="always_valid")
    assert found.outcome == "inconclusive" and "too few or too skewed" in found.reasons[0]


def test_each_variant_is_judged_by_itself_and_the_best_one_wins():
    best = row(GOOD | {"lift": 0.2, "difference": 2.0}, variant_key="v2")
    found = decide(row(GOOD), best, plan=ARMS)
    assert (found.outcome, found.variant) == ("better", "v2")
    harmed_elsewhere = decide(row(BAD), best, plan=ARMS)
    assert (harmed_elsewhere.outcome, harmed_elsewhere.variant) == ("better", "v2")
    assert "of v2" in found.reasons[0]


def test_many_primaries_share_one_alpha():
    weak = GOOD | {"p_value": 0.03}
    assert decide(row(weak)).outcome == "better"
    assert decide(row(weak), row(FLAT, metric_key="other")).outcome == "inconclusive"


def test_reasons_carry_the_numbers():
    (reason,) = decide(row(GOOD), interval="always_valid").reasons
    assert reason == (
        "primary metric is better than control: lift +10.00 %, 95 % always-valid interval +5.00 % to +15.00 %."
    )


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03], [0.2], [], [0.0, 0.05, 0.05, 1.0, 0.05], [0.001, 0.001]])
def test_holm_is_that_of_statsmodels(p):
    expected = multipletests(p, method="holm")[1].tolist() if p else []
    assert holm(p) == pytest.approx(expected)


def test_missing_p_values_stay_missing_and_do_not_count():
    assert holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])


@pytest.mark.parametrize(
    ("running", "until", "planned_end", "expected"),
    [
        (True, END, END, "always_valid"),
        (True, END + timedelta(days=1), END, "always_valid"),
        (False, END, END, "fixed"),
        (False, END - timedelta(days=1), END, "always_valid"),
        (False, END, None, "fixed"),
    ],
)
def test_which_interval_decides(running, until, planned_end, expected):
    plan = plan_of([planned(spec("m"), "primary")], planned_end_at=planned_end)
    assert decision_interval(plan, running=running, exposed_until=until) == expected


def test_until_the_last_windows_are_complete_every_analysis_is_another_look():
    ended = {"running": False, "exposed_until": END}
    assert decision_interval(PLAN, **ended, ripening=True) == "always_valid"
    assert decision_interval(PLAN, **ended, ripening=False) == "fixed"


def null_experiments(experiments: int, looks: int, per_look: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative means and co-moments of two null metrics in two arms: (experiments, looks, 2, 2[, 2])."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(10, 3, (experiments, looks, 2, per_look, 2))
    count = per_look * np.arange(1, looks + 1)
    total = rows.sum(axis=3).cumsum(axis=1)
    mean = total / count[None, :, None, None]
    raw = np.einsum("elani,elanj->elaij", rows, rows).cumsum(axis=1)
    comoment = raw - count[None, :, None, None, None] * mean[..., :, None] * mean[..., None, :]
    return mean, comoment


def false_verdicts(experiments: int, looks: int, *, running: bool, seed: int) -> tuple[float, float]:
    """Shares of A/A experiments that were ever called better or worse, looked at every day or once at the end."""
    per_look = 200
    plan = plan_of(
        [planned(spec("m"), "primary"), planned(spec("g"), "guardrail", non_inferiority_margin=0.02)],
        planned_units=looks * per_look * 2,
        estimation=Estimation(cuped=False, engine="frequentist"),
    )
    mean, comoment = null_experiments(experiments, looks, per_look, seed)
    outcomes = []
    for e in range(experiments):
        seen = set()
        for look in range(looks) if running else [looks - 1]:
            count = np.full((1, 2), per_look * (look + 1))
            overall = Moments(count, mean[e, look][None], comoment[e, look][None], np.zeros((1, 2, 2)))
            moments = MomentSet(("m", "g"), ("control", "v1"), (END,), overall, (), Moments.empty((0, 2), 2), count)
            stopped = None if running else END
            seen.add(build(plan, [Block(("m", "g"), moments)], context(stopped_at=stopped)).document.verdict)
        outcomes.append(seen)
    better, worse = (float(np.mean([word in seen for seen in outcomes])) for word in ("better", "worse"))
    return better, worse


@pytest.mark.parametrize("running", [False, True])
def test_null_experiments_are_rarely_called_better_or_worse(running):
    """A small version of the A/A simulation; tolerance 3 standard errors of the replications."""
    experiments = 250 if not running else 60
    better, worse = false_verdicts(experiments, 8, running=running, seed=5)
    allowed = 0.025 + 3 * np.sqrt(0.025 * 0.975 / experiments)
    assert better <= allowed
    assert worse <= allowed


@pytest.mark.simulation
@pytest.mark.parametrize("running", [False, True])
def test_a_a_false_verdicts_stay_below_alpha(running):
    experiments = 4000 if not running else 800
    better, worse = false_verdicts(experiments, 14, running=running, seed=6)
    allowed = 0.025 + 3 * np.sqrt(0.025 * 0.975 / experiments)
    assert better <= allowed
    assert worse <= allowed
