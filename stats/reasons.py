"""Why a number is not there: "not estimable" is an outcome with a reason code, never a nan that others explain."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

type Reasons = NDArray[np.object_]
"""Arrays of reason codes (str), '' where nothing is wrong."""


class Reason(StrEnum):
    """Codes shared by estimates, differences and lifts; data columns bring their own codes (non-finite values, ...)."""

    TOO_FEW_UNITS = "too_few_units"
    ZERO_VARIANCE = "zero_variance"
    DENOMINATOR_NEAR_ZERO = "denominator_near_zero"
    TOO_FEW_BUCKETS = "too_few_buckets"
    FORMULA_UNDEFINED = "formula_undefined"
    BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO = "baseline_not_distinguishable_from_zero"
    TIED_QUANTILE = "tied_quantile"
    TAIL_TOO_THIN = "tail_too_thin"
    TOO_FEW_CLUSTERS = "too_few_clusters"


class CovariateNote(StrEnum):
    """Why an estimate was left unadjusted, or adjusted with fewer covariates than asked for (METHODS A7)."""

    NONE = "no_covariate"
    INVALID = "covariate_invalid"
    CONSTANT = "constant_covariate"
    PARTLY_INVALID = "some_covariates_invalid"
    PARTLY_CONSTANT = "some_covariates_constant"
    COLLINEAR = "collinear_covariates"
    EXPLAINS_EVERYTHING = "covariate_explains_everything"
    SMALL_COUNTS = "small_counts"
    TOO_FEW_UNITS = "too_few_units_for_covariates"


def constant_reason(shape: tuple[int, ...], code: str) -> Reasons:
    """The same code everywhere: a read-only array that takes no memory and is quickly seen to be constant."""
    one = np.empty((), dtype=object)
    one[()] = str(code)
    return np.broadcast_to(one, shape)


def first_reason(shape: tuple[int, ...], *rules: tuple[NDArray[np.bool_], str]) -> Reasons:
    """Array of codes: for each element the code of the first rule (mask, code) that applies, '' if none does.

    Not to be written to: where one code holds everywhere it is stored once.
    """
    active = [(mask, str(code)) for mask, code in rules if mask.any()]
    if not active:
        return constant_reason(shape, "")
    if active[0][0].all():
        return constant_reason(shape, active[0][1])
    which = np.zeros(shape, dtype=np.intp)
    for number in range(len(active), 0, -1):
        np.copyto(which, number, where=active[number - 1][0])
    table = np.array(["", *(code for _, code in active)], dtype=object)
    return np.asarray(table[which])


def clear(codes: Reasons) -> NDArray[np.bool_]:
    """Where no reason is given."""
    return is_code(codes, "")


def is_code(codes: Reasons, code: str) -> NDArray[np.bool_]:
    """Where the code is exactly this one; instant for arrays made of one code."""
    only = one_code(codes)
    if only is not None:
        return np.full(codes.shape, only == code)
    return np.asarray(codes == code, dtype=np.bool_)


def one_code(codes: Reasons) -> str | None:
    """The code that is stored once for the whole array, None for arrays that store one per element (or nothing)."""
    if codes.size == 0 or any(codes.strides):
        return None
    return str(codes.flat[0])
