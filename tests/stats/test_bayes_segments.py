"""Segment effects: shrinkage in closed form, the same by NUTS, and honest failure (METHODS A15, C4, I3)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from arviz_stats.base import array_stats

from stats.bayes import segment_model
from stats.bayes.diagnostics import diagnose, ess_bulk, ess_tail, r_hat
from stats.bayes.prior import Family, Prior
from stats.bayes.segment_model import FitCancelled, Sampling, SegmentModel
from stats.bayes.segments import TAU_SHARE, pool

PRIOR = Prior.default()


@pytest.fixture(scope="module")
def model() -> SegmentModel:
    """One compilation for the whole module; every fit below is warm."""
    return SegmentModel()


def simulated(
    families: int, segments: int, seed: int, tau: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimates, errors, true effects, true mu, true tau drawn from the model's own prior (or a given tau)."""
    rng = np.random.default_rng(seed)
    mu = PRIOR.mean + PRIOR.scale * rng.standard_normal(families)
    spread = np.abs(rng.standard_normal(families)) * TAU_SHARE * PRIOR.scale if tau is None else np.full(families, tau)
    errors = rng.uniform(0.005, 0.05, (families, segments))
    effects = mu[:, None] + spread[:, None] * rng.standard_normal((families, segments))
    return effects + errors * rng.standard_normal(errors.shape), errors, effects, mu, spread


def test_pooling_equals_brute_force_integration_over_mu_and_tau() -> None:
    estimates, errors = np.array([[0.05, -0.02, 0.03]]), np.array([[0.02, 0.03, 0.01]])
    mu = np.linspace(-0.3, 0.3, 1201)[:, None, None]
    tau = (0.025 * 0.005 * (np.arange(1600) + 0.5))[None, :, None]
    log_density = (
        -0.5 * ((mu - PRIOR.mean) / PRIOR.scale) ** 2
        - 0.5 * (tau / 0.025) ** 2
        + sps.norm.logpdf(estimates[0], mu, np.sqrt(errors[0] ** 2 + tau**2)).sum(-1, keepdims=True)
    )
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    keep = tau**2 / (tau**2 + errors[0] ** 2)
    mean, sd = keep * estimates[0] + (1 - keep) * mu, np.sqrt(keep) * errors[0]
    result = pool(estimates, errors, PRIOR)
    expected = (weight * mean).sum((0, 1))
    np.testing.assert_allclose(result.mean[0], expected, atol=2e-5)
    np.testing.assert_allclose(
        result.sd[0], np.sqrt((weight * (sd**2 + (mean - expected) ** 2)).sum((0, 1))), rtol=1e-3
    )
    opposite = (weight * np.where(mu > 0, sc.ndtr(-mean / sd), sc.ndtr(mean / sd))).sum((0, 1))
    np.testing.assert_allclose(result.sign_differs[0], opposite, atol=2e-3)
    np.testing.assert_allclose(result.overall_mean[0], (weight * mu).sum(), atol=2e-5)
    np.testing.assert_allclose(result.between_mean[0], (weight * tau).sum(), rtol=2e-3)
    cumulative = np.cumsum(weight.sum((0, 2)))
    np.testing.assert_allclose(result.between_upper[0], np.interp(0.975, cumulative, tau[0, :, 0]), rtol=0.02)


def test_equal_segments_are_pulled_together_and_a_true_outlier_is_left_standing() -> None:
    errors = np.full((2, 6), 0.02)
    alike, outlier = np.array([0.03, 0.01, 0.02, 0.0, 0.04, 0.02]), np.array([0.0, 0.01, 0.0, -0.01, 0.0, 0.3])
    result = pool(np.stack([alike, outlier]), errors, PRIOR)
    assert np.ptp(result.mean[0]) < 0.5 * np.ptp(alike)
    assert result.mean[1, 5] > 0.2
    assert result.between_mean[1] > 2 * result.between_mean[0]
    assert (result.hdi_lower < result.lift).all()
    assert (result.lift < result.hdi_upper).all()


def test_pooling_does_not_depend_on_neighbours_order_or_padding_by_unknown_segments() -> None:
    estimates, errors, *_ = simulated(4, 7, seed=2)
    whole = pool(estimates, errors, PRIOR)
    np.testing.assert_allclose(pool(estimates[2:3], errors[2:3], PRIOR).mean, whole.mean[2:3], rtol=1e-12)
    order = np.random.default_rng(0).permutation(7)
    np.testing.assert_allclose(
        pool(estimates[:, order], errors[:, order], PRIOR).mean, whole.mean[:, order], rtol=1e-10
    )
    padded = np.full((4, 9), np.nan)
    padded[:, :7] = estimates
    wide = pool(padded, np.pad(errors, ((0, 0), (0, 2)), constant_values=0.0), PRIOR)
    np.testing.assert_allclose(wide.mean[:, :7], whole.mean, rtol=1e-10)
    assert np.isnan(wide.mean[:, 7:]).all()
    assert not wide.estimable[:, 7:].any()


def test_one_segment_cannot_be_pooled_and_says_so() -> None:
    result = pool(np.array([[0.02, np.nan]]), np.array([[0.01, 0.01]]), PRIOR)
    assert (result.status.tolist(), result.reason.tolist()) == (["not_estimable"], ["too_few_segments"])
    assert np.isnan(result.mean).all()
    assert np.isnan(result.overall_mean).all()


def test_simulation_based_calibration_of_the_grid_ranks_are_uniform() -> None:
    families = 600
    estimates, errors, effects, mu, tau = simulated(families, 6, seed=3)
    result = pool(estimates, errors, PRIOR)
    inside = (effects >= np.log1p(result.hdi_lower)) & (effects <= np.log1p(result.hdi_upper))
    # Segments of one family are correlated: judge coverage with families as the independent unit.
    assert abs(inside.mean() - 0.95) < 3 * inside.mean(1).std() / np.sqrt(families) + 0.003
    rank = sc.ndtr((mu - result.overall_mean) / result.overall_sd)
    counts = np.histogram(rank, bins=10, range=(0, 1))[0]
    assert sc.chdtrc(9, ((counts - families / 10) ** 2 / (families / 10)).sum()) > 0.001
    covered = ((tau >= result.between_lower) & (tau <= result.between_upper)).mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / families) + 0.003
    disagree = effects * mu[:, None] < 0
    assert (
        abs((result.sign_differs - disagree).mean())
        < 3 * (disagree - result.sign_differs).mean(1).std() / families**0.5
    )


@pytest.mark.parametrize("segments", [2, 5, 8, 32, 128])
def test_nuts_agrees_with_the_closed_form_within_monte_carlo_error_for_any_number_of_segments(
    model: SegmentModel, segments: int
) -> None:
    estimates, errors, *_ = simulated(2, segments, seed=segments)
    exact, sampled = pool(estimates, errors, PRIOR), model.fit(estimates, errors, PRIOR, seed=5)
    assert sampled.status.tolist() == ["ok", "ok"]
    for row, found in enumerate(sampled.diagnostics):
        assert found is not None
        # Four Monte Carlo standard errors of a mean, of the 0.3-sd scale that tail quantities vary on.
        error = 4 / np.sqrt(min(found.ess_bulk, found.ess_tail))
        assert np.all(np.abs(sampled.mean[row] - exact.mean[row]) < error * exact.sd[row])
        np.testing.assert_allclose(sampled.sd[row], exact.sd[row], rtol=error)
        assert abs(sampled.overall_mean[row] - exact.overall_mean[row]) < error * exact.overall_sd[row]
        np.testing.assert_allclose(sampled.overall_sd[row], exact.overall_sd[row], rtol=error)
        np.testing.assert_allclose(sampled.between_mean[row], exact.between_mean[row], rtol=error)
        np.testing.assert_allclose(sampled.sign_differs[row], exact.sign_differs[row], atol=error / 2)
        width = np.log1p(exact.hdi_upper[row]) - np.log1p(exact.hdi_lower[row])
        assert np.all(np.abs(np.log1p(sampled.hdi_upper[row]) - np.log1p(exact.hdi_upper[row])) < error * width)


def test_the_same_seed_gives_the_same_bits_with_one_core_or_two_alone_or_in_company(model: SegmentModel) -> None:
    estimates, errors, *_ = simulated(3, 5, seed=9)
    first = model.fit(estimates, errors, PRIOR, seed=7)
    again = SegmentModel(Sampling(cores=1)).fit(estimates[1:2], errors[1:2], PRIOR, seed=7)
    for name in ("mean", "sd", "hdi_lower", "sign_differs", "overall_mean", "between_upper"):
        np.testing.assert_array_equal(getattr(first, name)[1:2], getattr(again, name), err_msg=name)
    assert not np.array_equal(model.fit(estimates, errors, PRIOR, seed=8).mean, first.mean)


def test_unknown_segments_are_left_out_and_tiny_families_are_refused(model: SegmentModel) -> None:
    estimates, errors, *_ = simulated(2, 5, seed=4)
    estimates[0, 2], estimates[1, 1:] = np.nan, np.nan
    result = model.fit(estimates, errors, PRIOR, seed=1)
    assert result.status.tolist() == ["ok", "not_estimable"]
    assert np.isnan(result.mean[0]).tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(
        result.mean[0], pool(estimates, errors, PRIOR).mean[0], atol=0.1 * np.nanmax(result.sd[0])
    )


def test_failing_diagnostics_hide_the_numbers_and_name_the_reason(model: SegmentModel) -> None:
    estimates, errors, *_ = simulated(1, 5, seed=6)
    result = SegmentModel(Sampling(tune=20, draws=30)).fit(estimates, errors, PRIOR, seed=1)
    assert result.status.tolist() == ["unreliable"]
    assert "effective sample size" in result.reason[0] or "R-hat" in result.reason[0] or "divergent" in result.reason[0]
    assert np.isnan(result.mean).all()
    assert np.isnan(result.between_mean).all()
    assert result.diagnostics[0] is not None


def test_a_fit_that_takes_too_long_is_stopped_and_reported(model: SegmentModel) -> None:
    estimates, errors, *_ = simulated(1, 5, seed=6)
    slow = Sampling(tune=500, draws=3_000_000, patience_seconds=0.1)
    result = SegmentModel(slow).fit(estimates, errors, PRIOR, seed=1)
    assert result.status.tolist() == ["unreliable"]
    assert "no result within" in result.reason[0]


def sampler_threads() -> list[str]:
    """Names of the sampler's own native threads; other libraries keep pools that are none of our business."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found.append((task / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):  # ended between listing and reading
            continue
    return [name for name in found if name.startswith("nutpie")]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="native threads are only listed on Linux")
def test_cancelling_again_and_again_stops_the_sampler_and_leaves_no_thread(model: SegmentModel) -> None:
    estimates, errors, *_ = simulated(2, 8, seed=6)
    endless = SegmentModel(Sampling(draws=5_000_000, patience_seconds=60))
    running: list[int] = []
    for _ in range(4):
        asked: list[None] = []

        def after_a_while(asked: list[None] = asked) -> bool:
            asked.append(None)
            running.append(len(sampler_threads()))
            return len(asked) > 4

        with pytest.raises(FitCancelled):
            endless.fit(estimates, errors, PRIOR, seed=1, should_cancel=after_a_while)
    assert max(running) >= 1  # the check can see the threads it says are gone
    # Aborting is a signal: workers finish the step they are in, which takes milliseconds.
    for _ in range(200):
        if not sampler_threads():
            break
        time.sleep(0.01)
    assert sampler_threads() == []


def test_progress_rises_to_one_over_all_families(model: SegmentModel) -> None:
    estimates, errors, *_ = simulated(2, 8, seed=6)
    seen: list[float] = []
    SegmentModel(Sampling(draws=8_000)).fit(estimates, errors, PRIOR, seed=1, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == 1.0
    assert seen[0] < 0.5


def test_importing_the_module_does_not_import_pymc() -> None:
    code = "import sys, stats.bayes.segment_model; raise SystemExit('pymc' in sys.modules or 'nutpie' in sys.modules)"
    root = Path(segment_model.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_wrong_shapes_and_a_fat_tailed_prior_are_refused_before_any_sampling() -> None:
    with pytest.raises(ValueError, match="families, segments"):
        pool(np.zeros(3), np.ones(3), PRIOR)
    with pytest.raises(ValueError, match="Normal prior"):
        SegmentModel().fit(np.zeros((1, 3)), np.ones((1, 3)), Prior.default(Family.STUDENT_T4), seed=0)


def test_diagnostics_equal_those_of_arviz() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((4, 800))
    walk = np.empty_like(noise)
    walk[:, 0] = noise[:, 0]
    for step in range(1, 800):
        walk[:, step] = 0.7 * walk[:, step - 1] + noise[:, step]
    for draws in (noise, walk, np.exp(walk), walk + np.array([[0.0], [0.5], [0.0], [0.0]])):
        np.testing.assert_allclose(r_hat(draws), array_stats.rhat(draws, method="rank"), rtol=1e-6)
        np.testing.assert_allclose(ess_bulk(draws), array_stats.ess(draws, method="bulk"), rtol=0.02)
        np.testing.assert_allclose(ess_tail(draws), array_stats.ess(draws, method="tail", prob=(0.05, 0.95)), rtol=0.03)
    apart = noise + np.arange(4)[:, None]
    assert "R-hat" in diagnose({"x": apart}, 0).problem
    assert "divergent" in diagnose({"x": noise}, 3).problem
    assert diagnose({"x": noise}, 0).problem == ""


@pytest.mark.simulation
def test_simulation_based_calibration_of_the_nuts_model(model: SegmentModel) -> None:
    families = 200
    estimates, errors, effects, mu, tau = simulated(families, 8, seed=12)
    result = model.fit(estimates, errors, PRIOR, seed=3)
    assert (result.status == "ok").mean() > 0.99
    ok = result.status == "ok"
    rank = sc.ndtr((mu - result.overall_mean) / result.overall_sd)[ok]
    counts = np.histogram(rank, bins=10, range=(0, 1))[0]
    assert sc.chdtrc(9, ((counts - ok.sum() / 10) ** 2 / (ok.sum() / 10)).sum()) > 0.001
    covered = ((tau >= result.between_lower) & (tau <= result.between_upper))[ok].mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / ok.sum()) + 0.005
    inside = ((effects >= np.log1p(result.hdi_lower)) & (effects <= np.log1p(result.hdi_upper)))[ok]
    assert abs(inside.mean() - 0.95) < 3 * inside.mean(1).std() / np.sqrt(ok.sum()) + 0.005
