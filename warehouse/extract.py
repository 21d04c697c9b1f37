"""What the data engine offers: plans and slices of data in; moments, series and baselines out, nothing else."""

from warehouse.baseline import EVERYONE, Baseline, extract_baseline
from warehouse.data_slice import DataSlice
from warehouse.experiment_moments import Progress, extract_experiment
from warehouse.segment_series import extract_segment_series
from warehouse.series import WeeklySeries, extract_series
from warehouse.state.refresh import extract_incrementally
from warehouse.summary_moments import SummaryRow, extract_summaries
from warehouse.values import NON_FINITE

__all__ = [
    "EVERYONE",
    "NON_FINITE",
    "Baseline",
    "DataSlice",
    "Progress",
    "SummaryRow",
    "WeeklySeries",
    "extract_baseline",
    "extract_experiment",
    "extract_incrementally",
    "extract_segment_series",
    "extract_series",
    "extract_summaries",
]
