"""C5: what posteriors are worth when a look may stop the experiment.

A posterior is calibrated under any stopping rule if its prior is right, and under hardly any if it is not. Experiments
are drawn from a population of true effects, looked at every day, and stopped as soon as the chance to win exceeds 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Mixture, standard_density
from stats.bayes.normal import prior_mixture
from stats.bayes.prior import Family, Prior
from stats.moments import Bools, Floats, Ints
from tests.validation.cells import Cell, Rule, scaled, share

SEED = 20271
ENOUGH = 0.95
LOOKS = 28
TABLE = "C5 stopping at a chance to win of 95 %"
CURVES = "C5 calibration of the chance to win"
LOSSES = "C5 loss of what a look shipped, thousandths of a log lift"
PRIOR_SCALE = 2.0
"""Of the analyst, in standard errors of the planned end; effects come from it, or from one a quarter as wide."""
PRINTED = {"right": (0.962, 0.964), "4x too wide": (0.960, 0.768)}
PRINTED_FLAT = {14: 0.191, 28: 0.235}
PRINTED_LOSS = 0.28
LEARNED = Prior(Family.LEARNED, 0.0, 0.01774, "learned", ((0.7, 0.0, 0.008), (0.3, 0.0, 0.03)))
"""The population of true log lifts of the calibration curves: most changes do little, some a lot."""
FINAL_ERROR = 0.01
BINS = np.array([0.0, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975, 1.0])


def estimates(effects: Floats, looks: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Estimates (R, looks) of effects (R,) in units of the final standard error, and their standard errors (looks,)."""
    part = np.arange(1, looks + 1) / looks
    noise = np.cumsum(rng.standard_normal((len(effects), looks)), axis=1) / np.sqrt(looks)
    return effects[:, None] + noise / part, 1 / np.sqrt(part)


def first(hit: Bools) -> tuple[Bools, Ints]:
    """Which rows (R,) of `hit` (R, looks) were ever hit, and where first (0 where never)."""
    return hit.any(axis=1), hit.argmax(axis=1)


def stopping(part: float = 1.0) -> list[Cell]:
    """A normal prior of twice the final standard error, right or four times too wide; and none, with nothing to find.

    Claimed is the mean chance to win at the stop, actual the share of stopped experiments whose effect is positive. A
    rule of "expected loss below 0.05 standard errors of the planned end" without a prior is shown for a true null.
    """
    cells = []
    for i, (name, width) in enumerate((("right", 1.0), ("4x too wide", 4.0))):
        reps = scaled(400_000, part, 20_000)
        rng = np.random.default_rng([SEED, i])
        effects = PRIOR_SCALE / width * rng.standard_normal(reps)
        found, error = estimates(effects, LOOKS, rng)
        shrink = PRIOR_SCALE**2 / (PRIOR_SCALE**2 + error**2)
        chance = sc.ndtr(np.sqrt(shrink) * found / error)
        stopped, at = first(chance > ENOUGH)
        rows = stopped.nonzero()[0]
        claimed, truth = chance[rows, at[rows]], effects[rows]
        over = shrink[at[rows]] * found[rows, at[rows]] - truth
        case = {"prior": name, "looks": str(LOOKS)}
        claims, holds = PRINTED[name]
        right = width == 1
        cells += [
            Cell(TABLE, case, "claimed", share(claimed), claims, len(rows)),
            Cell(TABLE, case, "actual", share(truth > 0), holds, len(rows)),
            Cell(
                TABLE,
                case,
                "posterior mean less truth, final standard errors",
                float(over.mean()),
                0.0,
                len(rows),
                "equal" if right else "report",
                within=float(4 * over.std() / np.sqrt(len(rows))),
            ),
        ]
        if right:
            cells.append(Cell(TABLE, case, "actual = claimed", share(truth > 0), share(claimed), len(rows), slack=0.0))
    return [*cells, *_without_a_prior(scaled(200_000, part, 10_000))]


def _without_a_prior(reps: int) -> list[Cell]:
    cells = []
    for looks in (14, 28):
        found, error = estimates(np.zeros(reps), looks, np.random.default_rng([SEED, 10, looks]))
        z = found / error
        case = {"prior": "flat", "looks": str(looks)}
        stops = share((sc.ndtr(z) > ENOUGH).any(axis=1))
        cells.append(Cell(TABLE, case, "null experiments that stop", stops, PRINTED_FLAT[looks], reps))
        for name, scale in (("twice the final se", PRIOR_SCALE), ("half the final se", PRIOR_SCALE / 4)):
            shrink = scale**2 / (scale**2 + error**2)
            stops = share((sc.ndtr(np.sqrt(shrink) * z) > ENOUGH).any(axis=1))
            beside = {"prior": name, "looks": str(looks)}
            cells.append(Cell(TABLE, beside, "null experiments that stop", stops, 0.0, reps, "report"))
        if looks == LOOKS:
            loss = error * (standard_density(z) - z * sc.ndtr(-z))
            ships = share((loss < 0.05).any(axis=1))
            name = "null experiments with expected loss < 0.05 se"
            cells.append(Cell(TABLE, case, name, ships, PRINTED_LOSS, reps))
    return cells


@dataclass(frozen=True, slots=True)
class Curve:
    """A calibration curve (bins,): experiments in each bin, the mean chance that was claimed, and how often it held."""

    prior: str
    stopping: bool
    count: Floats
    claimed: Floats
    actual: Floats


def curves(part: float = 1.0) -> list[Curve]:
    """Calibration of the chance to win when the prior is the learned (right) and the default one.

    Effects come from the learned population; each experiment is read at its planned end, or where a daily look first
    shows a chance above 95 % or below 5 %.
    """
    reps = scaled(60_000, part, 6_000)
    rng = np.random.default_rng([SEED, 20])
    effects = _drawn(prior_mixture(LEARNED), reps, rng)
    found, error = estimates(effects / FINAL_ERROR, LOOKS, rng)
    found, error = found * FINAL_ERROR, error * FINAL_ERROR
    made = []
    for name, prior in (("learned", LEARNED), ("default", Prior.default())):
        chance = chances(prior_mixture(prior), found, error)
        stopped, at = first((chance > ENOUGH) | (chance < 1 - ENOUGH))
        last = np.where(stopped, at, LOOKS - 1)
        for stops, where in ((False, np.full(reps, LOOKS - 1)), (True, last)):
            made.append(_curve(name, stops, chance[np.arange(reps), where], effects > 0))
    return made


def chances(prior: Mixture, found: Floats, error: Floats) -> Floats:
    """Chance of a positive effect (R, looks) after estimates (R, looks) with standard errors (looks,)."""
    return np.asarray(1.0 - prior.given(found, error).cdf(np.zeros((*found.shape, 1)))[..., 0])


def losses(part: float = 1.0) -> list[Cell]:
    """Expected loss of shipping, as claimed when a look stops at a chance to win of 95 %, and as it came.

    Mean log lift lost per shipped experiment, in thousandths. Under the learned prior the claim holds; under the
    default one, wider than the population, the loss is almost three times what was said.
    """
    reps = scaled(200_000, part, 20_000)
    rng = np.random.default_rng([SEED, 30])
    effects = _drawn(prior_mixture(LEARNED), reps, rng)
    found, error = estimates(effects / FINAL_ERROR, LOOKS, rng)
    found, error = found * FINAL_ERROR, error * FINAL_ERROR
    cells = []
    for name, prior in (("learned", LEARNED), ("default", Prior.default())):
        stopped, at = first(chances(prior_mixture(prior), found, error) > ENOUGH)
        rows = stopped.nonzero()[0]
        seen = found[rows, at[rows]], error[at[rows]]
        claimed = 1e3 * _expected_loss(prior_mixture(prior).given(*seen))
        lost = 1e3 * np.maximum(-effects[rows], 0.0)
        over = lost - claimed
        rule: Rule = "equal" if name == "learned" else "report"
        within = float(4 * over.std() / np.sqrt(len(rows)))
        case = {"prior": name, "looks": str(LOOKS)}
        cells.append(
            Cell(LOSSES, case, "lost", float(lost.mean()), float(claimed.mean()), len(rows), rule, within=within)
        )
    return cells


def _expected_loss(after: Mixture) -> Floats:
    """Of shipping, cell by cell."""
    z = after.mean / after.sd
    return np.asarray((after.weight * (after.sd * standard_density(z) - after.mean * sc.ndtr(-z))).sum(axis=-1))


def _drawn(population: Mixture, reps: int, rng: np.random.Generator) -> Floats:
    """True effects (R,)."""
    which = rng.choice(population.weight.size, size=reps, p=population.weight)
    return np.asarray(population.mean[which] + population.sd[which] * rng.standard_normal(reps))


def _curve(name: str, stops: bool, claimed: Floats, held: Bools) -> Curve:
    place = np.clip(np.digitize(claimed, BINS) - 1, 0, len(BINS) - 2)
    count = np.bincount(place, minlength=len(BINS) - 1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=claimed, minlength=len(BINS) - 1) / count
        actual = np.bincount(place, weights=held.astype(np.float64), minlength=len(BINS) - 1) / count
    return Curve(name, stops, count, mean, actual)


def calibration(part: float = 1.0) -> list[Cell]:
    """Every bin of the chance to win must hold as often as it claims under the learned prior, stopping or not.

    The default prior is wider than the population: shown for comparison, read at the planned end and with stopping.
    """
    cells = []
    for curve in curves(part):
        for low, high, count, claimed, actual in zip(
            BINS[:-1], BINS[1:], curve.count, curve.claimed, curve.actual, strict=True
        ):
            if count == 0:
                continue
            case = {
                "prior": curve.prior,
                "read": "when a look stops" if curve.stopping else "at the planned end",
                "chance": f"{low:g} to {high:g}",
            }
            rule: Rule = "equal" if curve.prior == "learned" else "report"
            cells.append(Cell(CURVES, case, "held", float(actual), float(claimed), int(count), rule))
    return cells
