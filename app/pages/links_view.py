"""Learned links as their page shows them. Pure: documents never change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.charts.links import MOST_ELLIPSES, link_scatter, team_slopes
from app.charts.theme import Spec
from app.pages import programme_words
from app.pages.words import Label
from experiments.result import Check, LinkEstimate, LinksResult

USABLE = Label("May stand for the North Star", "good", "check")
REFUSED = Label("Not proven", "", "question")


@dataclass(frozen=True, slots=True)
class LinkPart:
    """One input; `chart` is None without a single experiment, `teams` where no team can be left out."""

    link: LinkEstimate
    name: str
    label: Label
    sentence: str
    usable: str
    chart: Spec | None
    summary: str
    teams: Spec | None
    teams_summary: str


@dataclass(frozen=True, slots=True)
class LinksView:
    """All inputs in the order of the tree."""

    document: LinksResult
    north_star_name: str
    parts: Sequence[LinkPart]
    names: Mapping[str, str]
    troubled: Sequence[Check]
    passed: Sequence[Check]


@lru_cache(maxsize=16)
def stored_links_view(body: bytes, names: frozenset[tuple[str, str]]) -> LinksView:
    """The view of a document as it was stored; `names` of metrics, by key."""
    return links_view(LinksResult.model_validate_json(body), names=dict(names))


def links_view(document: LinksResult, *, names: Mapping[str, str]) -> LinksView:
    """`names` are those of the metrics by key."""
    north_star_name = names.get(document.metric_key, document.metric_key)
    return LinksView(
        document=document,
        north_star_name=north_star_name,
        parts=[_part(each, names.get(each.metric_key, each.metric_key), north_star_name) for each in document.links],
        names=names,
        troubled=[each for each in document.checks if each.status != "pass"],
        passed=[each for each in document.checks if each.status == "pass"],
    )


def _part(link: LinkEstimate, name: str, north_star_name: str) -> LinkPart:
    summary = f"Each dot is an experiment, across: its effect on {name}, upwards: its effect on {north_star_name}. "
    if any(each.error_correlation for each in link.points):
        summary += (
            "Ellipses are its errors (half of what is possible lies inside), which lean because the same people are in "
            "both. The dashed slope of the cloud "
            "takes in that lean; the solid one, in its 80\u00a0% band, does not."
        )
    if len(link.points) > MOST_ELLIPSES:
        summary += f" Ellipses of the {MOST_ELLIPSES} best measured."
    teams = None
    if link.slope_by_team and None not in (link.slope, link.slope_lower_80, link.slope_upper_80):
        assert link.slope is not None and link.slope_lower_80 is not None and link.slope_upper_80 is not None
        teams = team_slopes(
            link.slope_by_team,
            slope=link.slope,
            lower=link.slope_lower_80,
            upper=link.slope_upper_80,
            input_name=name,
        )
    outside = [] if teams is None else _outside(link)
    return LinkPart(
        link=link,
        name=name,
        label=USABLE if link.usable else REFUSED,
        sentence=programme_words.link_sentence(link, input_name=name, north_star_name=north_star_name),
        usable=programme_words.usable_sentence(link),
        chart=link_scatter(link, input_name=name, north_star_name=north_star_name) if link.points else None,
        summary=summary,
        teams=teams,
        teams_summary="The slope without one team's experiments at a time, in the 80\u00a0% interval with all of them. "
        + (
            f"It hangs on {', '.join(outside)}: a slope that one surface makes is no law."
            if outside
            else "It stays inside: no single team makes it."
        ),
    )


def _outside(link: LinkEstimate) -> list[str]:
    """Teams whose experiments carry the slope out of its interval when they are left out."""
    lower, upper = link.slope_lower_80, link.slope_upper_80
    if lower is None or upper is None:
        return []
    return [team for team, slope in link.slope_by_team.items() if not lower <= slope <= upper]
