"""What things of a result document are called on a page."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.result import ExperimentResult


@dataclass(frozen=True, slots=True)
class Names:
    """Metrics and variants by key; variants are named only where there are several."""

    metrics: Mapping[str, str]
    directions: Mapping[str, str]
    variants: Mapping[str, str]
    many_arms: bool

    @classmethod
    def of(cls, document: ExperimentResult, variants: Mapping[str, str]) -> "Names":
        """Of everything that the document's rows are about."""
        rows = document.rows
        return cls(
            metrics={row.metric_key: row.metric_name for row in rows},
            directions={row.metric_key: row.direction for row in rows},
            variants=variants,
            many_arms=len({row.variant_key for row in rows}) > 1,
        )

    def metric(self, key: str) -> str:
        return self.metrics.get(key, key)

    def variant(self, key: str) -> str:
        return self.variants.get(key, key)

    def comparison(self, metric_key: str, variant_key: str) -> str:
        """The metric, and which arm where there are several."""
        name = self.metric(metric_key)
        return f"{name} · {self.variant(variant_key)}" if self.many_arms else name
