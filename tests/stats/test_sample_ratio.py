"""Traffic that does not arrive in the configured shares is noticed, once or at any look."""

import numpy as np
import polars as pl
import pytest
import scipy.stats as sps

from stats.sample_ratio import LOG_E_CAP, chi_square, drift, few_or_many, same_rate, sequential, staged
from tests.shared_data import golden, manifest_entry, shared_path
from tests.stats.moment_cases import within


@pytest.mark.parametrize("name", ["srm_balanced", "srm_mismatch", "srm_three_arm_uneven"])
def test_chi_square_is_that_of_gbstats(name: str):
    case = golden("gbstats", name)
    got = chi_square(case["inputs"]["users"], case["inputs"]["weights"])
    assert got.p_value == pytest.approx(case["expected"]["p_value"], rel=1e-9)


def test_chi_square_is_that_of_scipy_and_r():
    case = golden("libraries", "srm_two_arms")
    for size in ("big", "small"):
        got = chi_square(case["inputs"][size], [0.5, 0.5])
        assert [float(got.statistic), float(got.p_value)] == pytest.approx(case["expected"][f"chi2_{size}"], rel=1e-9)
    assert bool(chi_square(case["inputs"]["big"], [1, 1]).mismatch)
    case = golden("libraries", "r_srm")
    got = chi_square(case["inputs"]["observed"], case["inputs"]["p"])
    assert [float(got.statistic), float(got.p_value)] == pytest.approx(case["expected"]["chisq_50_30_20"], rel=1e-9)


def test_reference_experiments_have_their_published_sample_ratio():
    cats = manifest_entry("ab/cookie_cats.csv")["computed_reference"]["SRM_50_50"]
    mail = manifest_entry("ab/hillstrom_email.csv")["computed_reference"]["SRM_thirds"]
    for reference in (cats, mail):
        got = chi_square(reference["counts"], np.ones(len(reference["counts"])))
        assert [float(got.statistic), float(got.p_value)] == pytest.approx(
            [reference["chi2"], reference["p"]], rel=1e-8
        )
        assert not bool(got.mismatch)


def test_asos_and_upworthy_mismatches_are_counted_as_published():
    reference = manifest_entry("split/dev/asos_dev.parquet")["computed_reference"]
    data = pl.read_parquet(shared_path("data", "split", "dev", "asos_dev.parquet"))
    keys = ["experiment_id", "variant_id"]
    last = data.sort("time_since_start").group_by(keys).last()
    assert len(last) == reference["treatments"]
    got = chi_square(last.select("count_c", "count_t").to_numpy(), [1, 1])
    # `lt_0001` in the reference means p < 0.001 (8 of these are below 0.0001).
    assert int((got.p_value < 1e-3).sum()) == reference["srm_p_lt_0001"]

    reference = manifest_entry("split/dev/upworthy_dev.parquet")["computed_reference"]
    data = pl.read_parquet(shared_path("data", "split", "dev", "upworthy_dev.parquet"))
    tests = data.group_by("clickability_test_id").agg(pl.col("impressions"))["impressions"].to_list()
    alarms = sum(float(chi_square(counts, np.ones(len(counts))).p_value) < 1e-3 for counts in tests if len(counts) > 1)
    assert len(tests) == reference["tests"] and alarms == reference["srm_p_lt_0001"]


def test_configured_weights_decide_what_is_a_mismatch():
    lopsided = [95_000, 5_000]
    assert float(chi_square(lopsided, [0.95, 0.05]).p_value) == pytest.approx(1.0)
    assert bool(chi_square(lopsided, [0.5, 0.5]).mismatch)
    empty = chi_square([100, 0], [1, 1])
    assert float(empty.p_value) == pytest.approx(1.5239706048320995e-23, rel=1e-9)


def test_an_arm_of_weight_zero_must_stay_empty():
    good, bad = chi_square([500, 510, 0], [1, 1, 0]), chi_square([500, 510, 3], [1, 1, 0])
    assert float(good.df) == 1 and not bool(good.mismatch)
    assert bool(bad.mismatch) and bool(bad.unexpected) and float(bad.p_value) == 0
    path = sequential([[500, 510, 0], [1000, 1010, 1]], [1, 1, 0])
    assert path.first_crossing == 1 and path.log_e[1] == LOG_E_CAP


def test_counts_of_a_billion_and_of_nothing_are_fine():
    huge = chi_square([10**9, 10**9 + 10**6], [1, 1])
    assert np.isfinite(huge.log10_p) and float(huge.log10_p) < -50
    beyond = chi_square([10**9, 2 * 10**9], [1, 1])
    assert float(beyond.p_value) == 0 and np.isfinite(beyond.log10_p)
    assert float(chi_square([0, 0], [1, 1]).p_value) == 1
    assert np.isfinite(sequential([[0, 0], [10**9, 10**9]], [1, 1]).log_e).all()
    assert sequential([[0, 0]], [1, 1]).log_e[0] == pytest.approx(0)


def test_bad_input_is_refused():
    for observed, weights in (([1, 2], [1]), ([-1, 2], [1, 1]), ([1, 2], [1, -1]), ([1, 2], [0, 0])):
        with pytest.raises(ValueError):
            chi_square(observed, weights)
    with pytest.raises(ValueError, match="looks"):
        sequential([1, 2], [1, 1])


def traffic(rng: np.random.Generator, share: list[float], looks: int, a_day: int, paths: int) -> np.ndarray:
    return np.cumsum(rng.multinomial(a_day, share, size=(paths, looks)), axis=1)


def test_the_e_value_is_an_e_value():
    """Its expectation under the configured weights is 1: exact over all outcomes of 12 units in two arms."""
    ones = np.arange(13)
    e = np.exp([sequential([[k, 12 - k]], [0.3, 0.7], concentration=5).log_e[0] for k in ones])
    counts = np.array([np.prod(np.arange(12 - k + 1, 13)) / np.prod(np.arange(1, k + 1)) for k in ones])
    assert (counts * 0.3**ones * 0.7 ** (12 - ones) * e).sum() == pytest.approx(1, rel=1e-12)


def test_looking_daily_keeps_the_error_and_finds_a_real_mismatch():
    rng = np.random.default_rng(1)
    healthy = [sequential(path, [1, 1], alpha=0.05) for path in traffic(rng, [0.5, 0.5], 30, 1000, 1000)]
    assert np.mean([r.mismatch for r in healthy]) <= 0.05
    assert all((np.diff(r.p_value) <= 0).all() for r in healthy[:50])
    broken = [sequential(path, [1, 1]).first_crossing for path in traffic(rng, [0.52, 0.48], 60, 1000, 200)]
    days = np.array([np.inf if day is None else day + 1 for day in broken])
    assert 9 <= np.median(days) <= 13


def test_few_units_are_judged_exactly():
    case = golden("libraries", "srm_two_arms")
    assert float(few_or_many([8, 20], [1, 1]).p_value) == pytest.approx(sps.binomtest(8, 28).pvalue, rel=1e-12)
    assert float(few_or_many(case["inputs"]["small"], [1, 1]).p_value) == pytest.approx(
        case["expected"]["chi2_small"][1]
    )
    assert float(chi_square([0, 1], [0.95, 0.05]).p_value) < 1e-4
    assert float(few_or_many([0, 1], [0.95, 0.05]).p_value) == pytest.approx(0.1)
    assert float(few_or_many([40, 2, 0], [0.9, 0.05, 0.05]).p_value) > 0.3
    assert bool(few_or_many([40, 2, 1], [0.5, 0.5, 0]).mismatch)
    assert few_or_many([[0, 0], [3, 30]], [1, 1]).p_value[0] == 1


def test_exact_p_values_of_few_units_never_alarm_too_often():
    rng = np.random.default_rng(11)
    for share in ([0.95, 0.05], [0.5, 0.5], [0.8, 0.15, 0.05]):
        p = few_or_many(rng.multinomial(60, share, 20_000), share).p_value
        for alpha in (0.05, 0.01, 0.001):
            assert (p <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 20_000)


def test_a_single_stage_is_pearsons_test():
    rng = np.random.default_rng(4)
    for share in ([0.5, 0.5], [0.7, 0.2, 0.1], [0.9, 0.1, 0.0]):
        counts = rng.multinomial(5000, share)
        whole, parts = chi_square(counts, share), staged([counts], [share])
        assert [float(parts.statistic), float(parts.df)] == pytest.approx([float(whole.statistic), float(whole.df)])
        assert float(parts.p_value) == pytest.approx(float(whole.p_value))


def test_a_ramp_is_held_against_what_each_of_its_stages_should_bring():
    ramp = np.array([[0.95, 0.05], [0.5, 0.5]])
    healthy = np.array([[9_510, 490], [20_050, 19_950]])
    assert float(staged(healthy, ramp).p_value) > 0.3
    assert bool(chi_square(healthy.sum(axis=0), [0.5, 0.5]).mismatch)
    cumulative = np.cumsum(healthy, axis=0)
    assert not sequential(cumulative, ramp).mismatch
    assert sequential(cumulative, [0.5, 0.5]).mismatch
    broken = healthy + np.array([[0, 0], [0, -900]])
    assert bool(staged(broken, ramp).mismatch)
    assert sequential(np.cumsum(broken, axis=0), ramp).first_crossing == 1


def test_units_of_a_day_on_which_the_weights_changed_are_left_out():
    changed = np.array([[0.9, 0.1], [np.nan, np.nan], [0.5, 0.5]])
    arrived = np.array([[905, 95], [700, 10], [510, 490]])
    got = staged(arrived, changed)
    assert float(got.p_value) == pytest.approx(float(staged(arrived[[0, 2]], changed[[0, 2]]).p_value))
    path = sequential(np.cumsum(arrived, axis=0), changed)
    assert path.log_e[1] == path.log_e[0] and not path.mismatch
    nothing = staged(arrived[1:2], changed[1:2])
    assert (float(nothing.p_value), float(nothing.df)) == (1, 0)


def test_an_arm_that_is_added_later_owes_nothing_before():
    stages = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]])
    fine = np.array([[500, 505, 0], [410, 290, 300]])
    got = staged(fine, stages)
    assert float(got.df) == 2 and float(got.p_value) > 0.5 and not sequential(np.cumsum(fine, axis=0), stages).mismatch
    early = fine + np.array([[0, 0, 2], [0, 0, 0]])
    assert bool(staged(early, stages).mismatch) and sequential(np.cumsum(early, axis=0), stages).first_crossing == 0


def test_one_constant_stage_has_the_e_values_of_plain_weights():
    rng = np.random.default_rng(5)
    path = traffic(rng, [0.6, 0.4], 20, 300, 1)[0]
    plain, as_stages = sequential(path, [0.6, 0.4]), sequential(path, np.tile([0.6, 0.4], (20, 1)))
    assert as_stages.log_e == pytest.approx(plain.log_e, rel=1e-12)


def test_the_day_on_which_a_mismatch_began_is_named():
    rng = np.random.default_rng(6)
    days = np.vstack([rng.multinomial(2000, [0.5, 0.5], 12), rng.multinomial(2000, [0.56, 0.44], 8)])
    got = drift(days, np.full(days.shape, 0.5))
    assert got.began == 12 and got.p_value < 1e-4 and got.df == 19
    skipped = np.full(days.shape, 0.5)
    skipped[:3] = np.nan
    assert drift(days, skipped).began == 12
    always = rng.multinomial(2000, [0.56, 0.44], 20)
    assert drift(always, np.full(always.shape, 0.5)).p_value > 0.001


def test_days_with_few_units_are_merged_before_they_are_compared():
    assert drift(np.full((30, 2), 1), np.full((30, 2), 0.5)).df == 5
    assert drift([[1, 2]], [[0.5, 0.5]]).p_value == 1
    assert drift(np.zeros((0, 2)), np.zeros((0, 2))).p_value == 1


def test_equal_rates_is_the_chi_square_of_the_contingency_table():
    part, whole = np.array([120, 151, 90]), np.array([1000, 1010, 800])
    statistic, p, _, _ = sps.chi2_contingency([part, whole - part], correction=False)
    got = same_rate(part, whole)
    assert [float(got.statistic), float(got.p_value)] == pytest.approx([statistic, p], rel=1e-12)
    assert float(same_rate([0, 0], [10, 20]).p_value) == 1 and float(same_rate([10, 20], [10, 20]).p_value) == 1
    assert float(same_rate([0, 3], [0, 20]).p_value) == 1
    assert float(same_rate([0, 4], [950, 50]).p_value) == 1, "four units are no pattern"
    with pytest.raises(ValueError, match="whole"):
        same_rate([11, 1], [10, 20])


def test_the_staged_and_the_daily_test_keep_their_size():
    rng = np.random.default_rng(7)
    shares = np.repeat([[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]], [4, 4, 12], axis=0)
    runs = [np.array([rng.multinomial(400, share) for share in shares]) for _ in range(600)]
    assert within(np.mean([float(staged(run, shares).p_value) < 0.05 for run in runs]), 0.05, 600)
    assert within(np.mean([drift(run, shares).p_value < 0.05 for run in runs[:300]]), 0.05, 300)


@pytest.mark.simulation
def test_stagewise_e_values_keep_their_size_over_a_ramp():
    rng = np.random.default_rng(8)
    shares = np.repeat([[0.95, 0.05], [0.8, 0.2], [0.5, 0.5]], [3, 7, 20], axis=0)
    days = np.stack([rng.multinomial(500, share, size=4000) for share in shares], axis=1)
    paths = np.cumsum(days, axis=1)
    assert np.mean([sequential(path, shares, alpha=0.05).mismatch for path in paths]) <= 0.05
    assert np.mean([sequential(path, shares).mismatch for path in paths]) <= 0.001 + 3 * np.sqrt(0.001 / 4000)


@pytest.mark.simulation
@pytest.mark.parametrize("share", [[0.5, 0.5], [0.9, 0.1], [0.2] * 5])
@pytest.mark.parametrize("looks", [1, 30, 100])
def test_sequential_size_over_the_grid(share: list[float], looks: int):
    rng = np.random.default_rng(2)
    paths = traffic(rng, share, looks, 500, 5000)
    assert np.mean([sequential(path, share, alpha=0.05).mismatch for path in paths]) <= 0.05
    fixed = chi_square(paths[:, -1], share).p_value
    assert within(float((fixed < 0.05).mean()), 0.05, 5000)
