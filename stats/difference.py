"""Absolute differences between each treatment and control: Welch's t with Satterthwaite's degrees of freedom (A1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.estimate import Estimates
from stats.moments import Bools, Floats, Ints, safe_divide
from stats.reasons import Reason, Reasons, clear, constant_reason, is_code, one_code
from stats.tails import log10_t_two_sided


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Treatment minus control, arrays (..., V-1, M): one row per non-control arm.

    `value` is nan only where a metric has no value at all. Everything inferential (`standard_error` to `ci_upper`) is
    nan where `estimable` is false; `reason` says why. Units: those of the metric. `p_value` is two-sided and may
    underflow to 0, `log10_p` does not.
    """

    value: Floats
    standard_error: Floats
    df: Floats
    p_value: Floats
    log10_p: Floats
    ci_lower: Floats
    ci_upper: Floats
    ci_level: float
    estimable: Bools
    reason: Reasons


def pair_reasons(estimates: Estimates) -> Reasons:
    """(..., V-1, M) why a comparison has no inference: control's reason, then the treatment's, then no variance.

    One arm without variance (nobody converted) still leaves the other arm's uncertainty to work with; two such arms
    leave nothing, and a difference of constants is never called certain.
    """
    arms = estimates.reason
    control, treatment = arms[..., :1, :], arms[..., 1:, :]
    if one_code(arms) == "":
        return constant_reason(treatment.shape, "")
    flat_control, flat_treatment = is_code(control, Reason.ZERO_VARIANCE), is_code(treatment, Reason.ZERO_VARIANCE)
    codes = np.where(flat_control & flat_treatment, str(Reason.ZERO_VARIANCE), "").astype(object)
    for source, flat in ((treatment, flat_treatment), (control, flat_control)):
        codes = np.where(clear(source) | flat, codes, source)
    return codes


def difference(estimates: Estimates, level: float = 0.95) -> Differences:
    """Compare every treatment with control in every cell, using covariate-adjusted values where they were adjusted.

    Assumes independent units with finite variance; heavy skew with unequal arms breaks it (see `skewness`).
    """
    value = estimates.value[..., 1:, :] - estimates.value[..., :1, :]
    v_t, v_c = estimates.variance[..., 1:, :], estimates.variance[..., :1, :]
    units = estimates.count[..., None] if estimates.freedom is None else estimates.freedom + 1
    return welch(value, v_t, v_c, units[..., 1:, :], units[..., :1, :], pair_reasons(estimates), level)


def welch(
    value: Floats,
    v_t: Floats,
    v_c: Floats,
    n_t: Ints | Floats,
    n_c: Ints | Floats,
    reason: Reasons,
    level: float = 0.95,
) -> Differences:
    """Welch-Satterthwaite from a difference and the two squared standard errors; all arguments broadcast.

    `n_t` and `n_c` are units, or one more than the degrees of freedom of each variance.

    Elements with a non-empty `reason` get no inference.
    """
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    total = v_t + v_c
    estimable = clear(reason)
    positive = total > 0
    if not positive.all():
        reason = np.where(estimable & ~positive, str(Reason.ZERO_VARIANCE), reason)
        estimable = estimable & positive
    everywhere = bool(estimable.all())
    if not everywhere:
        total = np.where(estimable, total, 1.0)
    share = v_t / total  # of the variance, so that squares of tiny variances do not vanish
    spread = share * share / np.maximum(n_t - 1, 1) + (1 - share) * (1 - share) / np.maximum(n_c - 1, 1)
    df = 1 / spread if everywhere else safe_divide(1.0, spread)
    standard_error = np.sqrt(total)
    t = (value if everywhere else np.where(estimable, value, 0.0)) / standard_error
    p_value, log10_p = log10_t_two_sided(t, df)
    half = sc.stdtrit(df, 0.5 + level / 2) * standard_error

    def shown(numbers: Floats) -> Floats:
        return numbers if everywhere else np.where(estimable, numbers, np.nan)

    return Differences(
        value=value,
        standard_error=shown(standard_error),
        df=shown(df),
        p_value=shown(p_value),
        log10_p=shown(log10_p),
        ci_lower=shown(value - half),
        ci_upper=shown(value + half),
        ci_level=level,
        estimable=estimable,
        reason=reason,
    )
