"""From the people an experiment reached to the company: dilution, share of the metric, their errors (METHODS E5)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.reasons import Reason
from stats.topline import Group, ToplineReason, diluted_lift, of_lift, share_of_metric
from tests.stats.moment_cases import within

Z95 = 1.959963984540054


def group(count: int, mean: float, sd: float) -> Group:
    return Group(count, np.array([mean]), np.array([[sd**2]]))


def pair(count: int, mean: tuple[float, float], sd: tuple[float, float], correlation: float = 0.5) -> Group:
    scale = np.array(sd)
    return Group(count, np.array(mean), np.array([[1, correlation], [correlation, 1]]) * scale * scale[:, None])


MEANS = (group(2000, 3.3, 4.0), group(2100, 3.0, 3.5), group(36_000, 1.0, 1.2))
RATIOS = (
    pair(2000, (3.3, 2.2), (4.0, 1.5)),
    pair(2100, (3.0, 2.1), (3.5, 1.4)),
    pair(36_000, (1.0, 1.5), (1.2, 1.1), -0.2),
)


def test_the_lift_of_a_mean_and_its_error_are_those_of_the_method() -> None:
    got = diluted_lift(*MEANS, assigned=40_000)
    r, t, c, u = 4100 / 40_000, 3.3, 3.0, 1.0
    m = r * c + (1 - r) * u
    lift = r * (t - c) / m
    variance = (
        (r / m) ** 2 * 16 / 2000
        + (r / m * (1 + lift)) ** 2 * 3.5**2 / 2100
        + (lift * (1 - r) / m) ** 2 * 1.44 / 36_000
        + (((t - c) - lift * (c - u)) / m) ** 2 * r * (1 - r) / 40_000
    )
    assert got.lift == pytest.approx(lift, rel=1e-12)
    assert got.standard_error == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert got.log_lift == pytest.approx(np.log1p(lift), rel=1e-12)
    assert got.log_standard_error == pytest.approx(np.sqrt(variance) / (1 + lift), rel=1e-12)
    assert got.share_of_metric == pytest.approx(r * c / m, rel=1e-12)
    assert got.naive_lift == pytest.approx(r * 0.1, rel=1e-12)


@pytest.mark.parametrize("coverage", [1.0, 0.25])
@pytest.mark.parametrize("groups", [MEANS, RATIOS], ids=["mean", "ratio"])
def test_the_error_is_the_gradient_in_all_moments_and_the_share_reached(
    groups: tuple[Group, Group, Group], coverage: float
) -> None:
    columns, assigned = len(groups[0].mean), 40_000
    r0 = 4100 / assigned

    def log_lift(moments: np.ndarray) -> float:
        t, c, u = moments[:-1].reshape(3, columns)
        r = moments[-1]
        without = r * c + (1 - r) * u
        ratio = (without + r / coverage * (t - c)) / without
        return float(np.log(ratio[0]) - (np.log(ratio[1]) if columns == 2 else 0))

    centre = np.append(np.concatenate([g.mean for g in groups]), r0)
    step = 1e-6 * np.eye(centre.size)
    gradient = np.array([(log_lift(centre + s) - log_lift(centre - s)) / 2e-6 for s in step])
    covariance = np.zeros((centre.size, centre.size))
    for i, g in enumerate(groups):
        block = slice(i * columns, (i + 1) * columns)
        covariance[block, block] = g.covariance / g.count
    covariance[-1, -1] = r0 * (1 - r0) / assigned
    got = diluted_lift(*groups, assigned=assigned, coverage=coverage)
    assert got.log_lift == pytest.approx(log_lift(centre), rel=1e-12)
    assert got.log_standard_error == pytest.approx(np.sqrt(gradient @ covariance @ gradient), rel=1e-6)
    assert got.share_of_units == pytest.approx(r0 / coverage)


@settings(max_examples=25)
@given(st.floats(0.2, 5), st.floats(-0.5, 0.5), st.integers(2, 2000), st.floats(0.1, 1))
def test_the_lift_is_the_share_of_the_metric_times_the_lift_of_those_reached(
    heaviness: float, lift: float, triggered: int, coverage: float
) -> None:
    control = group(triggered, heaviness, 1.0 * heaviness)
    treatment = group(triggered, heaviness * (1 + lift), heaviness)
    got = diluted_lift(treatment, control, group(50_000, 1.0, 1.0), assigned=50_000 + 2 * triggered, coverage=coverage)
    if not got.reason:
        assert got.lift == pytest.approx(got.share_of_metric * lift, rel=1e-9, abs=1e-12)
        log_lift, _ = of_lift(np.log1p(lift), 0.0, got.share_of_metric)
        assert float(log_lift) == pytest.approx(got.log_lift, rel=1e-9, abs=1e-12)
        if heaviness == 1:
            assert got.naive_lift == pytest.approx(got.lift)


def test_an_experiment_that_everybody_meets_has_the_plain_lift() -> None:
    treatment, control = group(5000, 3.3, 4.0), group(5000, 3.0, 3.5)
    got = diluted_lift(treatment, control, group(0, 0.0, 0.0), assigned=10_000)
    assert got.lift == pytest.approx(0.1)
    assert got.log_standard_error == pytest.approx(np.sqrt((4 / 3.3) ** 2 / 5000 + (3.5 / 3) ** 2 / 5000))
    assert got.share_of_metric == 1 and got.share_standard_error == 0


def test_what_cannot_be_said_has_a_reason() -> None:
    treatment, control, rest = MEANS
    few = diluted_lift(replace(treatment, count=1), control, rest, assigned=40_000)
    beyond = diluted_lift(*MEANS, assigned=40_000, coverage=0.05)
    zero = diluted_lift(group(2000, 0.5, 4), group(2000, 0.1, 4), group(36_000, 0.001, 1), assigned=40_000)
    loss = diluted_lift(group(2000, -30.0, 4), control, rest, assigned=40_000)
    negative = diluted_lift(group(2000, -3.3, 4), group(2000, -3.0, 4), group(36_000, -1.0, 1), assigned=40_000)
    flat = diluted_lift(group(2000, 1, 0), group(2000, 1, 0), group(36_000, 1, 0), assigned=40_000)
    assert [x.reason for x in (few, beyond, zero, loss, negative, flat)] == [
        Reason.TOO_FEW_UNITS,
        ToplineReason.SHARE_ABOVE_ONE,
        Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO,
        ToplineReason.NORTH_STAR_NOT_POSITIVE,
        ToplineReason.NORTH_STAR_NOT_POSITIVE,
        Reason.ZERO_VARIANCE,
    ]
    assert np.isnan([few.lift, beyond.log_lift, zero.standard_error]).all()
    for wrong in ({"assigned": 4000}, {"assigned": 40_000, "coverage": 0.0}, {"assigned": 40_000, "coverage": 1.5}):
        with pytest.raises(ValueError, match=r"assigned|coverage"):
            diluted_lift(*MEANS, **wrong)
    with pytest.raises(ValueError, match="ratio"):
        diluted_lift(MEANS[0], RATIOS[1], MEANS[2], assigned=40_000)


def trial(rng: np.random.Generator, n: int, r: float, heaviness: float, lift: float) -> dict[str, tuple[float, float]]:
    """One experiment with exponential values: log lift and error, diluted, of all users, and naive."""
    arms = []
    for arm in (1, 0):
        triggered = rng.binomial(n, r)
        reached = rng.exponential(heaviness * (1 + arm * lift), triggered)
        # Of the others only their sums are needed, and those of exponentials are known.
        rest = rng.gamma(n - triggered) / (n - triggered)
        arms.append((reached, n - triggered, rest))
    treatment, control = (Group(len(x), np.array([x.mean()]), np.array([[x.var(ddof=1)]])) for x, _, _ in arms)
    count = arms[0][1] + arms[1][1]
    mean = (arms[0][1] * arms[0][2] + arms[1][1] * arms[1][2]) / count
    got = diluted_lift(treatment, control, group(count, mean, mean), assigned=2 * n)
    everyone = [((x.sum() + k * m) / n, (x**2).sum() / n + 2 * k * m**2 / n) for x, k, m in arms]
    relative = [(square - m**2) / m**2 / n for m, square in everyone]
    share = (treatment.count + control.count) / (2 * n)
    plain = float(np.log(treatment.mean[0] / control.mean[0]))
    plain_error = np.sqrt(sum(float(g.covariance[0, 0] / g.mean[0] ** 2) / g.count for g in (treatment, control)))
    return {
        "diluted": (got.log_lift, got.log_standard_error),
        "everyone": (float(np.log(everyone[0][0] / everyone[1][0])), float(np.sqrt(sum(relative)))),
        "naive": (share * plain, share * float(plain_error)),
    }


def coverage_of(name: str, trials: list[dict[str, tuple[float, float]]], truth: float) -> float:
    return float(np.mean([abs(t[name][0] - truth) <= Z95 * t[name][1] for t in trials]))


def test_a_diluted_effect_covers_with_two_thirds_of_the_error_and_the_naive_one_is_far_off() -> None:
    """METHODS E5 [sim]: a tenth of the users, three times heavier; covers 0.96, se 0.0184 against 0.0282."""
    rng, runs = np.random.default_rng(1), 600
    trials = [trial(rng, 3750, 0.1, 3.0, 0.06) for _ in range(runs)]
    truth = np.log1p(0.25 * 0.06)
    assert within(coverage_of("diluted", trials, truth), 0.95, runs, tolerance=0.01)
    assert within(coverage_of("everyone", trials, truth), 0.95, runs, tolerance=0.01)
    assert float(np.mean([t["diluted"][1] for t in trials])) == pytest.approx(0.0184, abs=0.0004)
    assert float(np.mean([t["everyone"][1] for t in trials])) == pytest.approx(0.0282, abs=0.0005)
    naive = [t["naive"][0] for t in trials]
    assert float(np.mean(naive)) == pytest.approx(0.006, abs=3 * float(np.std(naive)) / np.sqrt(runs) + 3e-4)
    assert within(coverage_of("naive", trials, truth), 0.77, runs, tolerance=0.04)


@pytest.mark.simulation
@pytest.mark.parametrize("heaviness", [0.3, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("r", [0.01, 0.05, 0.2])
def test_diluted_effects_cover_for_all_shares_and_weights(r: float, heaviness: float) -> None:
    runs = 2000
    rng = np.random.default_rng([int(1000 * r), int(10 * heaviness)])
    trials = [trial(rng, 20_000, r, heaviness, 0.1) for _ in range(runs)]
    truth = np.log1p(r * heaviness / (r * heaviness + 1 - r) * 0.1)
    assert within(coverage_of("diluted", trials, truth), 0.95, runs, tolerance=0.01)


def test_shares_of_the_metric_speak_for_everybody_at_full_coverage() -> None:
    rng = np.random.default_rng(2)
    company = rng.gamma(50, 2.0, (200, 3))
    got = share_of_metric(company * [0.1, 0.2, 0.3], company, scale=1 / (0.5 * 0.8))
    np.testing.assert_allclose(got.share, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(got.standard_error, 0, atol=1e-12)
    assert (got.reason == "").all()


def test_the_error_of_a_share_is_the_spread_of_shares() -> None:
    rng, runs, buckets = np.random.default_rng(3), 400, 100
    exposed = rng.gamma(4, 1.0, (runs, buckets, 2))
    company = exposed + rng.gamma(12, 1.0, (runs, buckets, 2))
    found = [share_of_metric(e, c, scale=2.0) for e, c in zip(exposed, company, strict=True)]
    shares = np.array([f.share for f in found])
    errors = np.sqrt(np.mean([f.standard_error**2 for f in found], axis=0))
    np.testing.assert_allclose(shares.mean(axis=0), 0.5, atol=4 * errors.max() / np.sqrt(runs))
    np.testing.assert_allclose(errors, shares.std(axis=0), rtol=4 / np.sqrt(2 * runs))
    for week in range(2):
        covered = np.abs(shares[:, week] - 0.5) <= Z95 * np.array([f.standard_error[week] for f in found])
        assert within(float(covered.mean()), 0.95, runs, tolerance=0.01)


def test_a_week_without_a_company_total_has_no_share() -> None:
    company = np.ones((50, 4))
    company[:, 1] = 0
    company[:, 2] = -1
    company[:, 3] = 0
    company[7, 3] = 5.0
    got = share_of_metric(company / 2, company, scale=1.0)
    none = ToplineReason.NO_COMPANY_TOTAL
    assert got.reason.tolist() == ["", none, none, none]
    assert np.isfinite(got.share).tolist() == [True, False, False, False]
    few = share_of_metric(company[:10], company[:10], scale=1.0)
    assert few.reason.tolist() == [Reason.TOO_FEW_BUCKETS] * 4
    assert share_of_metric(np.ones((0, 2)), np.ones((0, 2)), scale=1.0).reason.tolist() == [Reason.TOO_FEW_BUCKETS] * 2
    for exposed, scale in ((np.ones((50, 3)), 1.0), (company, 0.0), (company * np.nan, 1.0)):
        with pytest.raises(ValueError, match=r"shape|scale|finite"):
            share_of_metric(exposed, company, scale=scale)


@settings(max_examples=25)
@given(st.floats(-0.5, 0.5), st.floats(0, 1), st.floats(0.001, 0.1), st.floats(0, 0.05))
def test_a_share_of_the_metric_turns_a_lift_into_less_of_it(
    log_lift: float, share: float, error: float, share_error: float
) -> None:
    value, spread = of_lift(log_lift, error, share, share_error)
    assert abs(float(value)) <= abs(log_lift) + 1e-12
    h = 1e-6
    by_lift = (of_lift(log_lift + h, 0, share)[0] - of_lift(log_lift - h, 0, share)[0]) / (2 * h)
    by_share = (of_lift(log_lift, 0, share + h)[0] - of_lift(log_lift, 0, share - h)[0]) / (2 * h)
    assert float(spread) == pytest.approx(float(np.hypot(by_lift * error, by_share * share_error)), rel=1e-5, abs=1e-9)
    whole, same = of_lift(log_lift, error, 1.0)
    assert float(whole) == pytest.approx(log_lift, abs=1e-12) and float(same) == pytest.approx(error)


def test_toplines_broadcast_over_weeks_and_draws_and_end_where_nothing_would_be_left() -> None:
    value, error = of_lift(np.full((3, 1), 0.1), 0.02, np.array([0.0, 0.5]), 0.01)
    assert value.shape == error.shape == (3, 2)
    assert (value[:, 0] == 0).all()
    assert np.isnan(of_lift(-3.0, 0.1, 1.2)[0])
