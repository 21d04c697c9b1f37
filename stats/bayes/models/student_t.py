"""Roughly symmetric values with heavy tails: Bayesian estimation instead of the t test (METHODS C2)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.models.arm_effects import shortest
from stats.bayes.models.arrowhead import Local, padded, round_map
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ArmPosteriors, EffectPosteriors, ModelFit, PredictiveCheck
from stats.bayes.models.lift_prior import components
from stats.bayes.models.lifted_arms import interval, predictive_checks, summary
from stats.bayes.models.student_density import student_density
from stats.bayes.models.student_start import StudentStart, student_start
from stats.bayes.models.written_density import log_density
from stats.bayes.normal import Direction
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Array, Data, Draws

STORY: Final = (
    "The values of arm v are Student-t with location m_v, scale s_v and nu degrees of freedom, nu shared by all arms "
    "(Kruschke 2013). The log lift of the location, log(m_v / m_0), has the metric's prior; log m_0 and every log s_v "
    "have normal priors, weak and around the data where nothing is stated, and nu - 1 is exponential with mean 29. "
    "Values come as counts in bins so fine that the density in the middle of a bin times its width is the chance of "
    "the bin. The location is not the mean: it is the centre of the bulk, which is the mean of symmetric values and "
    "says little about the mean of skewed ones, so this is a model for latencies and not for revenue. How far the mean "
    "is from the location is shown, and skewed values fail the predictive check of the quantile skewness. Where a "
    "location is not clearly positive there is no lift: differences have Normal(0, one scale) as their prior, and "
    "lifts are left out."
)

CLEARLY_POSITIVE: Final = 6.0
"""Standard errors of a median that every median must be above zero for a log lift to make sense."""
COARSEST_BIN: Final = 0.25
"""Of a scale: midpoint times width then errs by less than 0.5 % of a density."""
_FINEST_BIN: Final = 0.03
"""Bins finer than this share of a scale are merged: that adds a 13,000th of the squared scale to a variance."""
_LEAST_UNITS: Final = 10
_REPLICATIONS: Final = 1000
_QUANTILES: Final = (0.1, 0.5, 0.9, 0.99)


def _build(size: int) -> Any:
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        data = {name: pm.Data(name, values) for name, values in _example(size).items()}
        z = pm.Flat("z", shape=1 + 2 * size)
        centre, pull, width, scales = (data[name] for name in ("centre", "pull", "width", "scales"))
        position = centre[1] + pull[1] * z[1] + width[1] * z[1 : 1 + size]
        location = pt.switch(scales[0] > 0, pt.exp(position), scales[1] + scales[2] * position)
        pm.Deterministic("location", location)
        pm.Deterministic("log_scale", centre[2] + pull[2] * z[0] + width[2] * z[1 + size :])
        pm.Deterministic("log_tail", centre[0, 0] + width[0, 0] * z[0])
        names = inspect.signature(student_density).parameters
        pm.Potential("log_density", log_density(student_density, z, *(data[name] for name in names if name != "z")))
    return model


def _example(size: int) -> Data:
    arms = max(2, size - 1)
    edges = np.linspace(0.0, 10.0, 65)
    middle = (edges[:-1] + edges[1:]) / 2
    locations = 5.0 + 0.02 * np.arange(arms)[:, None]
    counts = np.round(2000 / (1 + ((middle - locations) / 0.8) ** 2 / 4) ** 2.5)
    return StudentTQuestion(edges, counts, Prior.default()).data()


DEFINITION: Final = ModelDefinition(
    name="student_t",
    version=1,
    story=STORY,
    methods=("C2",),
    sizes=(3, 8, 16),
    build=_build,
    example=_example,
    kept=("location", "log_scale", "log_tail"),
)


@dataclass(frozen=True, slots=True)
class StudentBaseline:
    """Normal priors, each (location, scale): of the log of the control's location, and of every arm's log scale."""

    log_location: tuple[float, float]
    log_scale: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class StudentTQuestion:
    """Values of A arms, control first, as `counts` (A, b) in bins between ascending `edges` (b + 1,).

    Every value lies in a bin; `stats.unit_summary.edges_of` chooses good edges. `mean` (A,) are the arithmetic means,
    shown beside the locations. `baseline` None is weak and centred on the data; a stated one makes locations positive.
    `rope` is on the log lift, `level` that of the highest-density intervals.
    """

    edges: Array
    counts: Array
    prior: Prior
    mean: Array | None = None
    baseline: StudentBaseline | None = None
    direction: Direction = "increase"
    rope: float = 0.005
    level: float = 0.95

    @property
    def definition(self) -> ModelDefinition:
        """See `Question`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """See `Question`."""
        return DEFINITION.size_for(len(self.counts))

    @property
    def has_lifts(self) -> bool:
        """Whether every location is clearly positive. Without, there are differences only."""
        if self.baseline is not None:
            return True
        low, middle, high = np.stack([_quantiles(self.edges, counts, (0.25, 0.5, 0.75)) for counts in self.counts]).T
        # Of a median: 1.25 sigma / sqrt(n), with sigma from the middle half.
        error = 0.93 * (high - low) / np.sqrt(self.counts.sum(axis=1))
        return bool((middle > CLEARLY_POSITIVE * error).all())

    def check(self) -> None:
        """Raise `ImpossibleData` for counts that no values could have produced, or that say too little."""
        if self.counts.ndim != 2 or len(self.counts) < 2 or self.counts.shape[1] + 1 != len(self.edges):
            raise ImpossibleData("there are no two arms to compare in the same bins")
        if not (np.isfinite(self.edges).all() and np.isfinite(self.counts).all()):
            raise ImpossibleData("an edge or a count is missing")
        if not (np.diff(self.edges) > 0).all():
            raise ImpossibleData("the edges of the bins do not ascend")
        if (self.counts < 0).any():
            raise ImpossibleData("a bin has fewer than no units")
        if (self.counts.sum(axis=1) < _LEAST_UNITS).any():
            raise ImpossibleData(f"an arm has fewer than {_LEAST_UNITS} units")
        if ((self.counts > 0).sum(axis=1) < 3).any():
            raise ImpossibleData("the values of an arm are all but the same: their spread is unknown")

    def data(self) -> Data:
        """See `Question`."""
        self.check()
        arms, size = len(self.counts), self.size
        start = student_start(_middles(self.edges), self.counts)
        self._refuse_coarse_bins(start)
        middle, counts = _merged(self.edges, self.counts, _FINEST_BIN * float(np.exp(start.log_scale.min())))
        positive = self.has_lifts
        location, scale = start.location, np.exp(start.log_scale)
        origin, unit = (0.0, 1.0) if positive else (float(location[0]), float(np.median(scale)))
        log_scale = self.baseline.log_scale if self.baseline else (float(start.log_scale[0]), 1.0)
        if positive:
            control = self.baseline.log_location if self.baseline else (float(np.log(location[0])), 1.0)
        else:
            control = (0.0, 10.0)
        prior = components(self.prior if positive else Prior(Family.NORMAL, 0.0, 1.0, "one scale"))
        ones = np.ones(arms)
        precision = counts.sum(axis=1) * (start.nu + 1) / (start.nu + 3) / scale**2

        def local(position: Array) -> Local:
            at = np.exp(position) if positive else origin + unit * position
            slope = at if positive else unit * ones
            return Local(precision * (location - at) * slope, precision * slope**2, position, ones)

        first = np.log(location) if positive else (location - origin) / unit
        around = round_map(local, first, control, prior).padded(size)
        scale_sd = np.sqrt((start.nu + 3) / (2 * start.nu * counts.sum(axis=1)))
        rest = size - arms
        idle, idle_width = np.zeros(size), np.ones(size)
        return {
            "scales": np.array([float(positive), origin, unit]),
            "centre": np.stack([idle + start.log_tail, around["centre"], padded(start.log_scale, size)]),
            "pull": np.stack([idle, around["pull"], padded(start.log_tail_sd * start.log_scale_slope, size)]),
            "width": np.stack([idle_width * start.log_tail_sd, around["width"], np.append(scale_sd, np.ones(rest))]),
            "middle": middle,
            "counts": padded(counts, size),
            "real": padded(ones, size),
            "treated": padded((np.arange(arms) > 0).astype(np.float64), size),
            "priors": np.array([control, log_scale]),
            "lift_prior": prior,
        }

    def monitored(self, draws: Draws) -> dict[str, Array]:
        """See `Question`: `location[arm]`, `log_lift[arm]` or `difference[arm]`, `log_scale[arm]`, `log_tail`."""
        arms = len(self.counts)
        location = draws.values["location"][..., :arms]
        found = {f"location[{a}]": location[..., a] for a in range(arms)}
        found |= {f"log_scale[{a}]": draws.values["log_scale"][..., a] for a in range(arms)}
        has_lifts = self.has_lifts
        for v in range(1, arms):
            if has_lifts:
                found[f"log_lift[{v}]"] = np.log(location[..., v] / location[..., 0])
            else:
                found[f"difference[{v}]"] = location[..., v] - location[..., 0]
        return found | {"log_tail": draws.values["log_tail"]}

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question`. `hyper` has nu, the locations and how far each mean is from its location."""
        arms = len(self.counts)
        location = np.asarray(draws.values["location"][..., :arms])
        hyper = {"nu": interval(1 + np.exp(draws.values["log_tail"]))}
        for a in range(arms):
            hyper[f"scale[{a}]"] = interval(np.exp(draws.values["log_scale"][..., a]))
            if self.mean is not None:
                hyper[f"mean_minus_location[{a}]"] = interval(self.mean[a] - location[..., a])
        checks = self._checks(draws, np.random.default_rng(seed))
        if self.has_lifts:
            return summary(
                DEFINITION,
                location,
                self.prior,
                direction=self.direction,
                rope=self.rope,
                level=self.level,
                checks=checks,
                hyper=hyper,
            )
        effects, posteriors = _differences(location, self.direction, self.level)
        return ModelFit(
            DEFINITION.name,
            DEFINITION.version,
            "ok",
            effects=effects,
            arms=posteriors,
            hyper=hyper,
            checks=checks,
        )

    def _refuse_coarse_bins(self, start: StudentStart) -> None:
        """The bins in the middle of each arm must be fine beside its scale."""
        scale = np.exp(start.log_scale)
        place = np.clip(np.searchsorted(self.edges, start.location) - 1, 0, len(self.edges) - 2)
        if (np.diff(self.edges)[place] > COARSEST_BIN * scale).any():
            raise ImpossibleData("most values of an arm are the same, or the bins are too coarse for its spread")

    def _checks(self, draws: Draws, rng: np.random.Generator) -> tuple[PredictiveCheck, ...]:
        """Kelly's skewness, from 10, 50 and 90 % points (moments may not exist), and the 99 % point."""
        columns = [draws.values[name].reshape(-1, *draws.values[name].shape[2:]) for name in DEFINITION.kept]
        chosen = rng.choice(len(columns[0]), min(_REPLICATIONS, len(columns[0])), replace=False)
        location, log_scale, log_tail = (column[chosen] for column in columns)
        nu, units = 1 + np.exp(log_tail), self.counts.sum(axis=1)

        def replicated(arm: int) -> Array:
            """(4, R): the quantiles of as many values as there are, by the spacings of uniform order statistics."""
            places = np.ceil(np.array(_QUANTILES) * units[arm])
            steps = np.diff(np.append(np.append(0.0, places), units[arm] + 1))
            spacings = rng.gamma(steps[:, None], size=(len(steps), len(nu)))
            uniform = np.cumsum(spacings, axis=0)[:-1] / spacings.sum(axis=0)
            return np.asarray(location[:, arm] + np.exp(log_scale[:, arm]) * sc.stdtrit(nu, uniform))

        arms = range(len(self.counts))
        again = [replicated(arm) for arm in arms]
        observed = np.stack([_quantiles(self.edges, counts) for counts in self.counts], axis=1)
        return (
            *predictive_checks("quantile_skewness", _skewness(observed), lambda arm: _skewness(again[arm]), arms),
            *predictive_checks("percentile_99", observed[3], lambda arm: again[arm][3], arms),
        )


def _quantiles(edges: Array, counts: Array, shares: tuple[float, ...] = _QUANTILES) -> Array:
    """Of one arm: the values at ranks ceil(share n), units evenly spread within their bins."""
    ranks = np.ceil(np.array(shares) * counts.sum())
    return np.asarray(np.interp(ranks - 0.5, np.append(0.0, np.cumsum(counts)), edges))


def _skewness(quantiles: Array) -> Array:
    low, middle, high = quantiles[:3]
    return np.asarray((high + low - 2 * middle) / (high - low))


def _middles(edges: Array) -> Array:
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _merged(edges: Array, counts: Array, finest: float) -> tuple[Array, Array]:
    """Middles (B,) and counts (A, B) of groups of neighbouring bins, as many to a group as keep it finer than wanted.

    The middle of a group is the mean of its units' places, so that no group moves anything; empty groups are left out.
    """
    together = max(1, int(finest / np.diff(edges).min()))
    starts = np.arange(0, counts.shape[1], together)
    grouped = np.add.reduceat(counts, starts, axis=1)
    units = grouped.sum(axis=0)
    places = np.add.reduceat(_middles(edges) * counts.sum(axis=0), starts)
    kept = units > 0
    return places[kept] / units[kept], grouped[:, kept]


def _differences(location: Array, direction: Direction, level: float) -> tuple[EffectPosteriors, ArmPosteriors]:
    """Effects where there is no lift: from draws (chains, draws, A) of locations of any sign."""
    sign = 1.0 if direction == "increase" else -1.0
    flat = location.reshape(-1, location.shape[-1])
    differences = flat[:, 1:] - flat[:, :1]
    lower, upper = shortest(differences, level)
    arm_lower, arm_upper = shortest(flat, level)
    none = np.full(differences.shape[1], np.nan)
    best = np.bincount(np.argmax(sign * flat, axis=1), minlength=flat.shape[1]) / len(flat)
    return (
        EffectPosteriors(
            log_mean=none,
            log_sd=none,
            mcse=none,
            lift=none,
            hdi_lower=none,
            hdi_upper=none,
            chance_to_win=(sign * differences > 0).mean(axis=0),
            expected_loss=none,
            expected_loss_of_not_shipping=none,
            rope_probability=none,
            difference=differences.mean(axis=0),
            difference_hdi_lower=lower,
            difference_hdi_upper=upper,
            sign_differs=none,
        ),
        ArmPosteriors(flat.mean(axis=0), arm_lower, arm_upper, best),
    )
