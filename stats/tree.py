"""From input metrics to the North Star through the metric tree (METHODS E1, E2).

The tree is a `Formula` over input names. Effects are on the natural-log scale, `delta = ln(treatment / control)`, and
their joint covariance matters: inputs measured on the same units are usually negatively correlated, and ignoring that
is the classic error. Leading dimensions are cells (variants, looks, segments, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from stats.formula import Formula

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type TextArray = np.ndarray[tuple[int, ...], np.dtype[np.str_]]

LEVELS: Final = (0.025, 0.1, 0.5, 0.9, 0.975)
DEFINITIONAL_TOLERANCE: Final = 1e-8
DRIVER_Z: Final = 2.0
SECOND_ORDER_FROM: Final = 0.1

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_PATH, _SHARE = (_NODES + 1) / 2, _WEIGHTS / 2
_STEP: Final = 1e-4
_BLOCK_OF_DRAWS: Final = 2_000_000


class EdgeType(StrEnum):
    """How an input is tied to the North Star: by accounting identity, or by a statistical relation."""

    DEFINITIONAL = "definitional"
    DRIVER = "driver"


@dataclass(frozen=True, slots=True)
class Draws:
    """Summary of draws of the log effects pushed through the exact tree; every field is (...,) of log lift."""

    mean: Array
    standard_deviation: Array
    median: Array
    lower_80: Array
    upper_80: Array
    lower_95: Array
    upper_95: Array
    chance_positive: Array


@dataclass(frozen=True, slots=True)
class Propagation:
    """What the inputs' effects say about the North Star, cell by cell (METHODS E2).

    `log_lift` is the exact tree at the estimated effects; `standard_error` its delta-method error. `elasticities`
    (..., M) are averaged along the path from control to treatment, so `contributions` (..., M) = elasticity x effect
    add up to `log_lift`; `contribution_errors` are their standard errors with the elasticity held fixed. Cells that
    are not `estimable` hold NaN and a `reason` code (empty where estimable).
    """

    inputs: tuple[str, ...]
    log_lift: Array
    standard_error: Array
    elasticities: Array
    contributions: Array
    contribution_errors: Array
    draws: Draws
    estimable: BoolArray
    reason: TextArray


@dataclass(frozen=True, slots=True)
class Coherence:
    """Direct North Star estimate against the tree: `status` pass, fail, warn or not_estimable, `z` (NaN if unused)."""

    status: TextArray
    reason: TextArray
    difference: Array
    z: Array


def elasticities(formula: Formula, values: Array) -> Array:
    """`d ln N / d ln x_i` (..., M) at `values` (..., M), inputs in the order of `formula.names` (METHODS E1).

    A product gives ones, a ratio +1 and -1, a sum the shares. NaN where N is zero or undefined.
    """
    columns = dict(zip(formula.names, np.moveaxis(values, -1, 0), strict=True))
    value, gradient = formula.value_and_gradient(columns)
    with np.errstate(all="ignore"):
        return np.asarray(gradient * values / value[..., None])


def propagate(
    formula: Formula, control_values: Array, log_effects: Array, covariance: Array, *, seed: int, draws: int = 4000
) -> Propagation:
    """Log lift of the North Star implied by its inputs' log effects (METHODS E2).

    Shapes: `control_values` and `log_effects` (..., M), `covariance` (..., M, M), inputs ordered as `formula.names`;
    leading dimensions broadcast. The standard error adds the second-order term once it exceeds 0.1. Draws are
    antithetic and shared by all cells, so a cell's numbers do not depend on the company it keeps. Raises `ValueError`
    for mismatched shapes or an odd number of draws.
    """
    m = len(formula.names)
    if control_values.shape[-1] != m or log_effects.shape[-1] != m or covariance.shape[-2:] != (m, m):
        raise ValueError(f"the tree has {m} inputs {formula.names}; values, effects and covariance must match them")
    if draws < 2 or draws % 2:
        raise ValueError("draws come in antithetic pairs; ask for an even number")
    cells = np.broadcast_shapes(control_values.shape[:-1], log_effects.shape[:-1], covariance.shape[:-2])
    control = np.broadcast_to(control_values, (*cells, m)).reshape(-1, m)
    effects = np.broadcast_to(log_effects, (*cells, m)).reshape(-1, m)
    spread = np.broadcast_to(covariance, (*cells, m, m)).reshape(-1, m, m)

    reason = _input_reasons(control, effects, spread)
    usable = reason == ""
    # Placeholders keep the arithmetic of the other cells vectorised; these cells are masked at the end.
    control, effects = np.where(usable[:, None], control, 1.0), np.where(usable[:, None], effects, 0.0)
    spread = np.where(usable[:, None, None], spread, 0.0)

    log_lift = _log_lift(formula, control, effects)
    path = elasticities(formula, control * np.exp(_PATH[:, None, None] * effects))
    average = np.nan_to_num(np.einsum("p,pcm->cm", _SHARE, path), posinf=0.0, neginf=0.0)
    # Kinks (min, max) and rounding leave a residue; spread it so that contributions add up to the lift they explain.
    average = average + _residue(log_lift, average, effects)
    slope = elasticities(formula, control * np.exp(effects))
    variance = np.einsum("cm,cmn,cn->c", slope, spread, slope)
    curved = spread @ _log_hessian(formula, control * np.exp(effects))
    second = 0.5 * np.einsum("cmn,cnm->c", curved, curved)
    first_error = np.sqrt(np.maximum(variance, 0.0))
    error = np.where(first_error > SECOND_ORDER_FROM, np.sqrt(np.maximum(variance + second, 0.0)), first_error)
    summary, all_defined = _through_the_tree(formula, control, effects, spread, seed=seed, draws=draws)

    reason = np.where((reason == "") & ~np.isfinite(log_lift + error), "north_star_not_positive", reason)
    reason = np.where((reason == "") & ~all_defined, "tree_undefined_within_uncertainty", reason)
    estimable = reason == ""

    def shaped(array: Array) -> Array:
        mask = estimable.reshape((-1, *([1] * (array.ndim - 1))))
        return np.where(mask, array, np.nan).reshape((*cells, *array.shape[1:]))

    sd = np.sqrt(np.maximum(np.einsum("cmm->cm", spread), 0.0))
    return Propagation(
        inputs=formula.names,
        log_lift=shaped(log_lift),
        standard_error=shaped(error),
        elasticities=shaped(average),
        contributions=shaped(average * effects),
        contribution_errors=shaped(np.abs(average) * sd),
        draws=Draws(*(shaped(column) for column in summary)),
        estimable=estimable.reshape(cells),
        reason=reason.reshape(cells),
    )


def coherence(direct: Array, tree: Array, variance_of_difference: Array, edge_types: Sequence[EdgeType]) -> Coherence:
    """Does the tree reproduce the directly measured North Star log lift? (METHODS E2, coherence test)

    All edges definitional and inputs measured on the same units, unadjusted: the two must agree to 1e-8, a violation
    is a data bug and fails. Any driver edge: `z = (direct - tree) / sqrt(variance_of_difference)`, and |z| > 2 warns
    that the tree misses a channel. Shapes (...,); non-finite estimates are `not_estimable`.
    """
    if not edge_types:
        raise ValueError("coherence needs the type of at least one edge")
    direct, tree, variance = np.broadcast_arrays(direct, tree, variance_of_difference)
    difference = np.asarray(direct - tree)
    known = np.isfinite(difference)
    agree = np.abs(difference) <= DEFINITIONAL_TOLERANCE * np.maximum(1.0, np.abs(direct))
    if all(EdgeType(edge) is EdgeType.DEFINITIONAL for edge in edge_types):
        z = np.full(difference.shape, np.nan)
        status = np.where(agree, "pass", "fail")
        reason = np.where(agree, "", "data_bug_tree_differs_from_direct")
    else:
        known &= np.isfinite(variance) & (variance >= 0)
        with np.errstate(all="ignore"):
            z = np.where(known & (variance > 0), difference / np.sqrt(variance), np.nan)
        # Without any variance only the exact identity can be judged.
        misses = np.where(variance > 0, np.abs(z) > DRIVER_Z, ~agree)
        status = np.where(misses, "warn", "pass")
        reason = np.where(misses, "tree_misses_a_channel", "")
    return Coherence(
        status=np.where(known, status, "not_estimable"),
        reason=np.where(known, reason, "estimate_missing"),
        difference=np.where(known, difference, np.nan),
        z=np.where(known, z, np.nan),
    )


def _input_reasons(control: Array, effects: Array, spread: Array) -> TextArray:
    reason = np.full(len(control), "", dtype="<U40")
    reason[~(np.isfinite(effects).all(-1) & np.isfinite(spread).all((-2, -1)))] = "input_effect_not_estimable"
    reason[~(np.isfinite(control) & (control != 0)).all(-1)] = "input_baseline_zero_or_missing"
    ok = reason == ""
    lowest = np.linalg.eigvalsh(spread[ok])[:, :1].min(axis=-1, initial=0.0)
    bad = lowest < -1e-9 * np.trace(spread[ok], axis1=-2, axis2=-1)
    reason[np.flatnonzero(ok)[bad]] = "covariance_not_positive"
    return reason


def _log_lift(formula: Formula, control: Array, effects: Array) -> Array:
    """`ln N(x e^delta) - ln N(x)`; NaN unless both are non-zero and of one sign."""
    before, after = (
        formula.evaluate(dict(zip(formula.names, np.moveaxis(values, -1, 0), strict=True)))
        for values in (control, control * np.exp(effects))
    )
    with np.errstate(all="ignore"):
        ratio = after / before
        return np.where((ratio > 0) & np.isfinite(ratio), np.log(ratio), np.nan)


def _residue(log_lift: Array, average: Array, effects: Array) -> Array:
    size = (effects**2).sum(-1)
    gap = log_lift - (average * effects).sum(-1)
    return np.where(size > 0, gap / np.where(size > 0, size, 1.0), 0.0)[:, None] * effects


def _log_hessian(formula: Formula, values: Array) -> Array:
    """Second derivatives of ln N in the log effects (c, M, M): central differences of the exact elasticities."""
    shifts = _STEP * np.eye(values.shape[-1])[:, None, :]
    up, down = elasticities(formula, values * np.exp(shifts)), elasticities(formula, values * np.exp(-shifts))
    hessian = np.moveaxis((up - down) / (2 * _STEP), 0, -1)
    return np.asarray((hessian + np.swapaxes(hessian, -1, -2)) / 2)


def _through_the_tree(
    formula: Formula, control: Array, effects: Array, spread: Array, *, seed: int, draws: int
) -> tuple[tuple[Array, ...], BoolArray]:
    half = np.random.default_rng(seed).standard_normal((draws // 2, control.shape[-1]))
    noise = np.concatenate([half, -half])
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    block = max(1, _BLOCK_OF_DRAWS // noise.size)
    parts: list[Array] = []
    defined: list[BoolArray] = []
    for start in range(0, len(control), block):
        part = slice(start, start + block)
        sampled = effects[part, None, :] + np.einsum("cmk,dk->cdm", root[part], noise)
        log_lift = _log_lift(formula, control[part, None, :], sampled)
        defined.append(np.isfinite(log_lift).all(-1))
        log_lift = np.nan_to_num(log_lift)
        low95, low80, median, high80, high95 = np.quantile(log_lift, LEVELS, axis=-1)
        positive = (log_lift > 0).mean(-1) + 0.5 * (log_lift == 0).mean(-1)
        mean, sd = log_lift.mean(-1), log_lift.std(-1, ddof=1)
        parts.append(np.stack([mean, sd, median, low80, high80, low95, high95, positive]))
    empty = np.zeros((8, 0))
    return tuple(np.concatenate([empty, *parts], axis=1)), np.concatenate([np.zeros(0, dtype=np.bool_), *defined])
