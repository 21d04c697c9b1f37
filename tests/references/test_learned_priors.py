"""Learned populations against published and computed meta-analyses: metadat's data sets and the ASOS experiments.

With a normal population and hyper-priors so wide that they say nothing, the posterior of tau is the restricted
likelihood. So its highest point is metafor's REML estimate, exactly, and its mean and interval are integrals that scipy
computes as well. DerSimonian and Laird's moment estimates, ASOS's references, must lie within the interval.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import scipy.integrate as si
import scipy.optimize as so

from stats.bayes.effect_grid import HyperPriors, Nodes, profile
from stats.bayes.population import population
from tests.meta_analysis import random_effects
from tests.shared_data import manifest_entry, shared_path

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _log_ratio(table: pl.DataFrame) -> tuple[Array, Array]:
    """BCG: log risk ratio of treated and control."""
    tp, tn, cp, cn = table.select("tpos", "tneg", "cpos", "cneg").to_numpy().T
    return np.log(tp / (tp + tn) / (cp / (cp + cn))), np.sqrt(1 / tp - 1 / (tp + tn) + 1 / cp - 1 / (cp + cn))


def _difference(table: pl.DataFrame) -> tuple[Array, Array]:
    n1, m1, s1, n2, m2, s2 = table.select("n1i", "m1i", "sd1i", "n2i", "m2i", "sd2i").to_numpy().T
    return m1 - m2, np.sqrt(s1**2 / n1 + s2**2 / n2)


def _log_odds_ratio(table: pl.DataFrame) -> tuple[Array, Array]:
    a, n1, c, n2 = table.filter((pl.col("ai") > 0) & (pl.col("ci") > 0)).select("ai", "n1i", "ci", "n2i").to_numpy().T
    return np.log(a * (n2 - c) / (c * (n1 - a))), np.sqrt(1 / a + 1 / (n1 - a) + 1 / c + 1 / (n2 - c))


def _given(table: pl.DataFrame) -> tuple[Array, Array]:
    return table["yi"].to_numpy(), np.sqrt(table["vi"].to_numpy())


DATA: dict[str, Callable[[pl.DataFrame], tuple[Array, Array]]] = {
    "bcg": _log_ratio,
    "normand1999": _difference,
    "begg1989": _given,
    "raudenbush1985": _given,
    "egger2001": _log_odds_ratio,
    "hackshaw1998": _given,
}


def read(name: str) -> tuple[Array, Array]:
    """Effects and standard errors of a data set."""
    path = shared_path("data", "multi", f"metadat_{name}.csv")
    return DATA[name](pl.read_csv(path, infer_schema_length=None, encoding="utf8-lossy"))


def vague(effect: Array) -> HyperPriors:
    """Hyper-priors ten thousand times wider than the data."""
    wide = 1e4 * float(np.abs(effect).max())
    return HyperPriors(wide, wide)


def restricted_log_likelihood(effect: Array, error: Array, tau: float) -> float:
    """Of tau, the mean integrated out under a flat prior (Patterson & Thompson 1971)."""
    variance = error**2 + tau**2
    weight = 1 / variance
    mean = (weight * effect).sum() / weight.sum()
    return float(-0.5 * (np.log(variance).sum() + np.log(weight.sum()) + (weight * (effect - mean) ** 2).sum()))


@pytest.mark.parametrize("name", DATA)
def test_the_highest_point_of_the_grid_is_metafors_reml(name: str) -> None:
    effect, error = read(name)
    reml = manifest_entry(f"multi/metadat_{name}.csv")["computed_reference"]
    reml = reml.get("reml", reml)
    assert effect.size == reml["k"]
    nodes = Nodes.of("normal")

    def height(tau: float) -> float:
        return -float(profile(effect, error**2, np.array([tau]), None, nodes)[2][0])

    width = float(np.abs(effect - effect.mean()).max())
    best = so.minimize_scalar(height, bounds=(0, 3 * width), method="bounded", options={"xatol": 1e-9 * width})
    mode, sd, _ = profile(effect, error**2, np.array([best.x]), None, nodes)
    assert best.x**2 == pytest.approx(reml["tau2"], rel=1e-4)
    assert mode[0] == pytest.approx(reml["mu"], rel=1e-4)
    assert sd[0] == pytest.approx(reml["se"], rel=1e-4)


@pytest.mark.parametrize("name", DATA)
def test_posterior_of_mean_and_tau_is_that_of_one_dimensional_integrals(name: str) -> None:
    effect, error = read(name)
    found = population(effect, error, hyper=vague(effect), shape="normal")
    assert found.mean is not None and found.tau is not None
    top = restricted_log_likelihood(effect, error, found.tau.mean)
    far = 100 * float(np.abs(effect - np.median(effect)).max() + error.max())

    def integral(of: Callable[[float], float], upto: float = far) -> float:
        def at(root: float) -> float:  # sqrt(tau), because tau spans orders of magnitude
            likelihood = np.exp(restricted_log_likelihood(effect, error, root**2) - top)
            return 2 * root * of(root**2) * float(likelihood)

        knots = [k for k in np.sqrt(found.tau.mean * np.array([0.1, 0.5, 1.0, 2.0, 5.0])) if k**2 < upto]
        return float(si.quad(at, 0, np.sqrt(upto), points=knots or None, limit=200)[0])

    def centre(tau: float) -> float:
        weight = 1 / (error**2 + tau**2)
        return float((weight * effect).sum() / weight.sum())

    whole = integral(lambda tau: 1.0)
    assert found.tau.mean == pytest.approx(integral(lambda tau: tau) / whole, rel=1e-3)
    assert found.mean.mean == pytest.approx(integral(centre) / whole, rel=1e-3, abs=1e-3 * error.min())
    for end, share in ((found.tau.lower, 0.025), (found.tau.upper, 0.975)):
        assert integral(lambda tau: 1.0, end) / whole == pytest.approx(share, abs=5e-4)
    reml = manifest_entry(f"multi/metadat_{name}.csv")["computed_reference"]
    reml = reml.get("reml", reml)
    assert found.tau.lower < np.sqrt(reml["tau2"]) < found.tau.upper
    assert found.mean.lower < reml["mu"] < found.mean.upper


@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
def test_the_asos_experiments_have_the_population_of_their_reference(key: str) -> None:
    """49 treatments of a metric: the reference's mean and tau lie in the intervals, vague and as the service learns."""
    data = pl.read_parquet(shared_path("data", "split", "dev", "asos_dev.parquet")).drop_nulls()
    last = (
        data.filter(pl.col("metric_id") == int(key))
        .sort("time_since_start")
        .group_by("experiment_id", "variant_id", maintain_order=True)
        .last()
    )
    control, treatment = (
        last.select(f"count_{arm}", f"mean_{arm}", f"variance_{arm}").to_numpy().T for arm in ("c", "t")
    )
    relative = [np.sqrt(variance / n) / mean for n, mean, variance in (control, treatment)]
    error = np.hypot(*relative)
    log_lift = np.log(treatment[1] / control[1])
    reference = manifest_entry("split/dev/asos_dev.parquet")["computed_reference"]["random_effects_relative_lift"][key]
    assert random_effects(np.expm1(log_lift), error * np.exp(log_lift)) == pytest.approx(reference, rel=1e-6)
    free = population(log_lift, error, hyper=vague(log_lift), shape="normal")
    ours = population(log_lift, error)
    for found in (free, ours):
        assert found.mean is not None and found.mean.lower < reference["mu_rel_DL"] < found.mean.upper
    assert free.tau is not None and free.tau.lower < reference["tau_rel_DL"] < free.tau.upper
    # The sd of a t4 is sqrt(2) tau, and its tails explain what is large: tau is smaller than a normal's.
    assert ours.tau is not None and ours.tau.lower < reference["tau_rel_DL"] and ours.tau.mean < free.tau.mean
