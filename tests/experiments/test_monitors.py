"""Group-sequential plans: looks by information, decisions at their bounds, and a past that never changes (B2)."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.special as sc

from experiments.definitions import Estimation, Sequential
from experiments.evidence.schedule import planned_fractions, scheduled_looks
from experiments.plan import AnalysisPlan
from experiments.result import ExperimentResult
from stats.group_sequential import SpendingDesign, boundaries, inflation
from tests.experiments.evidence_cases import START, context, document, moment_set, plan_of, planned, row_of, spec

DAYS, PER_DAY = 28, 300
NEVER = START + timedelta(days=400)


def design(*, mde: float | None = 0.02, days: int = DAYS, primaries: int = 1, **extra: Any) -> AnalysisPlan:
    sequential = {"method": "group_sequential", "look_every_days": 7} | extra.pop("sequential", {})
    metrics = [planned(spec(f"m{i}", window_days=1), "primary", mde=mde) for i in range(primaries)]
    guard = planned(spec("g", window_days=1), "guardrail", non_inferiority_margin=0.05)
    options = Estimation(cuped=False, engine="frequentist", sequential=Sequential.model_validate(sequential))
    fields = {"planned_units": PER_DAY * days, "planned_end_at": START + timedelta(days=days), "estimation": options}
    return plan_of([*metrics, guard], **(fields | extra))


def at_day(
    day: int, effect: float = 0.0, plan: AnalysisPlan | None = None, *, stopped: datetime | None = None, seed: int = 1
) -> ExperimentResult:
    """The result of day `day`: units arrive evenly, and each is complete one day after it came."""
    plan = plan or design()
    rng = np.random.default_rng(seed)
    look = np.repeat(np.arange(DAYS + 7), PER_DAY)
    arm = rng.integers(0, 2, look.size)
    values = rng.normal(10, 3, (look.size, len(plan.metrics)))
    values[:, 0] += arm * effect
    seen = look < day
    moments = moment_set(plan, values[seen], arm[seen], look=look[seen])
    moments = replace(moments, looks=tuple(START + timedelta(days=d + 2) for d in range(day)))
    return document(plan, moments, data_as_of=START + timedelta(days=day + 1), stopped_at=stopped)


def taken(result: ExperimentResult) -> list[Any]:
    return [look for look in result.sequential[0].looks if look.at is not None]


def test_past_looks_and_their_bounds_never_change_when_a_look_is_added():
    courses = [taken(at_day(day, 0.1)) for day in (7, 10, 14, 20, 21, 27, 28, 33)]
    assert [len(course) for course in courses] == [1, 1, 2, 2, 3, 3, 4, 4]
    for earlier, later in pairwise(courses):
        for before, after in zip(earlier, later, strict=False):
            # The same data in another number of pieces: sums differ in the last digits.
            numbers = {"information_fraction", "alpha_spent", "upper", "z", "lift_lower", "lift_upper"}
            assert after.at == before.at
            for name in numbers:
                assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-9)
    assert [look.at for look in courses[-1]] == [START + timedelta(days=d + 1) for d in (7, 14, 21, 28)]


def test_information_is_one_over_the_squared_error_against_what_the_mde_needs():
    result = at_day(21)
    monitor, row = result.sequential[0], row_of(result, "m0")
    errors = result.decision_errors
    assert errors is not None
    plan = SpendingDesign(alpha=0.05, power=errors.power_per_test, planned=(0.25, 0.5, 0.75, 1.0))
    signal = sc.ndtri(0.975) + sc.ndtri(errors.power_per_test)
    assert monitor.maximum_information == pytest.approx(inflation(plan) * (signal / np.log(1.02)) ** 2)
    log_error = row.standard_error / (1 + row.lift)
    seen = taken(result)[-1]
    assert seen.information_fraction == pytest.approx(1 / log_error**2 / monitor.maximum_information)
    assert seen.upper == pytest.approx(
        boundaries(plan, [look.information_fraction for look in taken(result)]).upper[-1]
    )
    assert seen.z == pytest.approx(np.log1p(row.lift) / log_error, rel=2e-3)


def test_a_clear_win_ships_at_the_look_that_crossed_and_stays_decided():
    early, late = at_day(14, 0.25), at_day(28, 0.25)
    for result in (early, late):
        assert (result.verdict, result.recommendation.action) == ("better", "ship")
        assert result.decision_interval == "group_sequential"
        monitor, row = result.sequential[0], row_of(result, "m0")
        assert (monitor.stopped_for, monitor.stopped_at) == ("efficacy", START + timedelta(days=15))
        stop = taken(result)[1]
        assert (row.decision_lower, row.decision_upper) == (stop.lift_lower, stop.lift_upper)
        assert row.significant and row.decision_p_value <= 0.05 and row.decision_lower > 0
        assert monitor.ci_lower < monitor.estimate < monitor.ci_upper and monitor.p_value < 0.05
        assert monitor.estimate == pytest.approx(at_day(14, 0.25).sequential[0].estimate)


def test_between_looks_nothing_new_can_be_decided():
    # On day 13 the difference is as clear as on day 14, but no look is due.
    assert at_day(13, 0.25).verdict == "inconclusive"
    assert at_day(14, 0.25).verdict == "better"


def test_harm_at_a_bound_rolls_back():
    result = at_day(28, -0.3)
    assert (result.sequential[0].stopped_for, result.recommendation.action) == ("harm", "roll_back")
    assert result.verdict == "worse"


def test_early_bounds_that_nothing_can_cross_are_null_and_so_are_their_intervals():
    result = at_day(2, 0.25, design(sequential={"look_every_days": 1}))
    (look, *_) = taken(result)
    assert look.information_fraction < 0.05 and look.z is not None
    assert (look.upper, look.lift_lower, look.lift_upper) == (None, None, None)
    row = row_of(result, "m0")
    assert (row.decision_lower, row.decision_p_value, row.significant) == (None, None, False)
    assert "no scheduled look that could decide yet" in result.verdict_reasons[0]


def test_the_final_look_spends_all_that_is_left_whatever_its_information():
    short = at_day(28, 0.0)
    assert taken(short)[-1].information_fraction < 1
    assert taken(short)[-1].alpha_spent == pytest.approx(0.05)
    assert short.recommendation.action in ("iterate", "archive")
    over = at_day(33, 0.0, design(mde=0.026))
    (*_, final) = taken(over)
    assert final.information_fraction > 1 and final.alpha_spent == pytest.approx(0.05)
    assert final.at < START + timedelta(days=29), "looks after the maximum was reached do not count"


def test_several_primaries_share_alpha_and_each_may_stop_alone():
    one, two = at_day(14, 0.5), at_day(14, 0.5, design(primaries=2))
    assert [m.stopped_for for m in two.sequential] == ["efficacy", None]
    assert two.decision_errors.alpha_per_success_test == pytest.approx(0.025)
    assert taken(two)[-1].upper > taken(one)[-1].upper
    row = row_of(two, "m0")
    assert row.decision_p_value == pytest.approx(2 * row.sequential_p_value)


@pytest.mark.parametrize(("kind", "stops"), [("binding", 14), ("non_binding", 14)])
def test_crossing_a_futility_bound_ends_in_another_iteration(kind, stops):
    plan = design(sequential={"futility": kind})
    result = at_day(stops, -0.1, plan, seed=2)
    assert result.sequential[0].stopped_for == "futility"
    assert (result.recommendation.action, result.recommendation.rule) == ("iterate", 4)
    assert all(look.futility is not None for look in result.sequential[0].looks[1:])


def test_non_binding_futility_may_be_overruled_and_binding_may_not():
    # The same course falls below the bound at the first look and recovers.
    moved = {kind: design(sequential={"futility": kind, "spending": "pocock"}) for kind in ("binding", "non_binding")}
    seeds = [s for s in range(60) if at_day(7, 0.0, moved["binding"], seed=s).sequential[0].stopped_for == "futility"]
    recovered = next(
        s for s in seeds if at_day(14, 0.15, moved["non_binding"], seed=s).sequential[0].stopped_for is None
    )
    course = at_day(14, 0.15, moved["binding"], seed=recovered).sequential[0]
    first = course.looks[0]
    assert course.stopped_for == ("futility" if first.z < first.futility else None)


def test_without_an_mde_the_planned_units_are_the_clock():
    result = at_day(14, 0.0, design(mde=None))
    row = row_of(result, "m0")
    units = row.n_control + row.n_treatment
    assert taken(result)[-1].information_fraction == pytest.approx(units / (PER_DAY * DAYS))


def test_stopping_early_takes_one_more_look_and_spends_only_what_is_due():
    end = START + timedelta(days=10)
    result = at_day(10, 0.0, stopped=end)
    assert [look.at for look in taken(result)] == [START + timedelta(days=8), START + timedelta(days=11)]
    assert taken(result)[-1].alpha_spent < 0.01
    assert result.recommendation.action == "iterate" and "before its planned end" in result.verdict_reasons[-1]


def test_a_weak_baseline_is_monitored_on_the_difference():
    plan = design()
    rng = np.random.default_rng(4)
    look = np.repeat(np.arange(14), PER_DAY)
    arm = rng.integers(0, 2, look.size)
    values = rng.normal(0.05, 3, (look.size, 2)) + 2 * arm[:, None]
    moments = replace(
        moment_set(plan, values, arm, look=look), looks=tuple(START + timedelta(days=d + 2) for d in range(14))
    )
    result = document(plan, moments, data_as_of=START + timedelta(days=15), stopped_at=None)
    monitor, row = result.sequential[0], row_of(result, "m0")
    assert row.lift is None and monitor.looks[0].z is not None
    assert monitor.looks[0].lift_lower is None and monitor.estimate is None


def test_a_fixed_plan_decides_once_every_window_is_complete():
    fixed = {"method": "fixed"}
    end = START + timedelta(days=DAYS)
    assert at_day(27, 0.25, design(sequential=fixed)).recommendation.action == "keep_running"
    ripe = at_day(28, 0.25, design(sequential=fixed), stopped=end)
    assert (ripe.verdict, ripe.decision_interval) == ("better", "fixed")
    early = at_day(20, 0.25, design(sequential=fixed), stopped=START + timedelta(days=20))
    assert early.verdict == "inconclusive" and row_of(early, "m0").significant is None
    unripe = at_day(27, 0.25, design(sequential=fixed), stopped=end)
    assert unripe.recommendation.action == "keep_running"
    assert at_day(27, -0.6, design(sequential=fixed)).recommendation.action == "roll_back"


def test_a_scheduled_time_takes_the_latest_look_before_it():
    plan = design()
    looks = [START + timedelta(days=d, hours=5) for d in range(1, 40)]
    running = context(data_as_of=NEVER, stopped_at=None)
    found = scheduled_looks(plan, running, looks)
    assert [(look.at - START).days for look in found] == [7, 14, 21, 28]
    assert [look.final for look in found] == [False, False, False, True]
    assert planned_fractions(plan, START) == (0.25, 0.5, 0.75, 1.0)


@pytest.mark.simulation
@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_null_experiments_with_weekly_looks_ship_and_roll_back_within_alpha(spending):
    replications = 2000
    plan = design(sequential={"spending": spending})
    ends = [at_day(28, 0.0, plan, seed=seed) for seed in range(replications)]
    for word in ("better", "worse"):
        share = float(np.mean([result.verdict == word for result in ends]))
        assert share <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / replications)
