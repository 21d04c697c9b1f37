"""An order drawn by lot is an experiment whatever the noise is, and only those in the lot take part."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import NotEstimable
from stats.launch.reasons import LaunchReason
from stats.launch.rollout_order import permuted_order
from tests.launch.rollout_panels import rollout


def test_an_effect_is_rarer_than_every_other_order():
    panel, _ = rollout(np.random.default_rng(1), effect=0.1)
    assert permuted_order(panel, seed=1, draws=99) == 0.01
    assert permuted_order(panel, seed=1, draws=19) == 0.05


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_relabelling_units_changes_nothing_but_the_draws(seed: int):
    rng = np.random.default_rng(seed)
    panel, _ = rollout(rng, units=12, treated=6, periods=20, starts=(8, 12))
    order = rng.permutation(12)
    other = replace(
        panel,
        units=tuple(panel.units[i] for i in order),
        y=panel.y[order],
        coverage=panel.coverage[order],
        excluded=panel.excluded[order],
        weight=panel.weight[order],
    )
    error = 4 * np.sqrt(2 * 0.25 / 59)
    assert permuted_order(panel, seed=2, draws=59) == pytest.approx(permuted_order(other, seed=2, draws=59), abs=error)


def test_only_units_in_the_lot_are_dealt_another_order():
    panel, _ = rollout(np.random.default_rng(2), effect=0.1, starts=(20,))
    # All treated launched together, and nobody else was in the lot: every order is the same.
    assert permuted_order(panel, seed=1, draws=49, eligible=panel.treated) == 1.0
    assert permuted_order(panel, seed=1, draws=49) == 0.02


def test_an_order_without_an_answer_has_no_p_value():
    panel, _ = rollout(np.random.default_rng(3))
    with pytest.raises(NotEstimable, match=LaunchReason.NO_COVERAGE):
        permuted_order(replace(panel, coverage=0 * panel.coverage), seed=1)


@pytest.mark.simulation
@pytest.mark.parametrize("case", [{"persistence": 0.95}, {"drift": 0.02}, {"uneven": 1.0}], ids=str)
def test_under_no_effect_p_values_are_uniform(case: dict[str, float]):
    p = []
    for seed in range(400):
        rng = np.random.default_rng([4, seed])
        panel, _ = rollout(rng, units=16, treated=8, periods=24, starts=(8, 12, 16), **case)
        loud = panel.y * np.exp(rng.standard_normal((16, 1)))
        p.append(permuted_order(replace(panel, y=loud), seed=seed, draws=39))
    for alpha in (0.05, 0.1, 0.25, 0.5):
        assert np.mean(np.array(p) <= alpha) == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / 400))
