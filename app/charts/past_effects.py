"""Past experiments behind a learned prior: what each measured, what is believed of it, where the next one may lie."""

from collections.abc import Mapping, Sequence
from math import exp, expm1, log1p, pi, sqrt

from app.charts.pulled import Pulled, pulled_forest
from app.charts.theme import Spec
from experiments.result import LearnedStratum, PastEffectShown

MOST_ROWS = 30
NORMAL_95 = 1.96
POINTS = 160


def next_effect(stratum: LearnedStratum) -> list[tuple[float, float]]:
    """(lift, density) of a new experiment's effect, drawn from the mixture that the document holds."""
    if stratum.prior_mean is None or stratum.prior_scale is None or not stratum.components:
        return []
    low, high = (stratum.prior_mean + sign * 4.5 * stratum.prior_scale for sign in (-1, 1))
    lifts = [expm1(low + (high - low) * step / (POINTS - 1)) for step in range(POINTS)]
    return [(lift, _density(log1p(lift), stratum.components) / (1 + lift)) for lift in lifts]


def _density(value: float, components: Sequence[tuple[float, float, float]]) -> float:
    return sum(w * exp(-0.5 * ((value - mean) / sd) ** 2) / (sd * sqrt(2 * pi)) for w, mean, sd in components if sd > 0)


def ordered(effects: Sequence[PastEffectShown]) -> list[PastEffectShown]:
    """The largest believed effect first; those without one last."""
    return sorted(effects, key=lambda item: (item.shrunk_log_lift is None, -(item.shrunk_log_lift or 0.0)))


def bounds(mean: float | None, sd: float | None) -> tuple[float | None, float | None, float | None]:
    """(lift, lower, upper) of a log lift, at 95 %."""
    if mean is None or sd is None:
        return None, None, None
    return expm1(mean), expm1(mean - NORMAL_95 * sd), expm1(mean + NORMAL_95 * sd)


def past_effects_chart(
    effects: Sequence[PastEffectShown], stratum: LearnedStratum, names: Mapping[str, str], *, metric_name: str
) -> Spec:
    """Past effects, raw and shrunk, below the density of the next one; the largest and the smallest where many."""
    shown = ordered(effects)
    if len(shown) > MOST_ROWS:
        shown = [*shown[: MOST_ROWS // 2], *shown[-(MOST_ROWS // 2) :]]
    rows = [
        Pulled(
            names.get(item.experiment_key, item.experiment_key),
            *bounds(item.log_lift, item.standard_error),
            *bounds(item.shrunk_log_lift, item.shrunk_sd),
        )
        for item in shown
    ]
    return pulled_forest(
        rows,
        crowd=next_effect(stratum),
        mean=None if stratum.mean is None else expm1(stratum.mean.mean),
        description=f"{metric_name}: {len(rows)} past effects, as measured and as believed, and where the next may lie",
    )
