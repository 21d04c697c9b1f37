"""Many tests, one promise: adjusted p-values, e-values, interval levels and the errors of a whole decision (A11, B5).

Families lie along the last axis; nan marks a test that was not made and does not count. Only tests that serve the same
claim belong in a family: success metrics x arms for "something improved", exploratory metrics or segments for a list
of findings. Guardrails need no correction for shipping, because all of them must clear (intersection-union).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from stats.dunnett import dunnett as dunnett
from stats.moments import Bools, Floats, Ints

type Correction = Literal["holm", "bonferroni", "benjamini_hochberg", "benjamini_yekutieli", "none"]


def adjusted(p: ArrayLike, method: Correction) -> Floats:
    """Adjusted p-values (..., m), each family along the last axis, in the order of the input.

    Bonferroni and Holm (1979) control the chance of any false claim under every dependence. Benjamini-Hochberg (1995)
    controls the expected share of false claims for independent or positively dependent tests,
    Benjamini-Yekutieli (2001) under every dependence. nan stays nan and does not count into the family; equal p get
    equal adjusted p. p that underflowed to 0 stay 0: `adjusted_log10` keeps them apart. Raises `ValueError` for p
    outside [0, 1] or an unknown method.
    """
    values = np.asarray(p, dtype=np.float64)
    if ((values < 0) | (values > 1)).any():
        raise ValueError("p-values must be between 0 and 1")
    return _stepwise(values, method, logarithmic=False)


def adjusted_log10(log10_p: ArrayLike, method: Correction) -> Floats:
    """As `adjusted`, from and to decimal logarithms, so that p-values below 1e-308 are still ordered and told apart."""
    values = np.asarray(log10_p, dtype=np.float64)
    if (values > 0).any():
        raise ValueError("logarithms of p-values cannot be positive")
    return _stepwise(values, method, logarithmic=True)


def _stepwise(values: Floats, method: Correction, *, logarithmic: bool) -> Floats:
    known = ~np.isnan(values)
    if method == "none" or not values.size:
        return values.copy()
    size = known.sum(axis=-1, keepdims=True)
    order = np.argsort(values, axis=-1, kind="stable")  # nan last
    rank = np.arange(1, values.shape[-1] + 1)
    if method == "bonferroni":
        factor = np.broadcast_to(np.maximum(size, 1), values.shape)
    elif method == "holm":
        factor = np.maximum(size - rank + 1, 1)
    elif method in ("benjamini_hochberg", "benjamini_yekutieli"):
        factor = np.maximum(size, 1) / rank
        if method == "benjamini_yekutieli":
            factor = factor * np.cumsum(1 / rank)[np.maximum(size, 1) - 1]
    else:
        raise ValueError(f"unknown correction {method!r}")
    ordered = np.take_along_axis(values, order, axis=-1)
    raised = ordered + np.log10(factor) if logarithmic else ordered * factor
    if method == "holm":
        raised = np.fmax.accumulate(raised, axis=-1)
    elif method != "bonferroni":
        raised = np.fmin.accumulate(raised[..., ::-1], axis=-1)[..., ::-1]
    out = np.empty_like(values)
    np.put_along_axis(out, order, np.minimum(raised, 0.0 if logarithmic else 1.0), axis=-1)
    # The running extremes carry across tests that were not made.
    return np.where(known, out, np.nan)


def e_bh(log_e: ArrayLike, alpha: float) -> tuple[Bools, Floats]:
    """e-BH (Wang & Ramdas 2022): which hypotheses to reject, and the natural logs of the adjusted e-values (..., m).

    The k largest e-values are rejected for the largest k with e_(k) >= m / (alpha k). The adjusted e-value
    max_{j >= rank} j e_(j) / m reaches 1 / alpha exactly for those, so min(1, 1 / adjusted) reads like a q-value.
    The false discovery rate is at most alpha under every dependence and whenever one stops. nan as in `adjusted`.
    """
    if not 0 < alpha < 1:
        raise ValueError("alpha must be between 0 and 1")
    values = np.asarray(log_e, dtype=np.float64)
    if not values.size:
        return np.zeros(values.shape, dtype=np.bool_), values.copy()
    size = np.maximum((~np.isnan(values)).sum(axis=-1, keepdims=True), 1)
    order = np.argsort(-values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    lifted = ordered + np.log(np.arange(1, values.shape[-1] + 1)) - np.log(size)
    out = np.empty_like(values)
    np.put_along_axis(out, order, np.fmax.accumulate(lifted[..., ::-1], axis=-1)[..., ::-1], axis=-1)
    out = np.where(np.isnan(values), np.nan, out)
    # e-values that meet the threshold exactly must not fail by a rounding of their logarithms.
    return np.asarray(out >= -np.log(alpha) - 1e-12, dtype=np.bool_), out


def fcr_level(rejected: ArrayLike, level: float = 0.95, tests: ArrayLike | None = None) -> Floats:
    """Level (...,) for intervals of selected parameters: 1 - R (1 - level) / m (Benjamini & Yekutieli 2005).

    `rejected` (..., m) says which were selected (by BH at the same error); of the intervals shown for them, the
    expected share that misses is at most 1 - level. `tests` (...,) is the size of each family where it is not m, for
    example because some tests could not be made. Where nothing was selected the level is that of a single selection.
    """
    chosen = np.asarray(rejected, dtype=np.bool_)
    _check_level(level)
    size = np.asarray(chosen.shape[-1] if tests is None else tests, dtype=np.float64)
    selected = np.maximum(chosen.sum(axis=-1), 1)
    return np.asarray(1 - np.minimum(selected / np.maximum(size, 1), 1.0) * (1 - level), dtype=np.float64)


def simultaneous_level(m: int | Ints, level: float = 0.95) -> Floats:
    """Level of each of `m` intervals that all cover with probability `level`, under every dependence (Bonferroni)."""
    _check_level(level)
    return np.asarray(1 - (1 - level) / np.maximum(m, 1), dtype=np.float64)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class DecisionErrors:
    """Errors of "ship if a success metric wins and every guardrail clears", and what each test gets of them."""

    alpha: float
    alpha_per_success_test: float
    power: float
    power_per_test: float
    success_tests: int
    guardrails: int


def decision_errors(
    alpha: float,
    power: float,
    success_tests: int,
    guardrails: int,
    *,
    deterioration_alpha: float = 0.0,
    quality_alpha: float = 0.0,
) -> DecisionErrors:
    """Divide the errors of a decision over its tests (METHODS A11; Schultzberg, Ankargren & Franberg 2024).

    Shipping although no success metric moved: at most the sum over success tests, hence alpha over their number.
    Shipping although a guardrail is truly bad: at most that guardrail's own alpha, hence no correction. Not shipping
    what is good: at most beta of one success test + beta of every guardrail + what deterioration and quality tests
    falsely stop, so each test may miss with (1 - power - those alphas) / (guardrails + 1). Without success tests
    ("do no harm") the guardrails share beta. `deterioration_alpha` and `quality_alpha` are sums over such tests.
    Raises `ValueError` where those alone exceed what may be missed.
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError("alpha and power must be between 0 and 1")
    if min(success_tests, guardrails) < 0 or min(deterioration_alpha, quality_alpha) < 0:
        raise ValueError("numbers of tests and their alphas cannot be negative")
    missed = 1 - power - deterioration_alpha - quality_alpha
    if missed <= 0:
        raise ValueError("deterioration and quality tests alone stop more good changes than the power allows")
    sharing = max(guardrails + (success_tests > 0), 1)
    return DecisionErrors(
        alpha=alpha,
        alpha_per_success_test=alpha / max(success_tests, 1),
        power=power,
        power_per_test=1 - missed / sharing,
        success_tests=success_tests,
        guardrails=guardrails,
    )
