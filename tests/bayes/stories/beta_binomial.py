"""How conversions come about in the beta-binomial model: as rows, and as the model a user would write on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.prior import Family, Prior
from tests.bayes.stories.lifts import drawn_lifts, graph_lifts

PRIOR: Final = Prior(Family.STUDENT_T4, 0.0, 0.15, "for calibration: wide enough to meet rates of one")
BASELINE: Final = (-1.0, 0.5)
ARMS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One row per user: the arm, and whether it converted; both (n,)."""

    arm: np.ndarray
    converted: np.ndarray


def question_of(
    rows: Rows, prior: Prior = PRIOR, baseline: tuple[float, float] | None = BASELINE, **options: Any
) -> BetaBinomialQuestion:
    """The rows reduced."""
    arms = int(rows.arm.max()) + 1
    units, successes = np.bincount(rows.arm, minlength=arms), np.bincount(rows.arm, rows.converted, arms)
    return BetaBinomialQuestion(units.astype(np.float64), successes, prior, baseline, **options)


def make_rows(rng: np.random.Generator, users_per_arm: int, *, arms: int = ARMS) -> Rows:
    """A test in which every arm is a little better than the one before."""
    arm = np.repeat(np.arange(arms), users_per_arm)
    return Rows(arm, (rng.random(len(arm)) < 0.3 * 1.05**arm).astype(np.float64))


def row_level(rows: Rows, prior: Prior = PRIOR, baseline: tuple[float, float] = BASELINE) -> Any:
    """The same model on rows; `mean` is (A,), `log_lift` (A - 1,)."""
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        log_rate = pm.Normal("log_rate", *baseline)
        lifts = graph_lifts("log_lift", prior, int(rows.arm.max()))
        rates = pm.Deterministic("mean", pt.exp(log_rate + pt.concatenate([[0.0], lifts])))
        pm.Potential("possible", pt.switch(rates.max() < 1, 0.0, -np.inf))
        pm.Bernoulli("converted", p=pt.minimum(rates, 1 - 1e-12)[rows.arm], observed=rows.converted.astype(int))
    return model


def simulate(
    rng: np.random.Generator, *, users_per_arm: int = 300, prior: Prior = PRIOR
) -> tuple[dict[str, float], BetaBinomialQuestion]:
    """Rates from the joint prior, which has none of 1 and more; three arms of rows from the rates, reduced."""
    while True:
        log_rate, lifts = rng.normal(*BASELINE), drawn_lifts(rng, prior, ARMS - 1)
        if log_rate + max(0.0, lifts.max()) < 0:
            break
    arm = np.repeat(np.arange(ARMS), users_per_arm)
    rates = np.exp(log_rate + np.append(0.0, lifts))
    rows = Rows(arm, (rng.random(len(arm)) < rates[arm]).astype(np.float64))
    truth = {"mean[0]": float(rates[0])} | {f"log_lift[{a + 1}]": float(lift) for a, lift in enumerate(lifts)}
    return truth, question_of(rows, prior)
