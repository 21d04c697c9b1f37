"""What an effect is worth over a horizon, and where the uncertainty of that comes from (METHODS E7)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.persistence import PersistenceFit, persistence
from stats.projection import (
    EffectPaths,
    Projection,
    ProjectionReason,
    constant_effect,
    fading_effect,
    project,
    stock_effect,
)
from stats.stock_flow import RETENTION_REACHES_ONE, path
from tests.stats.moment_cases import within

WEEKS = 52
LEVEL = np.full(WEEKS, 1000.0)
FOREVER = (1e9, 0.0)
DAYS = np.arange(28.0)


def fading(start: float, long_run: float, *, daily: float = 0.004) -> PersistenceFit:
    covariance = np.full((28, 28), 0.001**2) + np.eye(28) * daily**2
    return persistence(long_run + (start - long_run) * np.exp(-DAYS / 5), covariance, DAYS)


def certain(**changed: Any) -> Projection:
    """A projection of an effect of 2 % in which nothing is uncertain but what is passed."""
    given_: dict[str, Any] = {
        "effect": constant_effect(0.02, 0.0, weeks=WEEKS, seed=1, draws=1000),
        "baseline": LEVEL,
        "kappa": (0.9, 0.0),
        "survival": (104.0, 0.0),
        "seed": 2,
    } | changed
    return project(given_.pop("effect"), **given_)


def test_a_certain_effect_is_the_sum_over_weeks() -> None:
    cover = np.linspace(0.1, 1, WEEKS)
    baseline = 1000 * 1.002 ** np.arange(WEEKS)
    got = certain(baseline=baseline, coverage=cover, share=0.4)
    alive = 2 ** (-(np.arange(WEEKS) + 0.5) / 104)
    topline = np.log1p(0.4 * np.expm1(0.02))
    want = float((baseline * np.expm1(0.9 * cover * topline * alive)).sum())
    assert got.median == pytest.approx(want, rel=1e-10)
    assert got.lower_80 == pytest.approx(want, rel=1e-10) and got.upper_80 == pytest.approx(want, rel=1e-10)
    assert got.chance_positive == 1 and got.headline and got.reason == ""


def test_an_uncertain_effect_spreads_as_the_normal_it_is() -> None:
    got = certain(effect=constant_effect(0.001, 0.001, weeks=WEEKS, seed=3, draws=8000), survival=FOREVER)
    per_unit = 0.9 * 1000 * WEEKS
    assert got.median == pytest.approx(0.001 * per_unit, rel=0.01)
    assert (got.upper_80 - got.lower_80) / 2 == pytest.approx(1.2816 * 0.001 * per_unit, rel=0.03)
    assert got.chance_positive == pytest.approx(0.8413, abs=0.01)


SOURCES: dict[str, dict[str, Any]] = {
    "effect": {"effect": constant_effect(0.02, 0.01, weeks=WEEKS, seed=4, draws=1000)},
    "reach": {"share": 0.5, "share_error": 0.05},
    "realisation": {"kappa": (0.9, 0.35)},
    "baseline": {"baseline_log_sd": 0.1},
    "survival": {"survival": (104.0, 0.7)},
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_single_uncertain_source_has_all_of_the_uncertainty(source: str) -> None:
    got = certain(**SOURCES[source])
    assert got.upper_80 > got.lower_80
    assert {name: round(part, 9) for name, part in got.shares.items() if part > 1e-9} == {source: 1.0}


@settings(max_examples=10)
@given(st.sets(st.sampled_from(sorted(SOURCES))), st.integers(0, 2**31))
def test_shares_of_the_uncertainty_are_shares(sources: set[str], seed: int) -> None:
    got = certain(**{name: value for source in sources for name, value in SOURCES[source].items()}, seed=seed)
    parts = got.shares
    assert all(0 <= part <= 1 for part in parts.values())
    if sources:
        assert sum(parts.values()) == pytest.approx(1)
        assert sources <= {name for name, part in parts.items() if part > 1e-6}
    else:
        assert sum(parts.values()) in (0, pytest.approx(1))  # rounding has no source


def test_shares_are_the_variances_of_conditional_expectations() -> None:
    """Of a product of independent factors: each varies with the square of the other's mean, the rest is interplay."""
    n = 20_000
    effect = constant_effect(0.002, 0.002, weeks=4, seed=5, draws=n)
    got = certain(effect=effect, baseline=np.full(4, 1000.0), kappa=(0.9, 0.35), survival=FOREVER)
    rate = 0.9 * np.exp(0.35**2 / 2)
    of_rate = rate**2 * np.expm1(0.35**2)
    parts = {"effect": rate**2 * 0.002**2, "realisation": 0.002**2 * of_rate, "interplay": 0.002**2 * of_rate}
    for name, part in parts.items():
        want = part / sum(parts.values())
        assert got.shares[name] == pytest.approx(want, abs=6 * np.sqrt(want / n))


def test_an_effect_and_its_reach_are_independent_even_with_one_seed() -> None:
    n = 8000
    got = certain(
        effect=constant_effect(0.01, 0.01, weeks=1, seed=9, draws=n),
        baseline=np.array([1000.0]),
        share=0.5,
        share_error=0.1,
        survival=FOREVER,
        seed=9,
    )
    # The variance of a product, and what the exponential adds to its mean.
    spread = 1000 * 0.9 * float(np.sqrt(0.01**2 * 0.1**2 + 0.01**2 * 0.5**2 + 0.01**2 * 0.1**2))
    of_curvature = 0.5 * 1000 * 0.9 * 0.5 * 2e-4 * 0.95
    assert abs(got.mean - 1000 * 0.9 * 0.005 - of_curvature) < 4 * spread / np.sqrt(n) + 0.01


def test_a_course_that_fades_brings_less_and_says_that_it_is_unsure_how_much_lasts() -> None:
    lasting, vanishing = fading(0.03, 0.025), fading(0.05, 0.01)
    assert not lasting.transient and vanishing.transient
    kept, lost = (fading_effect(fit, weeks=WEEKS, seed=5) for fit in (lasting, vanishing))
    assert not kept.long_run_only and lost.long_run_only
    assert (np.diff(kept.path.mean(axis=0)) < 1e-6).all()
    assert (np.diff(lost.path, axis=1) == 0).all()
    gain, loss = certain(effect=kept), certain(effect=lost)
    assert loss.long_run_only and loss.median == pytest.approx(
        certain(effect=constant_effect(float(np.median(lost.path[:, 0])), 0.0, weeks=WEEKS, seed=1)).median, rel=0.02
    )
    assert gain.median > 2 * loss.median
    assert gain.shares["persistence"] > 0.02 and gain.shares["effect"] > 0.2
    assert gain.shares["effect"] + gain.shares["persistence"] == pytest.approx(1, abs=0.01)


def test_noisier_days_widen_the_projection() -> None:
    sharp, vague = (
        certain(effect=fading_effect(fading(0.03, 0.025, daily=daily), weeks=WEEKS, seed=5)) for daily in (0.004, 0.02)
    )
    assert vague.upper_80 - vague.lower_80 > 2 * (sharp.upper_80 - sharp.lower_80)


def test_a_stock_compounds() -> None:
    changes = [float(np.log(0.951 / 0.95)), 0.0]
    exact = stock_effect(0.95, 50.0, changes, np.zeros((2, 2)), start=None, weeks=WEEKS, seed=6)
    got = certain(effect=exact, kappa=(1.0, 0.0), survival=FOREVER)
    assert got.median == pytest.approx(float((LEVEL * (path(0.95, 50.0, *changes, None, WEEKS) - 1)).sum()), rel=1e-6)
    refused = stock_effect(0.98, 50.0, [0.01, 0.0], np.eye(2) * 1e-4, start=None, weeks=WEEKS, seed=6)
    assert certain(effect=refused).reason == RETENTION_REACHES_ONE


def test_weak_evidence_and_short_tests_have_a_range_but_no_headline() -> None:
    weak, short, good = certain(grade="D"), certain(days=13), certain(grade="C", days=14)
    assert [x.headline for x in (weak, short, good)] == [False, False, True]
    assert weak.reason == ProjectionReason.EVIDENCE_TOO_WEAK
    assert short.reason == ProjectionReason.MEASURED_LESS_THAN_TWO_WEEKS
    assert weak.estimable and weak.median == good.median
    assert certain(grade="U").reason == ProjectionReason.EVIDENCE_TOO_WEAK


def test_without_an_effect_there_is_no_projection() -> None:
    for effect in (
        constant_effect(np.nan, 0.01, weeks=WEEKS, seed=1),
        fading_effect(persistence(np.zeros(3), np.eye(3), np.arange(3.0)), weeks=WEEKS, seed=1),
    ):
        got = certain(effect=effect)
        assert not got.estimable and not got.headline and got.reason and np.isnan(got.median)
    with pytest.raises(ValueError, match="finite"):
        certain(baseline=LEVEL * np.nan)
    with pytest.raises(ValueError, match="baseline"):
        certain(baseline=LEVEL[:10])
    with pytest.raises(ValueError, match="spreads"):
        certain(share_error=-0.1)
    with pytest.raises(ValueError, match="antithetic"):
        constant_effect(0.01, 0.01, weeks=WEEKS, seed=1, draws=3)


def calibration(runs: int, seed: int, draws: int) -> float:
    """How often the 80 % interval holds the gain, when everything that is uncertain is what the priors say."""
    rng = np.random.default_rng(seed)
    held = []
    for _ in range(runs):
        effect, share, rate = rng.normal(0.01, 0.01), rng.uniform(0.2, 0.8), 0.9 * np.exp(0.35 * rng.normal())
        half_life, base = 104 * np.exp(0.7 * rng.normal()), 1000 * np.exp(0.1 * rng.normal() - 0.005)
        alive = 2 ** (-(np.arange(WEEKS) + 0.5) / half_life)
        gain = float((base * np.expm1(rate * np.log1p(share * np.expm1(effect)) * alive)).sum())
        got = project(
            constant_effect(rng.normal(effect, 0.008), 0.008, weeks=WEEKS, seed=int(rng.integers(2**31)), draws=draws),
            baseline=LEVEL,
            baseline_log_sd=0.1,
            share=rng.normal(share, 0.05),
            share_error=0.05,
            seed=int(rng.integers(2**31)),
        )
        held.append(got.lower_80 <= gain <= got.upper_80)
    return float(np.mean(held))


def test_eight_of_ten_intervals_hold_the_gain() -> None:
    assert within(calibration(100, 7, 400), 0.8, 100, tolerance=0.01)


@pytest.mark.simulation
def test_eighty_percent_intervals_are_calibrated() -> None:
    assert within(calibration(2000, 8, 1000), 0.8, 2000, tolerance=0.01)


def test_draws_of_a_course_are_one_row_each() -> None:
    effect = constant_effect(0.01, 0.01, weeks=5, seed=1, draws=10)
    assert isinstance(effect, EffectPaths) and effect.path.shape == (10, 5) and effect.level.shape == (10,)
    assert float(effect.path.mean()) == pytest.approx(0.01)
