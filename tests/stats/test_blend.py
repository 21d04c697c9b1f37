"""The North Star directly and through its tree, blended (METHODS E8)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from stats.bayes.mixture import Mixture
from stats.blend import BlendReason, blend
from tests.stats.moment_cases import within

Z95 = 1.959963984540054


def covariance(direct: float, tree: float, correlation: float = 0.0) -> np.ndarray:
    return np.array([[direct**2, correlation * direct * tree], [correlation * direct * tree, tree**2]])


def test_the_blend_is_the_posterior_with_truth_bias_and_its_scale_integrated() -> None:
    spread, scale = covariance(0.01, 0.004, 0.3), 0.008
    rng = np.random.default_rng(1)
    gaps, variances = rng.normal(0, 0.012, 6), rng.uniform(0.5e-4, 2e-4, 6)
    direct, tree = 0.021, 0.006
    got = blend(direct, tree, spread, gaps, variances, scale=scale)
    # On a plain dense grid: truth x scale of the bias.
    tau = 6 * scale * (np.arange(600) + 0.5) / 600
    truth = np.linspace(-0.06, 0.08, 1401)
    log_weight = -0.5 * (tau / scale) ** 2 + norm.logpdf(gaps[:, None], 0, np.sqrt(variances[:, None] + tau**2)).sum(
        axis=0
    )
    density = np.zeros(truth.size)
    for t, w in zip(tau, log_weight, strict=True):
        whole = spread + np.diag([0, t**2])
        inverse = np.linalg.inv(whole)
        off = np.stack([direct - truth, tree - truth], axis=-1)
        density += np.exp(w - 0.5 * np.einsum("ti,ij,tj->t", off, inverse, off)) / np.sqrt(np.linalg.det(whole))
    density /= density.sum()
    mean = float(density @ truth)
    assert got.value == pytest.approx(mean, abs=1e-5)
    assert got.standard_error == pytest.approx(float(np.sqrt(density @ (truth - mean) ** 2)), rel=1e-3)
    below = np.cumsum(density)
    assert got.lower == pytest.approx(float(np.interp(0.025, below, truth)), abs=1e-4)
    assert got.upper == pytest.approx(float(np.interp(0.975, below, truth)), abs=1e-4)


@settings(max_examples=25)
@given(st.floats(-0.2, 0.2), st.floats(1e-4, 0.1), st.lists(st.floats(-0.1, 0.1), max_size=5))
def test_a_definitional_tree_is_the_direct_measurement_over_again(
    direct: float, error: float, gaps: list[float]
) -> None:
    got = blend(direct, direct, covariance(error, error, 1.0), gaps, [1e-6] * len(gaps))
    assert got.value == direct and got.standard_error == error and got.weight_of_direct == 1
    assert got.lower == pytest.approx(direct - Z95 * error) and got.upper == pytest.approx(direct + Z95 * error)


@settings(max_examples=25)
@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.002, 0.05), st.floats(0.001, 0.05))
def test_a_blend_lies_between_and_is_never_less_precise_than_inverse_variance_allows(
    direct: float, tree: float, error: float, tree_error: float
) -> None:
    got = blend(direct, tree, covariance(error, tree_error))
    assert min(direct, tree) - 1e-12 <= got.value <= max(direct, tree) + 1e-12
    assert 0 < got.weight_of_direct < 1
    assert got.standard_error >= 1 / np.hypot(1 / error, 1 / tree_error) * (1 - 1e-6)
    turned = blend(-direct, -tree, covariance(error, tree_error))
    assert turned.value == pytest.approx(-got.value, abs=1e-12)
    assert turned.lower == pytest.approx(-got.upper, abs=1e-9)


def test_past_gaps_decide_how_much_the_tree_counts() -> None:
    spread = covariance(0.012, 0.003)
    rng = np.random.default_rng(2)
    honest, wild = rng.normal(0, 0.012, 40), rng.normal(0, 0.05, 40)
    good, poor = (blend(0.02, 0.015, spread, gaps, np.full(40, 0.012**2)) for gaps in (honest, wild))
    assert good.tree_bias < 0.01 < 0.03 < poor.tree_bias
    assert good.weight_of_direct < 0.4 < 0.8 < poor.weight_of_direct
    assert good.experiments == poor.experiments == 40
    # One huge gap of its own also speaks against the tree.
    assert blend(0.2, 0.0, spread).weight_of_direct > blend(0.01, 0.0, spread).weight_of_direct


def test_a_tree_of_another_kind_counts_nothing_if_its_noise_is_the_same() -> None:
    same = covariance(0.01, 0.01, 1.0)
    got = blend(0.02, 0.05, same)
    assert got.value == 0.02 and got.standard_error == 0.01
    nothing = blend(0.0, 0.0, np.zeros((2, 2)))
    assert nothing.value == 0 and nothing.standard_error == 0


def test_what_cannot_be_blended_is_said() -> None:
    missing = blend(np.nan, 0.01, covariance(0.01, 0.01))
    assert missing.reason == BlendReason.ESTIMATE_MISSING and np.isnan(missing.value)
    good = covariance(0.01, 0.01)
    for spread, gaps, variances, scale in (
        (np.eye(3), [], [], 0.01),
        (good, [0.1], [], 0.01),
        (good, [0.1], [-1.0], 0.01),
        (good, [], [], 0.0),
        (-good, [], [], 0.01),
    ):
        with pytest.raises(ValueError, match=r"covariance|past|scale"):
            blend(0.01, 0.01, spread, gaps, variances, scale=scale)


def test_quantiles_of_a_mixture_are_where_its_cdf_says() -> None:
    rng = np.random.default_rng(3)
    weight = rng.dirichlet(np.ones(5), 4)
    mixture = Mixture(weight, rng.normal(0, 3, (4, 5)), rng.uniform(0.1, 2, (4, 5)))
    levels = np.array([0.001, 0.1, 0.5, 0.975])
    np.testing.assert_allclose(mixture.cdf(mixture.quantile(levels)), np.broadcast_to(levels, (4, 4)), atol=1e-9)


def replicate(experiments: int, bias: float, runs: int, seed: int) -> dict[str, float]:
    """Coverage of four ways to combine, and the root mean square error of blend over that of direct alone.

    Errors of 0.01 (direct) and 0.003 (tree): a bias of 0.004 leaves the tree alone with a coverage of 0.76.
    """
    rng = np.random.default_rng(seed)
    spread = covariance(0.01, 0.003)
    noise = float(spread.sum() - 2 * spread[0, 1] * 2)
    rows = []
    for _ in range(runs):
        truth = rng.normal(0, 0.01)
        direct = truth + rng.normal(0, 0.01)
        tree = truth + rng.normal(0, bias) + rng.normal(0, 0.003)
        gaps = rng.normal(0, np.sqrt(noise + bias**2), experiments)
        got = blend(direct, tree, spread, gaps, np.full(experiments, noise))
        plug = max(0.0, float(np.mean(gaps**2)) - noise)
        row: dict[str, float] = {
            "tree": abs(tree - truth) <= Z95 * 0.003,
            "blend": got.lower <= truth <= got.upper,
            "square": (got.value - truth) ** 2,
            "direct": (direct - truth) ** 2,
        }
        for name, known in (("inverse_variance", 0.0), ("plug_in", plug)):
            weights = np.array([1e4, 1 / (9e-6 + known)])
            value = weights @ [direct, tree] / weights.sum()
            row[name] = abs(value - truth) <= Z95 / np.sqrt(weights.sum())
        rows.append(row)
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return found | {"rmse_ratio": float(np.sqrt(found["square"] / found["direct"]))}


def test_only_a_bias_that_stays_uncertain_covers_and_halves_the_error() -> None:
    """METHODS E8 [sim]: tree alone 0.76, without bias 0.73, plug-in 0.89, integrated 0.945 to 0.976, RMSE half."""
    runs = 400
    got = replicate(40, 0.004, runs, 4)
    assert within(got["tree"], 0.76, runs, tolerance=0.01)
    assert within(got["inverse_variance"], 0.76, runs, tolerance=0.03)
    assert within(got["plug_in"], 0.89, runs, tolerance=0.01)
    assert within(got["blend"], 0.96, runs, tolerance=0.015)
    assert got["rmse_ratio"] == pytest.approx(0.46, abs=0.06)


@pytest.mark.simulation
@pytest.mark.parametrize("experiments", [5, 10, 40])
@pytest.mark.parametrize("bias", [0.0, 0.004, 0.008, 0.015])
def test_blends_cover_for_all_biases_and_numbers_of_past_experiments(bias: float, experiments: int) -> None:
    """A small bias makes intervals long; where past gaps hardly tell it from their noise, they are two points short."""
    runs = 2000
    got = replicate(experiments, bias, runs, seed=int(1e5 * bias) + experiments)
    assert got["blend"] > 0.93 - 3 * np.sqrt(0.93 * 0.07 / runs)
    assert got["rmse_ratio"] < (0.75 if bias < 0.01 else 1)
