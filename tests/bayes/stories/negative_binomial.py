"""How events of uneven users come about: as rows, and as the model a user would write on rows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from stats.bayes.models.negative_binomial import (
    ARM_DISPERSION,
    WEAK_DISPERSION,
    NegativeBinomialQuestion,
    from_counts,
)
from stats.bayes.prior import Family, Prior
from tests.bayes.stories.gamma_poisson import Rows
from tests.bayes.stories.lifts import drawn_lifts, graph_lifts

PRIOR: Final = Prior(Family.NORMAL, 0.0, 0.2, "for calibration: wide, so that data and prior both matter")
BASELINE: Final = (1.0, 0.5)
ARMS: Final = 3


def question_of(
    rows: Rows, prior: Prior = PRIOR, baseline: tuple[float, float] | None = BASELINE, **options: Any
) -> NegativeBinomialQuestion:
    """The rows reduced."""
    return from_counts(rows.by_arm(), prior, baseline=baseline, **options)


def drawn_counts(rng: np.random.Generator, mean: Any, dispersion: Any) -> np.ndarray:
    """A Poisson count at a gamma rate of relative variance `dispersion`."""
    return np.asarray(rng.poisson(rng.gamma(1 / dispersion, mean * dispersion)))


def make_rows(rng: np.random.Generator, users_per_arm: int, *, arms: int = ARMS, dispersion: float = 1.3) -> Rows:
    """A test in which every arm is a little better than the one before."""
    arm = np.repeat(np.arange(arms), users_per_arm)
    return Rows(arm, drawn_counts(rng, 2.5 * 1.05**arm, dispersion))


def row_level(
    rows: Rows, prior: Prior = PRIOR, baseline: tuple[float, float] = BASELINE, *, shared_dispersion: bool = True
) -> Any:
    """The same model on rows; `mean` is (A,), `log_lift` (A - 1,), `dispersion` () or (A,)."""
    import pymc as pm
    import pytensor.tensor as pt

    treatments = int(rows.arm.max())
    with pm.Model() as model:
        log_mean = pm.Normal("log_mean", *baseline)
        lifts = graph_lifts("log_lift", prior, treatments)
        means = pm.Deterministic("mean", pt.exp(log_mean + pt.concatenate([[0.0], lifts])))
        control = pm.Normal("log_dispersion", *WEAK_DISPERSION)
        if shared_dispersion:
            alpha = pt.exp(-control)
            pm.Deterministic("dispersion", pt.exp(control))
        else:
            others = pm.Normal("log_dispersions", control, ARM_DISPERSION, shape=treatments)
            all_arms = pt.concatenate([control[None], others])
            pm.Deterministic("dispersion", pt.exp(all_arms))
            alpha = pt.exp(-all_arms)[rows.arm]
        pm.NegativeBinomial("events", mu=means[rows.arm], alpha=alpha, observed=rows.count)
    return model


def simulate(
    rng: np.random.Generator, *, users_per_arm: int = 200, shared_dispersion: bool = True
) -> tuple[dict[str, float], NegativeBinomialQuestion]:
    """Means and dispersions from the prior, three arms of rows from them, reduced."""
    while True:
        log_mean, lifts = rng.normal(*BASELINE), drawn_lifts(rng, PRIOR, ARMS - 1)
        control = rng.normal(*WEAK_DISPERSION)
        spread = 0.0 if shared_dispersion else ARM_DISPERSION
        logs = np.append(control, control + spread * rng.standard_normal(ARMS - 1))
        means = np.exp(log_mean + np.append(0.0, lifts))
        arm = np.repeat(np.arange(ARMS), users_per_arm)
        counts = drawn_counts(rng, means[arm], np.exp(logs)[arm])
        # Drawn again where nobody has any events: the model refuses such data, once in a hundred thousand tests.
        if counts.any():
            break
    truth = {"mean[0]": float(means[0])} | {f"log_lift[{a + 1}]": float(lift) for a, lift in enumerate(lifts)}
    if shared_dispersion:
        truth["dispersion"] = float(np.exp(control))
    else:
        truth |= {f"dispersion[{a}]": float(np.exp(value)) for a, value in enumerate(logs)}
    return truth, question_of(Rows(arm, counts), PRIOR, shared_dispersion=shared_dispersion)
