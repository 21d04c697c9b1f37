"""Each launch date against units without the launch, from the period before it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import Panel
from stats.launch.did import did
from stats.launch.group_time import NOT_YET_TREATED, group_time
from stats.launch.imputation import imputation
from stats.launch.reasons import LaunchReason
from tests.launch.rollout_panels import rollout
from tests.launch.test_imputation import published

DIFFERENCES = (0.0058943, 0.0925794, 0.1034236, 0.1094621, 0.1159067, 0.1279133, 0.1323524, 0.1492973)
"""Effects at -2 and at 0 to 6 periods since launch of `published`, by diff-diff 3.13.0 (`CallawaySantAnna`)."""


def by_hand() -> Panel:
    y = np.array(
        [[1.0, 2.0, 9.0, 10.0], [2.0, 2.0, 3.0, 8.0], [0.0, 1.0, 2.0, 2.0], [5.0, 5.0, 7.0, 8.0], [3.0, 4.0, 5.0, 8.0]]
    )
    coverage = np.zeros(y.shape)
    coverage[0, 2:], coverage[1, 3:] = 1.0, 1.0
    size = np.array([0.2, 0.6, 0.1, 0.05, 0.05])
    return Panel(("a", "b", "c", "d", "e"), y, coverage, np.zeros(y.shape, dtype=np.bool_), size)


def test_a_panel_by_hand():
    found = group_time(by_hand(), seed=1)
    # a launched in 2: 9 - 2 less (1 + 2 + 1) / 3, then 10 - 2 less (1 + 3 + 4) / 3; b in 3: 8 - 3 less (0 + 1 + 3) / 3
    a, later, b = 7 - 4 / 3, 8 - 8 / 3, 5 - 4 / 3
    assert found.effect == pytest.approx((0.2 * a + 0.2 * later + 0.6 * b) / (0.2 + 0.2 + 0.6))
    assert found.by_period == pytest.approx([0.25 * a, 0.25 * later + 0.75 * b])
    study = found.event_study
    assert study is not None
    assert study.time.tolist() == [0.0, 1.0]
    assert study.effect == pytest.approx([0.25 * a + 0.75 * b, later])


def test_it_is_what_another_implementation_finds():
    found = group_time(published(), seed=1)
    assert found.effect == pytest.approx(0.11268949593096206, rel=1e-7)
    assert found.event_study is not None
    assert found.event_study.effect == pytest.approx(DIFFERENCES, abs=1e-6)
    assert found.standard_error == pytest.approx(0.008670254724483085, rel=0.1)  # theirs does not allow for few units
    all_units = published()
    launched = Panel(*(getattr(all_units, name)[:20] for name in ("units", "y", "coverage", "excluded", "weight")))
    own = group_time(launched, seed=1)
    assert own.effect == pytest.approx(0.10362939475323799, rel=1e-7)
    assert own.notes == (NOT_YET_TREATED, "cells_without_comparison_left_out")


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_with_one_date_it_is_the_difference_from_the_period_before(seed: int):
    panel, _ = rollout(np.random.default_rng(seed), periods=12, starts=(5,))
    early = replace(panel, y=np.where((np.arange(12) < 4)[None, :], np.nan, panel.y))
    assert group_time(panel, seed=1).effect == pytest.approx(did(early).effect, abs=1e-12)


def test_where_units_move_in_parallel_it_is_what_imputation_says():
    panel, _ = rollout(np.random.default_rng(2), effect=0.1, growth=0.02, differing=0.5, uneven=0.5, noise=1e-7)
    one, other = group_time(panel, seed=1), imputation(panel, seed=1)
    assert one.effect == pytest.approx(other.effect, abs=1e-6)
    assert one.by_period == pytest.approx(other.by_period, abs=1e-6)
    assert one.fitted[19:] == pytest.approx(other.fitted[19:], abs=1e-6)


def test_the_base_is_the_last_period_before_the_announcement():
    panel, _ = rollout(np.random.default_rng(3), announced=3, starts=(20,), anticipated=0.5)
    found = group_time(panel, seed=1)
    since = panel.y[:, 20:] - panel.y[:, 16:17]
    assert found.by_period == pytest.approx(since[:9].mean(axis=0) - since[9:].mean(axis=0))
    assert found.event_study is not None and found.event_study.time[found.event_study.time < 0].max() == -5


def test_units_without_a_base_have_no_answer():
    panel, _ = rollout(np.random.default_rng(4))
    fresh = replace(panel, y=np.where((panel.coverage == 0) & panel.treated[:, None], np.nan, panel.y))
    assert group_time(fresh, seed=1).reason == LaunchReason.TOO_LITTLE_HISTORY
    assert group_time(replace(panel, coverage=0 * panel.coverage), seed=1).reason == LaunchReason.NO_COVERAGE
