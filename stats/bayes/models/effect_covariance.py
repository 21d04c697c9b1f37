"""How true effects on several metrics vary together across experiments, by NUTS (METHODS E9).

`stats.programme.effect_pairs` is the same model for two metrics, on a grid. This one is for inputs that are judged
together: what a move of one is worth while the others stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.effect_covariance_density import coordinates_of, covariances_at, effect_density
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.written_density import log_density
from stats.bayes.sampling.contract import Array, Data, Draws

_USED: Final = 2000
_RIDGE: Final = 1e-9
"""Of a variance: metrics that are one another's copies leave error covariances without an inverse."""


def _build(size: int) -> Any:
    import pymc as pm

    with pm.Model() as model:
        data = {name: pm.Data(name, values) for name, values in _example(size).items()}
        z = pm.Flat("z", shape=coordinates_of(size))
        pm.Deterministic("score", 1.0 * z)
        pm.Potential("posterior", log_density(effect_density, z, data["estimate"], data["error"], data["largest"]))
    return model


def _example(size: int) -> Data:
    rng = np.random.default_rng(20261101)
    shared = rng.normal(size=(20, size, 1)) + rng.normal(size=(20, size, size))
    errors = shared @ shared.swapaxes(1, 2) / size + 0.2 * np.eye(size)
    return {"estimate": rng.normal(size=(20, size)), "error": errors, "largest": np.array([float(size)])}


DEFINITION: Final = ModelDefinition(
    name="effect_covariance",
    version=2,
    story=(
        "Experiments have true effects on the North Star and on its inputs, on the log lift, drawn together: what "
        "moves an input tends to move the North Star. They have fat tails (Student's t with 4 degrees of freedom, as "
        "five normals), because a few changes matter much more than most, and then in all metrics. Each experiment "
        "sees its effects with normal errors of known covariance; the errors of different metrics are correlated, "
        "because the same people are in all of them. Standard deviations of true effects are half-normal in the "
        "metric's own scale (the median standard error, or the spread of the estimates where that is larger), "
        "correlations are LKJ(1), common means normal with the same scale. True effects are integrated out. It "
        "assumes that experiments are exchangeable, and that what an experiment does to the North Star past its "
        "inputs has nothing to do with what it does to them."
    ),
    methods=("E9",),
    sizes=(3, 6),
    build=_build,
    example=_example,
    kept=("score",),
    target_accept=0.9,
)


@dataclass(frozen=True, slots=True, eq=False)
class EffectCovarianceQuestion:
    """Estimates (K, M) of K experiments on M metrics, the North Star first, with error covariances (K, M, M).

    `scale` (M,) is the unit of each metric's priors. The fit has `covariances` and nothing else.
    """

    estimate: Array
    covariance: Array
    scale: Array

    @property
    def definition(self) -> ModelDefinition:
        """`stats.bayes.models.effect_covariance.DEFINITION`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """The number of metrics that the program has room for. Raises `ImpossibleData`."""
        return DEFINITION.size_for(len(self.scale))

    def data(self) -> Data:
        """Estimates and covariances in units of the scales. Raises `ImpossibleData`."""
        shape = (*self.estimate.shape, len(self.scale))
        if len(shape) != 3 or shape[1] < 2 or shape[1] != shape[2] or self.covariance.shape != shape:
            raise ImpossibleData("every experiment needs effects on two metrics or more, and their error covariance")
        if not (np.isfinite(self.estimate).all() and np.isfinite(self.covariance).all() and (self.scale > 0).all()):
            raise ImpossibleData("effects and their error covariances must be finite numbers")
        error = self.covariance / np.outer(self.scale, self.scale)
        variances = np.einsum("kmm->km", error)
        if not (variances > 0).all():
            raise ImpossibleData("every effect needs a positive standard error")
        error = error + _RIDGE * variances[:, :, None] * np.eye(shape[1])
        if (np.linalg.eigvalsh(error) <= 0).any():
            raise ImpossibleData("an error covariance is none: it has a negative variance in some direction")
        return {"estimate": self.estimate / self.scale, "error": error, "largest": np.array([float(self.size)])}

    def monitored(self, draws: Draws) -> Mapping[str, Array]:
        """Standard deviations, and each input's correlation with the North Star; slopes follow from the matrices."""
        found = covariances_at(draws.values["score"], np.ones(len(self.scale)))
        spread = np.sqrt(np.einsum("...mm->...m", found))
        monitored = {f"standard deviation {m}": spread[..., m] for m in range(len(self.scale))}
        for m in range(1, len(self.scale)):
            monitored[f"correlation {m}"] = found[..., 0, m] / (spread[..., 0] * spread[..., m])
        return monitored

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """Covariance matrices of true effects, at most 2,000 of them."""
        scores = draws.values["score"]
        scores = scores.reshape(-1, scores.shape[-1])
        scores = scores[:: max(1, len(scores) // _USED)]
        return ModelFit(
            model=DEFINITION.name,
            version=DEFINITION.version,
            status="ok",
            covariances=covariances_at(scores, self.scale),
        )
