"""What an experiment did to the North Star and to the company, as its page shows it (METHODS E). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.charts.company_share import share_chart
from app.charts.persistence import persistence_chart
from app.charts.theme import Spec
from app.charts.units import amount, step_for
from app.pages import formats
from app.pages.naming import Names
from experiments.result import (
    ExperimentResult,
    NorthStarEffect,
    Persistence,
    ProjectedImpact,
    ToplineImpact,
    UncertaintyShare,
)

_MENTIONED: Final = 0.005
"""Sources with less than this share of a projection's variance are not worth a line."""


class OfVariant(Protocol):
    """What a document says of one variant."""

    @property
    def variant_key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OtherVariant:
    """The same of a variant that the verdict is not about, in one line; `projected` is empty where nothing was."""

    variant_key: str
    effect: NorthStarEffect | None
    topline: ToplineImpact | None
    projected: str


@dataclass(frozen=True, slots=True)
class Impact:
    """Of the variant that the verdict is about: what is null was not asked for, as there is no North Star."""

    variant_key: str
    effect: NorthStarEffect | None
    blend_sentence: str
    topline: ToplineImpact | None
    share_chart: Spec | None
    persistence: Persistence | None
    persistence_chart: Spec | None
    persistence_sentence: str
    projection: ProjectedImpact | None
    projected_median: str
    projected_range: str
    sources: Sequence[UncertaintyShare]
    others: Sequence[OtherVariant]


def impact(document: ExperimentResult, names: Names, variant_key: str | None) -> Impact | None:
    """The view; None where the plan has no North Star."""
    known = [
        item.variant_key for group in (document.north_star, document.topline, document.projected) for item in group
    ]
    if not known:
        return None
    chosen = variant_key if variant_key in known else known[0]
    effect = _of(document.north_star, chosen)
    topline = _of(document.topline, chosen)
    lasting = _of(document.persistence, chosen)
    projection = _of(document.projected, chosen)
    median, between = _amounts(projection)
    return Impact(
        variant_key=chosen,
        effect=effect,
        blend_sentence=_blend_sentence(effect) if effect else "",
        topline=topline,
        share_chart=share_chart(topline.reach, metric_name=names.metric(topline.metric_key))
        if topline and len(topline.reach) > 1
        else None,
        persistence=lasting,
        persistence_chart=persistence_chart(lasting, metric_name=names.metric(lasting.metric_key))
        if lasting and lasting.estimable and len(lasting.curve) > 1
        else None,
        persistence_sentence=_persistence_sentence(lasting) if lasting else "",
        projection=projection,
        projected_median=median,
        projected_range=between,
        sources=_sources(projection) if projection else (),
        others=[
            OtherVariant(
                key,
                _of(document.north_star, key),
                _of(document.topline, key),
                _amounts(_of(document.projected, key))[1],
            )
            for key in dict.fromkeys(known)
            if key != chosen
        ],
    )


def _of[T: OfVariant](items: Sequence[T], variant_key: str) -> T | None:
    return next((item for item in items if item.variant_key == variant_key), None)


def _blend_sentence(effect: NorthStarEffect) -> str:
    """Where the weights of the blend come from."""
    if effect.blended is None or not effect.blended.estimable:
        return ""
    if effect.tree_bias_sd is None:
        return "the formula is exact here, so nothing stands between the two"
    if effect.blended_from == 0:
        return f"the tree is trusted to within {formats.spread(effect.tree_bias_sd)}, as no past experiment says more"
    count = formats.plural(effect.blended_from, "past experiment")
    return f"the tree has been off by about {formats.spread(effect.tree_bias_sd)} in {count}"


def _persistence_sentence(lasting: Persistence) -> str:
    """Whether the effect lasts, in one sentence that claims no more than the data do."""
    if not lasting.estimable:
        return ""
    if not lasting.identified:
        return "The data do not tell a lasting effect from one that wears off: the course below leans on what is usual."
    chance = formats.probability(lasting.chance_below_half)
    if lasting.transient:
        return f"More likely than not ({chance}), less than half of it lasts: projections use the long run alone."
    return f"More likely than not, at least half of it lasts; the chance that less does is {chance}."


def _amounts(projection: ProjectedImpact | None) -> tuple[str, str]:
    """The median and the 80 % interval with as many digits as the interval allows; empty where nothing is projected."""
    if projection is None or projection.lower_80 is None or projection.upper_80 is None:
        return "", ""
    lower, upper = projection.lower_80, projection.upper_80
    step = step_for(upper - lower)
    return amount(projection.median, step), f"{amount(lower, step)} to {amount(upper, step)}"


def _sources(projection: ProjectedImpact) -> list[UncertaintyShare]:
    """What makes the projection uncertain, the most first; what hardly counts is left out."""
    told = [source for source in projection.uncertainty if source.share >= _MENTIONED]
    return sorted(told, key=lambda source: -source.share)
