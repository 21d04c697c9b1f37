"""How heavy-tailed values come about in the Student-t model: as rows, and as the model a user would write on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.student_density import NU_MEAN
from stats.bayes.models.student_t import StudentBaseline, StudentTQuestion
from stats.bayes.prior import Prior
from stats.unit_summary import edges_of

PRIOR: Final = Prior.default()
BASELINE: Final = StudentBaseline(log_location=(np.log(5.0), 0.2), log_scale=(0.0, 0.3))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One row per user: the arm and the value, both (n,)."""

    arm: np.ndarray
    value: np.ndarray


def question_of(
    rows: Rows, prior: Prior = PRIOR, baseline: StudentBaseline | None = None, **options: Any
) -> StudentTQuestion:
    """The rows reduced."""
    arms = [rows.value[rows.arm == a] for a in range(int(rows.arm.max()) + 1)]
    edges = edges_of(rows.value)
    return StudentTQuestion(
        edges=edges,
        counts=np.array([np.histogram(values, edges)[0] for values in arms], dtype=np.float64),
        prior=prior,
        mean=np.array([values.mean() for values in arms]),
        baseline=baseline,
        **options,
    )


def make_rows(
    rng: np.random.Generator, users_per_arm: int, *, arms: int = 3, location: float = 5.0, nu: float = 4.0
) -> Rows:
    """A test in which every arm is 2 % above the one before, when the location is positive."""
    arm = np.repeat(np.arange(arms), users_per_arm)
    return Rows(arm, location * 1.02**arm + rng.standard_t(nu, len(arm)))


def row_level(rows: Rows, prior: Prior = PRIOR, baseline: StudentBaseline = BASELINE) -> Any:
    """The same model on rows, with a normal prior; `log_lift` is (A - 1,)."""
    import pymc as pm
    import pytensor.tensor as pt

    arms = int(rows.arm.max()) + 1
    with pm.Model() as model:
        log_location = pm.Normal("log_location", *baseline.log_location)
        log_lift = pm.Normal("log_lift", prior.mean, prior.scale, shape=arms - 1)
        log_scale = pm.Normal("log_scale", *baseline.log_scale, shape=arms)
        tail = pm.Exponential("tail", scale=NU_MEAN)
        locations = pt.exp(log_location + pt.concatenate([[0.0], log_lift]))
        pm.StudentT(
            "value", nu=1 + tail, mu=locations[rows.arm], sigma=pt.exp(log_scale)[rows.arm], observed=rows.value
        )
    return model


def simulate(rng: np.random.Generator, *, users_per_arm: int = 500) -> tuple[dict[str, float], StudentTQuestion]:
    """Parameters from the prior, three arms of rows from the parameters, the rows reduced."""
    arms = 3
    log_location, tail = rng.normal(*BASELINE.log_location), rng.exponential(NU_MEAN)
    log_lift = rng.normal(PRIOR.mean, PRIOR.scale, arms - 1)
    log_scale = rng.normal(*BASELINE.log_scale, arms)
    arm = np.repeat(np.arange(arms), users_per_arm)
    locations = np.exp(log_location + np.append(0.0, log_lift))
    values = locations[arm] + np.exp(log_scale)[arm] * rng.standard_t(1 + tail, len(arm))
    truth = {"location[0]": float(locations[0]), "log_tail": float(np.log(tail))}
    truth |= {f"log_lift[{v + 1}]": float(log_lift[v]) for v in range(arms - 1)}
    truth |= {f"log_scale[{a}]": float(log_scale[a]) for a in range(arms)}
    return truth, question_of(Rows(arm, values), PRIOR, BASELINE)
