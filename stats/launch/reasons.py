"""Why a launch could not be measured, or not by this method."""

from __future__ import annotations

from enum import StrEnum


class LaunchReason(StrEnum):
    """Codes; the words for people are with the pages."""

    TOO_LITTLE_HISTORY = "too_little_history"
    NO_PERIOD_AFTER_LAUNCH = "no_period_after_launch"
    NO_COMPARISON_UNITS = "no_comparison_units"
    TOO_FEW_COMPARISON_UNITS = "too_few_comparison_units"
    TOO_FEW_TREATED_UNITS = "too_few_treated_units"
    NO_UNTREATED_CELLS = "no_untreated_cells"
    GAPS_IN_SERIES = "gaps_in_series"
    CONSTANT_SERIES = "constant_series"
    NOT_CONCURRENT = "not_concurrent"
    TOO_FEW_BLOCKS = "too_few_blocks"
    NOT_ENOUGH_UNITS = "not_enough_units"
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
    NO_COVERAGE = "no_coverage"
    NO_DATA = "no_data"
    MODEL_UNRELIABLE = "model_unreliable"
    POOR_DONOR_FIT = "poor_donor_fit"
    EXPERIMENT_NOT_USABLE = "experiment_not_usable"
    TOO_NOISY = "too_noisy"
    BASELINE_NEAR_ZERO = "baseline_near_zero"
