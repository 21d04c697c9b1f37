"""Capped metrics show what the cap did and what they are without it (METHODS A9); ratios show both parts (A4)."""

import numpy as np
import pytest

from experiments.definitions import Estimation
from stats.moment_set import CappedColumn
from tests.experiments.evidence_cases import columns_of, document, moment_set, plan_of, planned, row_of, spec

N = 4000


def shopping(seed: int = 3):
    rng = np.random.default_rng(seed)
    arm = np.arange(N) % 2
    before = rng.gamma(2, 2, N)
    spend = np.exp(rng.normal(1, 1.2, N)) * (1 + 0.05 * arm) + before
    return arm, spend, before


def capped_plan(**extra):
    return plan_of([planned(spec("spend", cap={"quantile": 0.99}, **extra), "primary")])


def cap_of(value, spend, arm):
    return CappedColumn(value, "spend.uncapped", np.bincount(arm[spend > value], minlength=2))


def test_a_capped_row_is_the_capped_column_and_shows_the_uncapped_lift():
    arm, spend, _ = shopping()
    cap = float(np.quantile(spend, 0.99))
    plan = capped_plan()
    assert columns_of(plan) == ("spend", "spend.uncapped")
    values = np.column_stack([np.minimum(spend, cap), spend])
    row = row_of(document(plan, moment_set(plan, values, arm, capped={"spend": cap_of(cap, spend, arm)})), "spend")
    bare = plan_of([planned(spec("spend"), "primary")])
    capped, whole = (row_of(document(bare, moment_set(bare, column[:, None], arm)), "spend") for column in values.T)
    assert row.method == "A1+A9+A3"
    assert (row.lift, row.p_value) == pytest.approx((capped.lift, capped.p_value), rel=1e-12)
    assert row.cap is not None and row.cap.cap == cap
    assert (row.cap.uncapped_lift, row.cap.uncapped_ci_lower, row.cap.uncapped_ci_upper) == pytest.approx(
        (whole.lift, whole.ci_lower, whole.ci_upper), rel=1e-12
    )
    for share, a in ((row.cap.share_control, 0), (row.cap.share_treatment, 1)):
        kept = np.minimum(spend, cap)[arm == a].mean()
        assert share == pytest.approx(1 - kept / spend[arm == a].mean(), rel=1e-10)


def test_the_uncapped_twin_is_adjusted_like_the_metric():
    arm, spend, before = shopping()
    cap = float(np.quantile(spend, 0.99))
    plan = plan_of(
        [planned(spec("spend", cap={"quantile": 0.99}, pre_period_days=14), "primary")],
        estimation=Estimation(cuped=True),
    )
    columns = dict.fromkeys(columns_of(plan))
    assert list(columns) == ["spend", "spend.uncapped", "spend.pre", "no_history.14d"]
    values = np.column_stack([np.minimum(spend, cap), spend, before])
    row = row_of(document(plan, moment_set(plan, values, arm, capped={"spend": cap_of(cap, spend, arm)})), "spend")
    bare = plan_of([planned(spec("spend", pre_period_days=14), "primary")], estimation=Estimation(cuped=True))
    whole = row_of(document(bare, moment_set(bare, np.column_stack([spend, before]), arm)), "spend")
    assert row.method == "A1+A9+A3+A7"
    assert row.cap is not None and row.cap.uncapped_lift == pytest.approx(whole.lift, rel=1e-10)


def test_a_fixed_cap_needs_no_product_of_the_pass_and_an_unknown_one_is_not_shown():
    arm, spend, _ = shopping()
    values = np.column_stack([np.minimum(spend, 20), spend])
    fixed = plan_of([planned(spec("spend", cap={"value": 20}), "primary")])
    row = row_of(document(fixed, moment_set(fixed, values, arm)), "spend")
    assert row.cap is not None and row.cap.cap == 20
    assert row_of(document(capped_plan(), moment_set(capped_plan(), values, arm)), "spend").cap is None


def test_segments_do_not_repeat_the_cap():
    arm, spend, _ = shopping()
    plan = plan_of([planned(spec("spend", cap={"value": 20}), "primary")], segments=["country"])
    values = np.column_stack([np.minimum(spend, 20), spend])
    result = document(plan, moment_set(plan, values, arm, segment=(np.arange(N) // 2) % 2))
    assert row_of(result, "spend", segment="s0").cap is None
    assert row_of(result, "spend", segment="s0").method == "A1+A9+A3"


def test_a_column_that_is_refused_has_a_cap_without_numbers():
    arm, spend, _ = shopping()
    plan = plan_of([planned(spec("spend", cap={"value": 20}), "primary")])
    values = np.column_stack([np.minimum(spend, 20), spend])
    bad = moment_set(plan, values, arm, invalid={"spend.uncapped": "non_finite_values"})
    cap = row_of(document(plan, bad), "spend").cap
    assert cap is not None
    assert (cap.share_control, cap.uncapped_lift, cap.uncapped_ci_upper) == (None, None, None)


def test_a_ratio_shows_the_lifts_of_both_its_parts():
    """Clicks per session rise because sessions fall: the ratio alone would call that a win."""
    rng = np.random.default_rng(2)
    arm = np.arange(N) % 2
    sessions = rng.poisson(8 - 2 * arm, N) + 1.0
    clicks = rng.poisson(3, N).astype(float)
    plan = plan_of([planned(spec("rate", "ratio"), "primary"), planned(spec("clicks")), planned(spec("sessions"))])
    row, *parts = (
        row_of(document(plan, moment_set(plan, np.column_stack([clicks, sessions, clicks, sessions]), arm)), key)
        for key in ("rate", "clicks", "sessions")
    )
    assert row.lift > 0.15 and row.ratio is not None
    for part, alone in zip((row.ratio.numerator, row.ratio.denominator), parts, strict=True):
        assert (part.mean_control, part.mean_treatment, part.lift, part.ci_lower, part.ci_upper) == pytest.approx(
            (alone.mean_control, alone.mean_treatment, alone.lift, alone.ci_lower, alone.ci_upper), rel=1e-12
        )
    assert row.ratio.denominator.ci_upper < 0 and abs(row.ratio.numerator.lift) < 0.05


def test_a_capped_ratio_has_parts_and_a_cap():
    rng = np.random.default_rng(2)
    arm = np.arange(N) % 2
    sessions, clicks = rng.poisson(8, N) + 1.0, rng.poisson(3, N).astype(float)
    plan = plan_of([planned(spec("rate", "ratio", cap={"value": 9}), "primary")])
    assert columns_of(plan) == (
        "rate.numerator",
        "rate.denominator",
        "rate.numerator.uncapped",
        "rate.denominator.uncapped",
    )
    values = np.column_stack([np.minimum(clicks, 9), np.minimum(sessions, 9), clicks, sessions])
    row = row_of(document(plan, moment_set(plan, values, arm)), "rate")
    mine = arm == 0
    assert row.method == "A4+A9+A3"
    assert row.mean_control == pytest.approx(np.minimum(clicks, 9)[mine].sum() / np.minimum(sessions, 9)[mine].sum())
    assert row.cap is not None and row.ratio is not None
    whole = [clicks[arm == a].sum() / sessions[arm == a].sum() for a in (0, 1)]
    assert row.cap.uncapped_lift == pytest.approx(whole[1] / whole[0] - 1, rel=1e-10)
