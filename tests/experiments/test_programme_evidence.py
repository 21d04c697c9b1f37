"""What a programme says: totals beside what others make of them, every claim beside what is believed (METHODS F)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Direction
from experiments.evidence import programme_result
from experiments.evidence.programme_sums import sums_of
from experiments.plan import HoldoutEvidence, MissingEffect, ProgrammeEffect, ProgrammePlan
from experiments.result import ProgrammeResult
from stats.programme.totals import programme

AT = datetime(2026, 9, 1, tzinfo=UTC)


def effect(key: str, log_lift: float, *, error: float = 0.01, shipped: bool = False, **changes: Any) -> ProgrammeEffect:
    values: dict[str, Any] = {
        "experiment_key": key, "name": key, "team": None, "owner": "", "variant_key": "new", "variants": 1,
        "analysis_id": "a", "data_as_of": AT, "verdict": "better", "log_lift": log_lift, "standard_error": error,
        "topline_log_lift": log_lift, "topline_standard_error": error, "topline_source": "measured",
        "evidence_grade": "A", "bias_sd": 0.0, "started_at": AT - timedelta(days=60),
        "stopped_at": AT - timedelta(days=30), "outcome": "ship" if shipped else "iterate",
        "decided_at": AT - timedelta(days=20), "shipped": shipped, "launch_key": f"{key}-launch" if shipped else None,
    }  # fmt: skip
    return ProgrammeEffect(**values | changes)


def plan_of(effects: list[ProgrammeEffect], **changes: Any) -> ProgrammePlan:
    values: dict[str, Any] = {
        "metric_key": "orders", "metric_name": "Orders", "direction": "increase", "started": len(effects),
        "effects": effects, "missing": [], "holdouts": [],
    }  # fmt: skip
    return ProgrammePlan(**values | changes)


def found(plan: ProgrammePlan) -> ProgrammeResult:
    return programme_result(plan, analysis_id="a", data_as_of=AT, code_version="test")


def history(sign: float = 1.0, number: int = 24) -> list[ProgrammeEffect]:
    """Effects with a spread of 1 %, those shipped that measured well."""
    rng = np.random.default_rng(3)
    measured = 0.01 * rng.standard_t(4, number) + 0.01 * rng.standard_normal(number)
    return [
        effect(f"e{i}", sign * float(x), shipped=bool(x > 0.0164), decided_at=AT - timedelta(days=number - i))
        for i, x in enumerate(measured)
    ]


def test_the_total_leads_and_adds_up_to_what_is_believed_of_each() -> None:
    effects = history()
    document = found(plan_of(effects))
    believed = programme([each.log_lift for each in effects], [0.01] * len(effects))
    shipped = np.array([each.shipped for each in effects])
    first, naive = document.totals[:2]
    assert (first.method, first.leads, naive.method, naive.leads) == ("full_bayes", True, "naive_sum", False)
    assert first.log_total == pytest.approx(believed.totals(shipped).mean[0])
    assert first.log_total == pytest.approx(sum(each.shrunk for each in document.effects if each.shipped), rel=1e-5)
    assert first.lift == pytest.approx(np.expm1(first.log_total))
    assert naive.log_total == pytest.approx(sum(each.log_lift for each in effects if each.shipped))
    assert len({total.method for total in document.totals}) == 7
    assert document.exaggeration == pytest.approx(naive.log_total / first.log_total) and document.exaggeration > 1.2
    last = document.cumulative[-1]
    assert (last.lift, last.claimed_lift) == pytest.approx((first.lift, naive.lift))
    assert [point.at for point in document.cumulative] == sorted(point.at for point in document.cumulative)
    chances = [each.chance_positive for each in document.effects if each.shipped]
    assert document.false_sign_rate == pytest.approx(1 - np.mean(chances))
    assert document.harmful_ships == pytest.approx(len(chances) - sum(chances))
    assert document.wins_for_80 is not None and 1 <= document.wins_for_80 <= len(chances)
    assert all((each.share_of_total is not None) == each.shipped for each in document.effects)
    assert document.estimable and document.completeness.check.status == "pass"
    assert ProgrammeResult.model_validate_json(document.model_dump_json()) == document


def test_a_metric_that_should_fall_is_the_mirror_image() -> None:
    up, down = found(plan_of(history())), found(plan_of(history(-1.0), direction=Direction.DECREASE))
    assert down.totals[0].log_total == pytest.approx(-up.totals[0].log_total)
    assert down.totals[0].lift < 0 and down.totals[0].lower_95 is not None
    assert down.totals[0].lower_95 < down.totals[0].lift < (down.totals[0].upper_95 or 0)
    assert down.false_sign_rate == pytest.approx(up.false_sign_rate)
    assert down.wins_for_80 == up.wins_for_80
    for mine, theirs in zip(down.effects, up.effects, strict=True):
        assert mine.shrunk == pytest.approx(-theirs.shrunk)
        assert mine.chance_positive == pytest.approx(theirs.chance_positive)
        assert mine.shrunk_lower_95 <= mine.shrunk_lower_80 < mine.shrunk_upper_80 <= mine.shrunk_upper_95


def test_weak_evidence_is_believed_less_and_the_companys_effect_counts() -> None:
    graded = history()
    graded[0] = effect("e0", 0.04, shipped=True, evidence_grade="B", bias_sd=0.01)
    part = [*history()[1:], effect("e0", 0.04, shipped=True, topline_log_lift=0.01, topline_standard_error=0.0025)]
    strong = [*history()[1:], effect("e0", 0.04, shipped=True)]
    believed = {
        name: next(each for each in found(plan_of(effects)).effects if each.experiment_key == "e0").shrunk
        for name, effects in (("graded", graded), ("part", part), ("strong", strong))
    }
    assert believed["part"] < 0.01 < believed["graded"] < believed["strong"]


def test_without_ships_or_effects_there_is_no_total_and_the_reason_is_said() -> None:
    nothing = found(plan_of([]))
    assert (nothing.estimable, nothing.reason, nothing.totals, nothing.mean) == (False, "no_effects", [], None)
    unshipped = found(plan_of([effect("a", 0.01), effect("b", -0.01)]))
    assert (unshipped.estimable, unshipped.reason, unshipped.totals) == (False, "nothing_shipped", [])
    assert len(unshipped.effects) == 2 and unshipped.false_sign_rate is None


def test_what_is_missing_and_what_is_never_recorded_are_warned_of() -> None:
    gaps = [MissingEffect(experiment_key=f"m{i}", name="m", reason="never_analysed") for i in range(4)]
    partial = found(plan_of(history(), missing=gaps, started=28))
    assert partial.completeness.check.status == "warn" and partial.completeness.share == pytest.approx(24 / 28)
    assert partial.completeness.missing[0]["reason"] == "never_analysed"

    def status(plan: ProgrammePlan, name: str) -> str:
        return next(check.status for check in found(plan).checks if check.name == name)

    winners = [each for each in history() if each.shipped]
    assert status(plan_of(winners), "losers_on_record") == "warn"
    assert status(plan_of(history()), "losers_on_record") == "pass"
    several = [*history(), effect("x", 0.05, shipped=True, variants=4, topline_source="everybody")]
    assert status(plan_of(several), "choice_among_variants") == status(plan_of(several), "reach") == "warn"


def test_a_history_of_winners_is_corrected_by_assumption() -> None:
    winners = [each for each in history(number=60) if each.shipped]
    plain, corrected = found(plan_of(winners)), found(plan_of(winners, winners_only=True))
    assert corrected.selection_corrected_by_assumption and not plain.selection_corrected_by_assumption
    assert corrected.mean is None and corrected.tau is None
    assert 0 < corrected.totals[0].log_total < plain.totals[0].log_total < plain.totals[1].log_total
    assert corrected.cumulative[-1].lift == pytest.approx(corrected.totals[0].lift)


def test_a_holdout_says_what_it_cannot_tell() -> None:
    effects = history()
    launches = [each.launch_key for each in effects if each.launch_key]
    values: dict[str, Any] = {
        "holdout_key": "h", "name": "Held", "experiment_key": "held", "share": 0.05,
        "started_at": AT - timedelta(days=200), "released_at": None, "launch_keys": [*launches, "blind"],
        "analysis_id": "a", "log_lift": 0.02, "standard_error": 0.03, "contaminated_share": 0.04, "failed_checks": [],
    }  # fmt: skip
    plan = plan_of(effects, holdouts=[HoldoutEvidence(**values)])
    held = found(plan).holdouts[0]
    sums = sums_of(plan)
    assert sums is not None and held.claimed == pytest.approx(sums.totals(sums.shipped).mean[0])
    assert held.needed_standard_error == pytest.approx(0.3 * abs(held.claimed or 0) / 1.96, rel=1e-3)
    assert {check.name: check.status for check in held.checks} == {
        "sample_ratio": "pass", "contamination": "warn", "length": "warn", "precision": "warn",
        "unclaimed_launches": "warn",
    }  # fmt: skip
    broken = values | {"reason": "unreliable", "failed_checks": ["sample_ratio"], "log_lift": None}
    distrusted = found(plan_of(effects, holdouts=[HoldoutEvidence(**broken | {"standard_error": None})])).holdouts[0]
    assert (distrusted.kappa, distrusted.reason) == (None, "unreliable")
    assert distrusted.checks[0].status == "fail"
    alone = found(plan_of([effect("a", 0.01)], holdouts=[HoldoutEvidence(**values)])).holdouts[0]
    assert (alone.kappa, alone.claimed, alone.reason) == (None, None, "no_claims")
    late = values | {"live": dict.fromkeys(launches, 0.25)}
    checks = {
        each.name: each for each in found(plan_of(effects, holdouts=[HoldoutEvidence(**late)])).holdouts[0].checks
    }
    assert checks["time_live"].status == "warn" and "25%" in checks["time_live"].detail
    assert "4.0 times" in checks["time_live"].remedy


def test_a_change_that_was_replicated_and_shipped_again_counts_once() -> None:
    first, others = effect("first", 0.02, shipped=True), history()
    again = effect("again", 0.01, shipped=True).model_copy(update={"replicates": "first"})
    unlinked = again.model_copy(update={"replicates": None})
    twice, once = (found(plan_of([*others, first, each])) for each in (unlinked, again))
    assert (once.shipped, once.experiments) == (twice.shipped - 1, twice.experiments)
    claimed = [next(each for each in of.totals if each.method == "naive_sum").log_total for of in (twice, once)]
    assert claimed[0] - claimed[1] == pytest.approx(0.02)
    assert len(once.cumulative) == once.shipped and once.cumulative[-1].experiment_key != "first"
    assert [each.name for each in once.checks if each.name == "replicated_ships"] and once.mean == twice.mean
    lost = again.model_copy(update={"shipped": False, "outcome": "roll_back"})
    assert found(plan_of([*others, first, lost])).shipped == once.shipped, "the first one stays until it is decided on"
