"""The ledger by NUTS: the reference for the collapsed engine, and the way on where that one fails (METHODS F6)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.ledger_density import SCALARS, ledger_density
from stats.bayes.models.ledger_layout import Layout, Unfolded, density_data, layout_of, persistence, unfolded
from stats.bayes.models.lifted_arms import interval
from stats.bayes.models.written_density import log_density
from stats.bayes.sampling.contract import Array, Data, Draws
from stats.bayes.sensitivity import prior_sensitivity
from stats.ledger.conditional import complete, persistence_name
from stats.ledger.contract import LedgerData, LedgerFit, LedgerPriors

STORY: Final = (
    "Each experiment, shipped or not, measured its effect with a known error; true effects come from one population, "
    "a Student-t with four degrees of freedom about a small mean. A launch does to the North Star what its experiment"
    " found, times the realisation rate kappa that all launches share, with a scatter of its own; a launch that "
    "nobody measured is one more member of the population. An effect begins whole and tends to a long-run share of "
    "itself over some weeks, and counts in each week for those who had the change. The logarithm of the weekly North "
    "Star is the sum of these, of a season, of outside influences, and of a base: a level that wanders, with a slope "
    "that wanders; plus noise. A holdout measured what its launches did together. What is sampled are the scalars, "
    "the tails of effects and how far launches lie from their experiments; level, slope, season and influences are "
    "integrated out exactly. It assumes that nothing else pushed the North Star in the very weeks of launches, and no"
    " more than the base wanders."
)
_KEPT: Final = 2000
"""Draws that the answer carries: each is completed with a draw of everything that was integrated out."""
_TAILS: Final = "tails"
_HALF_NORMALS: Final = ("tau", "scatter", "noise", "level_step", "slope_step")


def _build(size: int) -> Any:
    import pymc as pm

    with pm.Model() as model:
        data = {name: pm.Data(name, values) for name, values in _example(size).items()}
        z = pm.Flat("z", shape=size)
        pm.Deterministic("score", 1.0 * z)
        names = inspect.signature(ledger_density).parameters
        pm.Potential("log_density", log_density(ledger_density, z, *(data[name] for name in names if name != "z")))
    return model


def _example(size: int) -> Data:
    """A small ledger with one of everything; no length is another's, nor the number of parameters."""
    rng, weeks, launches, effects = np.random.default_rng(size), 39, 5, 7
    begun = np.array([5, 9, 14, 20, 27])
    coverage = np.clip((np.arange(weeks)[:, None] - begun + 1) / 3, 0.0, 1.0)
    question = LedgerQuestion(
        LedgerData(
            log_values=9 + np.cumsum(0.004 * rng.standard_normal(weeks)) + 0.01 * rng.standard_normal(weeks),
            season_phase=np.arange(weeks) / 52.18,
            influences=rng.standard_normal((weeks, 3)),
            estimate=0.01 * rng.standard_normal(effects),
            error=np.full(effects, 0.006),
            bias_sd=np.zeros(effects),
            source=np.array([0, 1, 1, 3, -1]),
            coverage=coverage,
            remaining=np.array([0.8, *[np.nan] * (launches - 1)]),
            remaining_log_sd=np.array([0.2, *[np.nan] * (launches - 1)]),
            time_constant=np.array([4.0, *[np.nan] * (launches - 1)]),
            held_out=np.array([[1.0] * launches, [1.0, 1.0] + [0.0] * (launches - 2)]),
            holdout_week=np.array([weeks - 1, 30]),
            holdout_estimate=np.array([0.02, 0.01]),
            holdout_error=np.array([0.01, 0.01]),
        )
    )
    return question.data()


@dataclass(frozen=True, slots=True, eq=False)
class LedgerQuestion:
    """A ledger to reconcile. The fit has no `effects` of arms: its `draws` are what `ledger_fit` completes.

    `hyper` has the scalars. Series with values in fewer than 8 weeks are refused, and so are more than 1,000
    parameters: an effect is one, a launch is one, and one more where its persistence was measured.
    """

    ledger: LedgerData
    priors: LedgerPriors = field(default_factory=LedgerPriors)

    @property
    def definition(self) -> ModelDefinition:
        """See `Question`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """See `Question`."""
        needed = self._layout().size
        if needed > DEFINITION.sizes[-1]:
            raise ImpossibleData(f"{needed} parameters are more than the model's {DEFINITION.sizes[-1]}")
        return DEFINITION.size_for(needed)

    def data(self) -> Data:
        """See `Question`."""
        return density_data(self.ledger, self.priors, self._layout())

    def monitored(self, draws: Draws) -> dict[str, Array]:
        """See `Question`: the scalars, what each launch does at full coverage, and all together in the last week."""
        score = draws.values["score"]
        found = self._unfolded(score)
        shape = score.shape[:2]
        by_launch = {f"theta[{j}]": theta.reshape(shape) for j, theta in enumerate(found.theta.T)}
        named = {name: values.reshape(shape) for name, values in found.scalars.items()}
        return named | by_launch | {"launches": self._together(found).reshape(shape)}

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question`; the seed goes unused, as nothing is replicated."""
        score = draws.values["score"]
        every = self._unfolded(score)
        lasting = np.flatnonzero(np.isfinite(self.ledger.remaining)).tolist()
        kept = self._unfolded(score[:, :: max(1, score[..., 0].size // _KEPT)])
        return ModelFit(
            model=DEFINITION.name,
            version=DEFINITION.version,
            status="ok",
            hyper={name: interval(values) for name, values in every.scalars.items()},
            prior_sensitivity=prior_sensitivity(
                _log_prior(score), {"launches": self._together(every).reshape(score.shape[:2])}
            ),
            draws=kept.scalars
            | {persistence_name(j): kept.remaining[:, j] for j in lasting}
            | {_TAILS: kept.precision},
        )

    def _layout(self) -> Layout:
        return layout_of(self.ledger, self.priors)

    def _unfolded(self, score: Array) -> Unfolded:
        return unfolded(score.reshape(-1, score.shape[-1]), self.ledger, self.priors, self._layout())

    def _together(self, found: Unfolded) -> Array:
        last = self.ledger.log_values.size - 1
        weights = persistence(self.ledger, found, self._layout().begun, last)
        return np.asarray((weights * found.theta).sum(axis=1))


DEFINITION: Final = ModelDefinition(
    name="ledger",
    version=1,
    story=STORY,
    methods=("F6",),
    sizes=(64, 128, 256, 512, 1000),
    build=_build,
    example=_example,
    kept=("score",),
    target_accept=0.95,
)


def ledger_fit(found: ModelFit, data: LedgerData, priors: LedgerPriors, seed: int) -> LedgerFit:
    """The ledger behind an answer to `LedgerQuestion(data, priors)`: each draw completed by one of everything else.

    Raises `ValueError` for an answer without numbers.
    """
    if found.status != "ok" or found.diagnostics is None:
        raise ValueError(f"there is no ledger: {found.reason}")
    scalars = {name: values for name, values in found.draws.items() if name != _TAILS}
    scale = found.draws[_TAILS] if np.isfinite(priors.nu) else None
    ledger = complete(data, priors, scalars, seed=seed, scale=scale)
    told = found.diagnostics
    diagnostics = {"r_hat": told.r_hat, "ess": told.ess_bulk, "ess_tail": told.ess_tail, "draws": float(told.draws)}
    return replace(ledger, diagnostics=diagnostics | {"divergences": float(told.divergences)})


def _log_prior(score: Array) -> Array:
    """Of the scalars, (chains, draws)."""
    density = np.zeros(score.shape[:2])
    for k, name in enumerate(SCALARS):
        density -= -sc.log_ndtr(-score[..., k]) if name in _HALF_NORMALS else 0.5 * score[..., k] ** 2
    return density
