"""Past estimates tell how large effects usually are, noise taken off."""

import numpy as np
import pytest

from stats.effect_scale import ScaleReason, effect_scale


def test_fewer_than_eight_experiments_say_nothing():
    got = effect_scale([0.01] * 8, [0.01] * 7 + [np.nan])
    assert (got.experiments, got.tau, got.lower, got.upper) == (7, None, None, None)
    assert got.reason == ScaleReason.TOO_FEW_EXPERIMENTS
    assert effect_scale([], []).experiments == 0
    assert effect_scale([0.01] * 8, [0.01] * 8).reason == ""


def test_equal_errors_give_the_excess_of_the_mean_square():
    effect = np.array([0.05, -0.03, 0.01, 0.02, -0.01, 0.04, 0.0, -0.06])
    got = effect_scale(effect, np.full(8, 0.01))
    assert got.tau == pytest.approx(np.sqrt((effect**2).mean() - 0.01**2), rel=1e-9)
    assert got.lower is not None and got.upper is not None and got.tau is not None
    assert 0 < got.lower < got.tau < got.upper
    quiet = effect_scale(effect / 100, np.full(8, 0.01))
    assert (quiet.tau, quiet.lower) == (0.0, 0.0)


@pytest.mark.parametrize("tau", [0.0, 0.02])
def test_the_interval_covers_the_scale_that_made_the_effects(tau):
    rng = np.random.default_rng(6)
    covered, found = 0, []
    for _ in range(400):
        error = rng.uniform(0.005, 0.03, 25)
        got = effect_scale(rng.normal(0, tau, 25) + rng.normal(0, error), error)
        assert got.lower is not None and got.upper is not None and got.tau is not None
        covered += got.lower <= tau <= got.upper
        found.append(got.tau**2)
    # At zero the lower end is exact, so only the upper tail can miss.
    assert covered / 400 >= 0.9 - 3 * np.sqrt(0.09 / 400)
    if tau:
        assert np.mean(found) == pytest.approx(tau**2, rel=0.06)
    with pytest.raises(ValueError, match="level"):
        effect_scale([0.1], [0.1], level=1.0)
