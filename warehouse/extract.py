"""What the data engine offers: plans and slices of data in; moments, series and baselines out, nothing else."""

from warehouse.data_slice import DataSlice
from warehouse.experiment_moments import Progress, extract_experiment
from warehouse.summary_moments import SummaryRow, extract_summaries

__all__ = [
    "DataSlice",
    "Progress",
    "SummaryRow",
    "extract_experiment",
    "extract_summaries",
]
