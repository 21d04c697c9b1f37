"""How revenue comes about in the hurdle-lognormal model: as rows, and as the model a user would write on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.hurdle_density import SIGMA_GAP
from stats.bayes.models.hurdle_lognormal import HurdleBaseline, HurdleLognormalQuestion
from stats.bayes.prior import Prior

PRIOR: Final = Prior.default()
BASELINE: Final = HurdleBaseline(log_rate=(np.log(0.2), 0.3), log_order=(3.0, 0.5), log_sigma=(-0.2, 0.2))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One row per user: the arm, and what was spent, 0 for nothing; both (n,)."""

    arm: np.ndarray
    amount: np.ndarray


def question_of(rows: Rows, prior: Prior = PRIOR, baseline: HurdleBaseline | None = None, **options: Any) -> Any:
    """The rows reduced."""
    arms = [rows.amount[rows.arm == a] for a in range(int(rows.arm.max()) + 1)]
    logs = [np.log(amount[amount > 0]) for amount in arms]
    return HurdleLognormalQuestion(
        units=np.array([float(len(amount)) for amount in arms]),
        buyers=np.array([float(len(log)) for log in logs]),
        log_mean=np.array([log.mean() if len(log) else 0.0 for log in logs]),
        log_squares=np.array([((log - log.mean()) ** 2).sum() if len(log) else 0.0 for log in logs]),
        prior=prior,
        mean=np.array([amount.mean() for amount in arms]),
        percentile_99=np.array([np.exp(np.quantile(log, 0.99, method="inverted_cdf")) for log in logs]),
        baseline=baseline,
        **options,
    )


def make_rows(rng: np.random.Generator, users_per_arm: int, *, arms: int = 3, sigma: float = 0.8) -> Rows:
    """A test in which every arm is a little better than the one before."""
    arm = np.repeat(np.arange(arms), users_per_arm)
    buys = rng.random(len(arm)) < 0.2 * np.exp(0.02 * arm)
    return Rows(arm, buys * np.exp(2.5 + 0.02 * arm + sigma * rng.standard_normal(len(arm))))


def row_level(rows: Rows, prior: Prior = PRIOR, baseline: HurdleBaseline = BASELINE) -> Any:
    """The same model on rows, with a normal prior and one sigma; `log_lift` is (A - 1,)."""
    import pymc as pm
    import pytensor.tensor as pt

    treatments = int(rows.arm.max())
    buying = rows.amount > 0
    with pm.Model() as model:
        half = {"mu": prior.mean / 2, "sigma": prior.scale / np.sqrt(2)}
        log_rate = pm.Normal("log_rate", *baseline.log_rate)
        log_order = pm.Normal("log_order", *baseline.log_order)
        log_sigma = pm.Normal("log_sigma", *baseline.log_sigma)
        rate_lift = pm.Normal("rate_lift", **half, shape=treatments)
        order_lift = pm.Normal("order_lift", **half, shape=treatments)
        pm.Deterministic("log_lift", rate_lift + order_lift)
        rates = pt.exp(log_rate + pt.concatenate([[0.0], rate_lift]))
        orders = log_order + pt.concatenate([[0.0], order_lift])
        sigma = pt.exp(log_sigma)
        pm.Bernoulli("buys", p=rates[rows.arm], observed=buying.astype(int))
        pm.Normal("log_amount", orders[rows.arm[buying]] - sigma**2 / 2, sigma, observed=np.log(rows.amount[buying]))
    return model


def simulate(
    rng: np.random.Generator, *, own: bool = False, users_per_arm: int = 1500
) -> tuple[dict[str, float], HurdleLognormalQuestion]:
    """Parameters from the prior, three arms of rows from the parameters, the rows reduced."""
    treatments = 2
    while True:
        log_rate = rng.normal(*BASELINE.log_rate)
        rate_lift, order_lift = rng.normal(PRIOR.mean / 2, PRIOR.scale / np.sqrt(2), (2, treatments))
        if log_rate + max(0.0, rate_lift.max()) < 0:  # rates of 1 and more are ruled out
            break
    log_order, log_sigma = rng.normal(*BASELINE.log_order), rng.normal(*BASELINE.log_sigma)
    gaps = rng.normal(0.0, SIGMA_GAP, treatments) if own else np.zeros(treatments)
    rates = np.exp(log_rate + np.append(0.0, rate_lift))
    orders = log_order + np.append(0.0, order_lift)
    sigmas = np.exp(log_sigma + np.append(0.0, gaps))
    arm = np.repeat(np.arange(treatments + 1), users_per_arm)
    logs = orders[arm] - sigmas[arm] ** 2 / 2 + sigmas[arm] * rng.standard_normal(len(arm))
    rows = Rows(arm, (rng.random(len(arm)) < rates[arm]) * np.exp(logs))
    truth = {"mean[0]": float(np.exp(log_rate + log_order)), "log_sigma[0]": float(log_sigma)}
    for v in range(treatments):
        truth |= {
            f"log_lift[{v + 1}]": float(rate_lift[v] + order_lift[v]),
            f"log_rate_lift[{v + 1}]": float(rate_lift[v]),
            f"log_order_lift[{v + 1}]": float(order_lift[v]),
        }
        if own:
            truth[f"log_sigma[{v + 1}]"] = float(log_sigma + gaps[v])
    return truth, question_of(rows, PRIOR, BASELINE, own_sigma=own)


def simulate_own_sigmas(rng: np.random.Generator) -> tuple[dict[str, float], HurdleLognormalQuestion]:
    """The same where every arm has a sigma of its own."""
    return simulate(rng, own=True)
