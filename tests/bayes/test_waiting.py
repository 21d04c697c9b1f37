"""What waiting is worth, against draws of what the data to come would say."""

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.mixture import Mixture
from stats.bayes.normal import posterior
from stats.bayes.prior import Family, Prior
from stats.bayes.waiting import (
    days_to_show,
    expected_best,
    net_gain,
    oriented,
    predictive_power,
    predictive_power_with_prior,
    value_of_information,
    waiting,
)

DRAWS = 200_000
MIXED = Mixture(np.array([0.6, 0.3, 0.1]), np.array([-0.002, 0.01, 0.0]), np.array([0.003, 0.01, 0.03]))


def one(mean: float, sd: float) -> Mixture:
    return Mixture(np.ones(1), np.array([mean]), np.array([sd]))


def draws(believed: Mixture, seed: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    which = rng.choice(len(believed.weight), size=DRAWS, p=believed.weight)
    return believed.mean[which] + believed.sd[which] * rng.standard_normal(DRAWS)


def learn(believed: Mixture, estimate: np.ndarray, error: float) -> np.ndarray:
    """Posterior means of the lift after new estimates."""
    spread = believed.sd**2 + error**2
    weight = believed.weight * np.exp(-0.5 * (estimate[:, None] - believed.mean) ** 2 / spread) / np.sqrt(spread)
    mean = believed.mean + believed.sd**2 / spread * (estimate[:, None] - believed.mean)
    return (weight * mean).sum(-1) / weight.sum(-1)


@pytest.mark.parametrize("mu", [0.2, -0.2])
def test_the_value_of_information_is_the_one_that_methods_prints(mu):
    """METHODS H4: 0.2217 by the closed form, 0.2218 by simulation (sigma = 1, a further sample with s = 0.8)."""
    assert float(value_of_information(one(mu, 1.0), np.array([0.8]))[0]) == pytest.approx(0.2217, abs=5e-5)


@pytest.mark.parametrize("believed", [one(0.004, 0.01), one(-0.004, 0.01), MIXED], ids=["good", "bad", "mixed"])
@pytest.mark.parametrize("error", [0.002, 0.01, 0.05])
def test_the_value_of_information_is_what_deciding_later_gains(believed, error):
    truth = draws(believed)
    later = learn(believed, truth + error * np.random.default_rng(5).standard_normal(DRAWS), error)
    gain = np.maximum(later, 0.0)
    expected = float(expected_best(believed, np.array([error]))[0])
    assert expected == pytest.approx(gain.mean(), abs=4 * gain.std() / np.sqrt(DRAWS))
    shipped = np.where(later > 0, truth, 0.0)  # what is really earned, not only what is believed
    assert expected == pytest.approx(shipped.mean(), abs=4 * shipped.std() / np.sqrt(DRAWS))


def test_a_mixture_of_equal_components_is_one_component():
    twins = Mixture(np.array([0.4, 0.6]), np.array([0.003, 0.003]), np.array([0.01, 0.01]))
    errors = np.array([0.0, 1e-4, 0.01, 1.0, np.inf])
    np.testing.assert_allclose(
        value_of_information(twins, errors), value_of_information(one(0.003, 0.01), errors), rtol=1e-9, atol=1e-15
    )


@settings(max_examples=60, deadline=None)
@given(
    means=st.lists(st.floats(-0.1, 0.1), min_size=3, max_size=3),
    sds=st.lists(st.floats(1e-4, 0.2), min_size=3, max_size=3),
    weights=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_more_information_is_never_worth_less_and_never_more_than_knowing_everything(means, sds, weights):
    share = np.array(weights) / sum(weights)
    believed = Mixture(share, np.array(means), np.array(sds))
    value = value_of_information(believed, np.array([np.inf, 1.0, 0.1, 0.01, 0.001, 0.0]))
    assert value[0] == 0 and (np.diff(value) > -1e-12).all()
    mean = (share * np.array(means)).sum()
    z = np.array(means) / np.array(sds)
    perfect = (share * (means * sc.ndtr(z) + sds * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))).sum()
    assert value[-1] == pytest.approx(perfect - max(mean, 0.0), abs=1e-12)


def test_the_chance_of_a_win_is_the_share_of_continuations_that_win():
    estimate, error, part, critical = 0.012, 0.009, 0.4, 1.96
    final = error * np.sqrt(part)
    prior = Prior(Family.LEARNED, 0.0, 0.02, "learned", ((0.8, 0.0, 0.004), (0.2, 0.0, 0.04)))
    believed = posterior(np.array(estimate), np.array(error), prior).mixture
    truth = draws(Mixture(believed.weight, believed.mean, believed.sd))
    rest = truth + final / np.sqrt(1 - part) * np.random.default_rng(6).standard_normal(DRAWS)
    share = ((part * estimate + (1 - part) * rest) / final > critical).mean()
    found = predictive_power_with_prior(np.array(estimate), np.array(error), believed, np.array(part), critical)
    assert float(found) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / DRAWS))


def test_without_a_prior_both_powers_are_the_same():
    z, part = np.array([-1.0, 0.5, 2.5]), np.array([0.2, 0.5, 0.9])
    believed = posterior(z * 0.01, np.full(3, 0.01), Prior.flat()).mixture
    with_prior = predictive_power_with_prior(z * 0.01, np.full(3, 0.01), believed, part, np.array(1.96))
    np.testing.assert_allclose(with_prior, predictive_power(z, part, np.array(1.96)), rtol=1e-6)


def test_when_nothing_is_left_to_come_there_is_nothing_to_predict():
    assert np.isnan(predictive_power(np.array(1.0), np.array([0.0, 1.0, np.nan]), np.array(1.96))).all()
    nothing = predictive_power_with_prior(np.array([np.nan]), np.array([0.1]), one(0, 1), np.array([0.5]), 1.96)
    assert np.isnan(nothing).all()


def steady(per_day: float):
    return lambda days: per_day * np.asarray(days)


def test_net_gain_is_what_waiting_earns_less_what_it_costs():
    """Against draws: wait, look, ship or not, and earn the truth for the rest of the horizon."""
    horizon, share, cost, error, days = 200.0, 0.5, 0.0002, 0.01, 20.0
    believed = one(0.003, 0.008)
    truth = draws(believed)
    new = error / np.sqrt(0.05 * days)
    later = learn(believed, truth + new * np.random.default_rng(7).standard_normal(DRAWS), new)
    earned = np.where(later > 0, truth, 0.0) * (horizon - days) + days * share * truth - cost * days
    gain = earned - np.where(0.003 > 0, truth, 0.0) * horizon
    found = net_gain(
        believed, np.array(error), steady(0.05), np.array([0.0, days]), horizon=horizon, share=share, cost=cost
    )
    assert float(found[0]) == pytest.approx(0.0, abs=1e-12)
    assert float(found[1]) == pytest.approx(gain.mean(), abs=4 * gain.std() / np.sqrt(DRAWS))


def test_deciding_now_is_best_when_the_answer_is_clear_and_waiting_when_it_is_not():
    clear, open_ = one(0.05, 0.005), one(0.001, 0.02)
    cells = Mixture(*(np.stack([getattr(b, name) for b in (clear, open_)]) for name in ("weight", "mean", "sd")))
    found = waiting(cells, np.array([0.005, 0.03]), steady(0.05), horizon=365, share=0.5)
    assert found.best_days[0] == 0 == found.best_gain[0]
    assert found.best_days[1] > 7 and found.best_gain[1] > 0
    assert found.net_gain[1].max() <= found.best_gain[1] + 1e-12
    assert found.days[0] == 0 and (found.net_gain[:, 0] == 0).all()


def test_the_best_day_is_that_of_looking_at_every_day():
    believed = Mixture(MIXED.weight[None], MIXED.mean[None], MIXED.sd[None])
    found = waiting(believed, np.array([0.02]), steady(0.03), horizon=365, share=0.3, cost=0.0001)
    every = np.arange(366.0)
    gain = net_gain(believed, np.array([0.02]), steady(0.03), every, horizon=365, share=0.3, cost=0.0001)[0]
    assert found.best_days[0] == every[gain.argmax()] and found.best_gain[0] == pytest.approx(gain.max())


def test_a_dearer_day_is_waited_for_less():
    believed, error = one(0.001, 0.02), np.array(0.02)
    days = [
        float(waiting(believed, error, steady(0.05), horizon=365, share=0.5, cost=cost).best_days)
        for cost in (0.0, 0.005, 0.05, 1.0)
    ]
    assert days == sorted(days, reverse=True) and days[-1] == 0 < days[0]


def test_without_new_units_waiting_is_worth_nothing():
    found = waiting(one(0.001, 0.02), np.array(0.02), steady(0.0), horizon=30, share=0.5)
    assert found.best_days == 0 and found.best_gain == 0 and np.isfinite(found.net_gain).all()


@pytest.mark.parametrize("horizon", [0.5, 3, 14, 30.5, 365, 3650])
def test_the_days_shown_rise_to_the_horizon(horizon):
    days = days_to_show(horizon)
    assert days[0] == 0 and (np.diff(days) > 0).all() and days[-1] <= horizon and len(days) <= 49
    assert days[-1] >= np.floor(horizon)
    with pytest.raises(ValueError, match="horizon"):
        waiting(one(0, 1), np.array(1.0), steady(1.0), horizon=0, share=0.5)


def test_less_is_better_turns_beliefs_around():
    assert oriented(MIXED, "increase") is MIXED
    assert float(oriented(MIXED, "decrease").moments()[0]) == -float(MIXED.moments()[0])
