"""Randomising clusters costs what the resemblance of their units, their sizes and their number make it cost."""

import numpy as np
import pytest
import scipy.stats as sps

from stats.cluster_design import ClusterDesign, clusters_needed, signal_with_clusters


def test_the_design_effect_is_the_textbook_one():
    assert ClusterDesign(20, icc=0.05).effect == pytest.approx(1 + 19 * 0.05)
    assert ClusterDesign(20, 1.0, 0.05).effect == pytest.approx(1 + 39 * 0.05)
    assert ClusterDesign(1).effect == 1.0
    assert ClusterDesign(20, 1.0, 0.05, measured_effect=1.7).effect == 1.7


def test_the_design_effect_is_what_clustered_means_vary_by():
    """Weighted means of clusters with sizes 5 and 35 (cv 0.75): the formula allows for the worst weighting."""
    rng = np.random.default_rng(4)
    icc, sizes = 0.1, np.tile([5, 35], 50)
    shared = rng.normal(0, np.sqrt(icc), (20_000, sizes.size))
    noise = rng.normal(0, np.sqrt((1 - icc) / sizes), (20_000, sizes.size))
    means = ((shared + noise) * sizes).sum(axis=1) / sizes.sum()
    observed = means.var() * sizes.sum()
    assert observed == pytest.approx(ClusterDesign(20, 0.75, icc).effect, rel=0.04)


def test_few_clusters_need_t_quantiles_and_many_do_not():
    normal = sps.norm.ppf(0.975) + sps.norm.ppf(0.8)
    got = signal_with_clusters(float(sps.norm.ppf(0.975)), 0.8, [10, 10**9])
    np.testing.assert_allclose(got, [sps.t.ppf(0.975, 8) + sps.t.ppf(0.8, 8), normal], rtol=1e-7)
    for clusters in (1.0, 10.2, 40.0, 1000.0):
        found = clusters_needed(clusters, 1.96, 0.8)
        enough = clusters * (signal_with_clusters(1.96, 0.8, [found - 1, found]) / normal) ** 2
        assert enough[1] <= found * (1 + 1e-4)
        assert found == 4 or found - 1 < enough[0]
    assert clusters_needed(1000.0, 1.96, 0.8) <= 1003


def test_impossible_clusters_are_refused():
    for wrong in (
        {"size": 0.5},
        {"size": 5, "icc": 1.1},
        {"size": 5, "size_cv": -1},
        {"size": 5, "measured_effect": 0},
    ):
        with pytest.raises(ValueError):
            ClusterDesign(**wrong)
