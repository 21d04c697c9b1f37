"""Segments, raw and shrunk: what each segment says alone, and what it says once it has heard the others."""

from app.charts.pulled import Pulled, pulled_forest
from app.charts.theme import Spec
from experiments.result import SegmentModel


def segments(model: SegmentModel, *, metric_name: str) -> Spec:
    """Hollow point and thin line: the segment alone. Filled point and thick line: the hierarchical estimate."""
    effects = [
        Pulled(
            label=effect.segment,
            raw=effect.raw_lift,
            raw_lower=effect.raw_ci_lower,
            raw_upper=effect.raw_ci_upper,
            lift=effect.lift,
            lower=effect.hdi_lower,
            upper=effect.hdi_upper,
        )
        for effect in model.effects
    ]
    return pulled_forest(
        effects,
        mean=model.mean_lift,
        description=f"{metric_name} by {model.dimension}: {len(effects)} segments, raw and shrunken lifts",
    )
