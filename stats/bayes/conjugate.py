"""Two arms with conjugate priors, exactly and for many cells at once (METHODS C2).

For screens of many cells and as the floor of what an answer can cost. The priors are of each arm on its own: nothing
says that arms resemble each other, so `stats.bayes.models` (priors on the log lift) is what decisions rest on. What is
lost or gained is in units of the metric here, not in log lift.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.bayes.mixture import Array
from stats.bayes.normal import BoolArray, Direction

_NODES: Final = 400
_TAIL: Final = 1e-15


@dataclass(frozen=True, slots=True)
class Comparison:
    """A treatment against a control, every array (...,); NaN where an arm's data are impossible or missing.

    `expected_difference_lost` is E[max(0, control - treatment)], what shipping costs where the treatment is worse;
    `expected_difference_forgone` is E[max(0, treatment - control)], what not shipping costs; the other way round where
    the metric should decrease.
    """

    chance_to_win: Array
    expected_difference_lost: Array
    expected_difference_forgone: Array


@dataclass(frozen=True, slots=True)
class StudentPosterior:
    """A mean whose posterior is Student-t: every array (...,)."""

    location: Array
    scale: Array
    freedom: Array

    def interval(self, level: float) -> tuple[Array, Array]:
        """The shortest interval that holds `level`."""
        reach = self.scale * sc.stdtrit(self.freedom, 0.5 + level / 2)
        return np.asarray(self.location - reach), np.asarray(self.location + reach)


def compare_proportions(
    units: tuple[ArrayLike, ArrayLike],
    successes: tuple[ArrayLike, ArrayLike],
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    direction: Direction = "increase",
) -> Comparison:
    """Control and treatment with `successes` of `units`, each rate Beta(`prior`) beforehand (METHODS C2).

    By 400-node Gauss-Legendre quadrature over the narrower of the two posteriors, in the angle whose squared sine is
    the rate: smooth at rates of 0 and 1 as well. Raises `ValueError` for a prior whose parameters are below 0.5.
    """
    if min(prior) < 0.5:
        raise ValueError("the parameters of a Beta prior must be at least 0.5")
    n_a, n_b, k_a, k_b = (np.asarray(x, np.float64) for x in np.broadcast_arrays(*units, *successes))
    known = (k_a >= 0) & (k_b >= 0) & (k_a <= n_a) & (k_b <= n_b)
    n_a, n_b, k_a, k_b = (np.where(known, x, 0.0) for x in (n_a, n_b, k_a, k_b))
    control = (k_a + prior[0], n_a - k_a + prior[1])
    treatment = (k_b + prior[0], n_b - k_b + prior[1])
    # Where the control is the narrower one, the roles are exchanged, and back again below.
    swap = _beta_variance(*control) < _beta_variance(*treatment)
    inner = tuple(np.where(swap, c, t) for c, t in zip(control, treatment, strict=True))
    outer = tuple(np.where(swap, t, c) for c, t in zip(control, treatment, strict=True))
    above, short, beyond = _beta_integrals(inner[0], inner[1], outer[0], outer[1])
    return _comparison(
        np.where(swap, 1 - above, above),
        np.where(swap, beyond, short),
        np.where(swap, short, beyond),
        known,
        direction,
    )


def compare_rates(
    exposure: tuple[ArrayLike, ArrayLike],
    events: tuple[ArrayLike, ArrayLike],
    *,
    prior: tuple[float, float] = (0.5, 0.0),
    direction: Direction = "increase",
) -> Comparison:
    """Control and treatment with Poisson `events` at `exposure` (units, or unit-days), each rate Gamma(`prior`).

    `prior` is shape and rate (an exposure); the default is Jeffreys'. Closed form: a gamma's share of a sum of two is a
    beta. Only for genuinely Poisson counts: users' counts vary more, and then this claims too much (METHODS C2: not
    where their variance over mean is 1.2 or more).
    """
    e_a, e_b, s_a, s_b = (np.asarray(x, np.float64) for x in np.broadcast_arrays(*exposure, *events))
    known = (e_a > 0) & (e_b > 0) & (s_a >= 0) & (s_b >= 0) & np.isfinite(e_a + e_b + s_a + s_b)
    e_a, e_b, s_a, s_b = (np.where(known, x, 1.0) for x in (e_a, e_b, s_a, s_b))
    shape_a, rate_a, shape_b, rate_b = s_a + prior[0], e_a + prior[1], s_b + prior[0], e_b + prior[1]
    share_a, share_b = rate_a / (rate_a + rate_b), rate_b / (rate_a + rate_b)

    def treatment_above(more_b: float, more_a: float) -> Array:
        """P(treatment > control) with so much added to their shapes; a mean is `shape / rate`."""
        return np.asarray(sc.betainc(shape_a + more_a, shape_b + more_b, share_a))

    def control_above(more_b: float, more_a: float) -> Array:
        return np.asarray(sc.betainc(shape_b + more_b, shape_a + more_a, share_b))

    mean_a, mean_b = shape_a / rate_a, shape_b / rate_b
    return _comparison(
        treatment_above(0, 0),
        mean_a * control_above(0, 1) - mean_b * control_above(1, 0),
        mean_b * treatment_above(1, 0) - mean_a * treatment_above(0, 1),
        known,
        direction,
    )


def normal_mean(
    count: ArrayLike,
    mean: ArrayLike,
    squares: ArrayLike,
    *,
    prior: tuple[float, float, float, float] = (0.0, 0.0, 0.0, -1.0),
) -> StudentPosterior:
    """The mean of normal values with unknown variance: `squares` are summed squared deviations from `mean`.

    `prior` is normal-inverse-chi-square: its mean, how many units that is worth, its variance, and how many degrees of
    freedom that is worth. The default is the reference prior: location the mean, scale the standard error, n - 1
    degrees of freedom. Irrelevant beside a normal for more than 200 units. NaN without a positive variance.
    """
    n, m, ss = (np.asarray(x, np.float64) for x in np.broadcast_arrays(count, mean, squares))
    centre, worth, variance, freedom = prior
    total, degrees = worth + n, freedom + n
    with np.errstate(divide="ignore", invalid="ignore"):
        location = (worth * centre + n * m) / total
        pooled = max(freedom, 0.0) * variance + ss + worth * n / total * (m - centre) ** 2
        scale = np.sqrt(pooled / degrees / total)
        known = (degrees > 0) & (scale > 0) & np.isfinite(scale)
    return StudentPosterior(
        np.where(known, location, np.nan), np.where(known, scale, np.nan), np.where(known, degrees, np.nan)
    )


def compare_means(
    control: StudentPosterior, treatment: StudentPosterior, *, direction: Direction = "increase"
) -> Comparison:
    """Two independent Student-t posteriors, by quadrature over the probability of the narrower one.

    What is lost or forgone needs a mean: more than one degree of freedom each, else it is NaN.
    """
    swap = control.scale < treatment.scale
    location, scale, freedom = (
        np.where(swap, a, b)[..., None]
        for a, b in (
            (control.location, treatment.location),
            (control.scale, treatment.scale),
            (control.freedom, treatment.freedom),
        )
    )
    other, width, degrees = (
        np.where(swap, b, a)[..., None]
        for a, b in (
            (control.location, treatment.location),
            (control.scale, treatment.scale),
            (control.freedom, treatment.freedom),
        )
    )
    at, weight = _unit_nodes()
    x = location + scale * sc.stdtrit(freedom, at)
    z = (x - other) / width
    below, density = sc.stdtr(degrees, z), _student_density(z, degrees)
    # E[max(0, x - outer)] of a Student-t outer.
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = width * np.where(degrees > 1, (degrees + z**2) / (degrees - 1), np.nan) * density
    beyond = (weight * (z * width * below + tail)).sum(-1)
    short = (weight * (-z * width * sc.stdtr(degrees, -z) + tail)).sum(-1)
    above = (weight * below).sum(-1)
    known = np.isfinite(control.scale) & np.isfinite(treatment.scale)
    return _comparison(
        np.where(swap, 1 - above, above),
        np.where(swap, beyond, short),
        np.where(swap, short, beyond),
        known,
        direction,
    )


def _comparison(chance: Array, lost: Array, forgone: Array, known: BoolArray, direction: Direction) -> Comparison:
    chance, lost, forgone = (np.where(known, x, np.nan) for x in (chance, lost, forgone))
    lost, forgone = np.maximum(lost, 0.0), np.maximum(forgone, 0.0)
    if direction == "increase":
        return Comparison(chance, lost, forgone)
    return Comparison(1 - chance, forgone, lost)


@functools.cache
def _legendre() -> tuple[Array, Array]:
    return sc.roots_legendre(_NODES)


def _unit_nodes() -> tuple[Array, Array]:
    """Nodes and weights on (0, 1), crowded towards both ends by `u = (1 - cos(pi t)) / 2`."""
    x, w = _legendre()
    angle = np.pi * (x + 1) / 2
    return (1 - np.cos(angle)) / 2, w * np.pi / 4 * np.sin(angle)


def _beta_variance(a: Array, b: Array) -> Array:
    return np.asarray(a * b / ((a + b) ** 2 * (a + b + 1)))


def _beta_integrals(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array]:
    """For I ~ Beta(a, b) and O ~ Beta(c, d): P(I > O), E[max(0, O - I)], E[max(0, I - O)]; arrays (...,)."""
    low = np.arcsin(np.sqrt(sc.betaincinv(a, b, _TAIL)))[..., None]
    high = np.arccos(np.sqrt(sc.betaincinv(b, a, _TAIL)))[..., None]
    nodes, weights = _legendre()
    angle = low + (high - low) * (nodes + 1) / 2
    x = np.sin(angle) ** 2
    a, b, c, d = (value[..., None] for value in (a, b, c, d))
    log_density = (2 * a - 1) * np.log(np.sin(angle)) + (2 * b - 1) * np.log(np.cos(angle)) - sc.betaln(a, b)
    weight = weights * (high - low) * np.exp(log_density)
    mean = c / (c + d)
    below, above = sc.betainc(c, d, x), sc.betaincc(c, d, x)
    return (
        np.asarray((weight * below).sum(-1)),
        np.asarray((weight * (mean * sc.betaincc(c + 1, d, x) - x * above)).sum(-1)),
        np.asarray((weight * (x * below - mean * sc.betainc(c + 1, d, x))).sum(-1)),
    )


def _student_density(z: Array, freedom: Array) -> Array:
    log_constant = sc.gammaln((freedom + 1) / 2) - sc.gammaln(freedom / 2) - 0.5 * np.log(np.pi * freedom)
    return np.asarray(np.exp(log_constant - (freedom + 1) / 2 * np.log1p(z**2 / freedom)))
