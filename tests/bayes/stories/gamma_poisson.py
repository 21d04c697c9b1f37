"""How events come about in the gamma-Poisson model: as rows, and as the model a user would write on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.gamma_poisson import GammaPoissonQuestion
from stats.bayes.prior import Family, Prior
from tests.bayes.stories.lifts import drawn_lifts, graph_lifts

PRIOR: Final = Prior(
    Family.LEARNED, 0.02, 0.08, "for calibration: most changes do little", ((0.7, 0.0, 0.03), (0.3, 0.05, 0.13))
)
BASELINE: Final = (0.5, 0.5)
ARMS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One row per user: the arm, and its number of events; both (n,)."""

    arm: np.ndarray
    count: np.ndarray

    def by_arm(self) -> list[np.ndarray]:
        """The counts of every arm, control first."""
        return [self.count[self.arm == a] for a in range(int(self.arm.max()) + 1)]


def question_of(
    rows: Rows, prior: Prior = PRIOR, baseline: tuple[float, float] | None = BASELINE, **options: Any
) -> GammaPoissonQuestion:
    """The rows reduced."""
    arms = rows.by_arm()
    return GammaPoissonQuestion(
        units=np.array([float(len(count)) for count in arms]),
        total=np.array([float(count.sum()) for count in arms]),
        squares=np.array([float(((count - count.mean()) ** 2).sum()) for count in arms]),
        prior=prior,
        baseline=baseline,
        **options,
    )


def make_rows(rng: np.random.Generator, users_per_arm: int, *, arms: int = ARMS) -> Rows:
    """A test in which every arm is a little better than the one before."""
    arm = np.repeat(np.arange(arms), users_per_arm)
    return Rows(arm, rng.poisson(1.6 * 1.05**arm))


def row_level(rows: Rows, prior: Prior = PRIOR, baseline: tuple[float, float] = BASELINE) -> Any:
    """The same model on rows; `mean` is (A,), `log_lift` (A - 1,)."""
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        log_rate = pm.Normal("log_rate", *baseline)
        lifts = graph_lifts("log_lift", prior, int(rows.arm.max()))
        rates = pm.Deterministic("mean", pt.exp(log_rate + pt.concatenate([[0.0], lifts])))
        pm.Poisson("events", mu=rates[rows.arm], observed=rows.count)
    return model


def simulate(
    rng: np.random.Generator, *, users_per_arm: int = 200, prior: Prior = PRIOR
) -> tuple[dict[str, float], GammaPoissonQuestion]:
    """Rates from the prior, three arms of rows from the rates, reduced."""
    log_rate, lifts = rng.normal(*BASELINE), drawn_lifts(rng, prior, ARMS - 1)
    rates = np.exp(log_rate + np.append(0.0, lifts))
    arm = np.repeat(np.arange(ARMS), users_per_arm)
    truth = {"mean[0]": float(rates[0])} | {f"log_lift[{a + 1}]": float(lift) for a, lift in enumerate(lifts)}
    return truth, question_of(Rows(arm, rng.poisson(rates[arm])), prior)
