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
    COLLINEAR = "collinear_covariates"
    EXPLAINS_EVERYTHING = "covariate_explains_everything"
    SMALL_COUNTS = "small_counts"


def first_reason(shape: tuple[int, ...], *rules: tuple[NDArray[np.bool_], str]) -> Reasons:
    """Array of codes: for each element the code of the first rule (mask, code) that applies, '' if none does."""
    codes = np.full(shape, "", dtype=object)
    for mask, code in reversed(rules):
        if mask.any():
            codes[np.broadcast_to(mask, shape)] = code
    return codes


def clear(codes: Reasons) -> NDArray[np.bool_]:
    """Where no reason is given."""
    return np.asarray(codes == "", dtype=np.bool_)
