"""Programmes of real experiments: the ASOS half, and Upworthy's headlines with their winner's curse seen and corrected.

Upworthy by thinning (Neufeld, Dharamshi, Gao & Witten 2024, "Data thinning for convolution-closed distributions"): half
of every package's impressions choose the best headline of a test, the other half say what it was worth.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from experiments.evidence import programme_result
from stats.bayes.effect_grid import HyperPriors
from stats.bayes.mixture import Array
from stats.programme.totals import programme
from tests.experiments.test_programme_evidence import AT, effect, plan_of
from tests.meta_analysis import random_effects
from tests.references.test_published_counts import BAD_WEEKS
from tests.shared_data import manifest_entry, shared_path

FEWEST_IMPRESSIONS = 200

type Split = Callable[[int], tuple[Array, Array, Array, Array, Array]]


def asos(metric: int) -> tuple[list[str], Array, Array]:
    """Keys, log lifts and errors of the last day of every treatment."""
    data = pl.read_parquet(shared_path("data", "split", "dev", "asos_dev.parquet")).drop_nulls()
    of_metric = data.filter(pl.col("metric_id") == metric).sort("time_since_start")
    last = of_metric.group_by("experiment_id", "variant_id", maintain_order=True).last()
    control, treatment = (
        last.select(f"count_{arm}", f"mean_{arm}", f"variance_{arm}").to_numpy().T for arm in ("c", "t")
    )
    error = np.hypot(*(np.sqrt(variance / n) / mean for n, mean, variance in (control, treatment)))
    keys = [f"{experiment[:20]}-{variant}" for experiment, variant in last.select("experiment_id", "variant_id").rows()]
    return keys, np.log(treatment[1] / control[1]), error


@pytest.mark.parametrize("metric", [1, *(pytest.param(k, marks=pytest.mark.simulation) for k in (2, 3, 4))])
def test_the_asos_half_has_the_heterogeneity_of_its_reference_and_less_than_it_claims(metric: int) -> None:
    keys, log_lift, error = asos(metric)
    reference = manifest_entry("split/dev/asos_dev.parquet")["computed_reference"]["random_effects_relative_lift"]
    wanted = reference[str(metric)]
    effects = [
        effect(f"{key}-{k}", float(x), error=float(s), shipped=bool(x > 1.645 * s))
        for k, (key, x, s) in enumerate(zip(keys, log_lift, error, strict=True))
    ]
    plan = plan_of(effects)
    again = np.array([[each.log_lift, each.standard_error] for each in plan.effects])
    found = random_effects(np.expm1(again[:, 0]), again[:, 1] * np.exp(again[:, 0]))
    assert found == pytest.approx(wanted, rel=1e-6)
    document = programme_result(plan, analysis_id="a", data_as_of=AT, code_version="test")
    assert document.experiments == wanted["k"] and document.mean is not None and document.tau is not None
    assert document.mean.lower < wanted["mu_rel_DL"] < document.mean.upper
    # The scale of a t4 leaves what is large to its tails: below the normal's, of which DerSimonian-Laird's is one.
    assert 0.2 * wanted["tau_rel_DL"] < document.tau.mean < wanted["tau_rel_DL"]
    total, naive = document.totals[0], document.totals[1]
    assert 0 < total.log_total < naive.log_total
    assert document.exaggeration is not None and 1.0 < document.exaggeration < 1.6


def test_the_shrunk_total_of_asos_is_a_plain_double_integral() -> None:
    """With a normal population, from a dense grid of mean and scale: nothing of ours but the hyper-priors."""
    _, x, s = asos(1)
    hyper = HyperPriors()
    tau, mean = np.linspace(0.0005, 0.03, 240), np.linspace(-0.008, 0.008, 161)[:, None]
    variance = tau**2 + s[:, None, None] ** 2
    log_density = -0.5 * (np.log(variance) + (x[:, None, None] - mean) ** 2 / variance).sum(axis=0)
    log_density += hyper.log_density_of_tau(tau) - 0.5 * (mean / hyper.mean_scale) ** 2
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    shipped = x > 1.645 * s
    kept = tau**2 / variance[shipped]
    centre = (mean + kept * (x[shipped][:, None, None] - mean)).sum(axis=0)
    spread = (kept * s[shipped][:, None, None] ** 2).sum(axis=0)
    total = float((weight * centre).sum())
    sd = float(np.sqrt((weight * (spread + (centre - total) ** 2)).sum()))
    found = programme(x, s, shape="normal").totals(shipped)
    assert found.mean[0] == pytest.approx(total, rel=1e-4)
    assert found.sd[0] == pytest.approx(sd, rel=1e-3)


@pytest.fixture(scope="module")
def halves() -> Split:
    """By seed: best headlines (T,) chosen on one half, claims and errors there (N,), what the other half says, CTRs."""
    data = pl.read_parquet(shared_path("data", "split", "dev", "upworthy_dev.parquet")).filter(
        ~pl.col("test_week").is_between(*BAD_WEEKS), pl.col("impressions") >= FEWEST_IMPRESSIONS
    )
    data = data.filter(pl.len().over("clickability_test_id") >= 2).sort("clickability_test_id")
    test = data["clickability_test_id"].rank("dense").to_numpy().astype(np.int64) - 1
    seen, clicked = data["impressions"].to_numpy(), data["clicks"].to_numpy()
    arms = np.bincount(test)

    def from_mean(clicks: Any, impressions: Any) -> tuple[Array, Array, Array]:
        """Click rates from the mean of their test, its standard errors, and the test's pooled rate."""
        rate = clicks / impressions
        pooled = (np.bincount(test, clicks) / np.bincount(test, impressions))[test]
        noise = pooled * (1 - pooled) / impressions
        shared = (np.bincount(test, noise) / arms**2)[test]
        away = rate - (np.bincount(test, rate) / arms)[test]
        return away, np.sqrt(noise * (1 - 2 / arms[test]) + shared), pooled

    def split(seed: int) -> tuple[Array, Array, Array, Array, Array]:
        rng = np.random.default_rng(seed)
        half = seen // 2
        first = rng.hypergeometric(clicked, seen - clicked, half)
        claim, error, rate = from_mean(first, half)
        check, _, _ = from_mean(clicked - first, seen - half)
        order = np.lexsort((-claim, test))
        best = order[np.r_[True, np.diff(test[order]) > 0]]
        return best, claim, error, check, rate

    return split


def test_upworthys_best_headlines_claim_twice_what_they_are_worth(halves: Split) -> None:
    wanted = manifest_entry("split/dev/upworthy_dev.parquet")["computed_reference"]
    wanted = wanted["winners_curse_thinning_clean_window"]
    found = np.array(
        [(100 * claim[best].mean(), 100 * check[best].mean()) for best, claim, _, check, _ in map(halves, range(10))]
    )
    claimed, validated = found.mean(axis=0)
    error = 3 * found.std(axis=0, ddof=1) / np.sqrt(10) + 1e-3
    assert claimed == pytest.approx(wanted["naive_winner_lift_train_pp"], abs=error[0])
    assert validated == pytest.approx(wanted["validated_lift_pp"], abs=error[1])
    assert validated / claimed == pytest.approx(wanted["shrink_ratio"], abs=0.02)


@pytest.mark.simulation
def test_shrinkage_believes_of_upworthys_best_headlines_what_the_other_half_shows(halves: Split) -> None:
    """5,588 headlines against the mean of their tests, relative to its click rate: what they have in common."""
    believed, shown, claimed, sd = [], [], [], []
    for best, claim, error, check, rate in map(halves, range(3)):
        found = programme(claim / rate, error / rate)
        total = found.totals(np.isin(np.arange(claim.size), best))
        believed.append(total.mean[0] / best.size)
        sd.append(np.hypot(total.sd[0] / best.size, (check / rate)[best].std() / np.sqrt(best.size)))
        shown.append((check / rate)[best].mean())
        claimed.append((claim / rate)[best].mean())
    # The three splits share their data: their mean is not more certain than one of them.
    assert np.mean(believed) == pytest.approx(np.mean(shown), abs=2 * np.mean(sd))
    assert np.mean(claimed) > 1.8 * np.mean(shown)
