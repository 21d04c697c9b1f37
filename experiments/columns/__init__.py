"""Which per-unit columns a set of metrics needs: the one contract between plans, data engines and estimators.

A column is a measure in a period (the outcome window after exposure, or the pre-period before it). Metrics that share a
measure and a window share the column, so one pass over the facts serves them all and their covariance is exact.
"""

from experiments.columns.column import CLUSTER_SIZE, Column, ColumnLayout, MetricColumns, QuantileColumn
from experiments.columns.of_plans import AgedMetric, ModelledMetric, aged, company_specs, modelled
from experiments.columns.placing import layout

__all__ = [
    "CLUSTER_SIZE",
    "AgedMetric",
    "Column",
    "ColumnLayout",
    "MetricColumns",
    "ModelledMetric",
    "QuantileColumn",
    "aged",
    "company_specs",
    "layout",
    "modelled",
]
