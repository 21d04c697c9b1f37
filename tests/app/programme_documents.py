"""Documents of programmes and learned links as workers store them: those of the listening service."""

from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from experiments.evidence import LinksContext, draft_links, programme_result
from experiments.plan import LinksPlan, ProgrammePlan
from experiments.result import LinksResult, ProgrammeResult
from stats.company.listening.generator import generate
from tests import listening_plans

AT = datetime(2026, 11, 16, tzinfo=UTC)


@cache
def plan() -> ProgrammePlan:
    """Sixty experiments of two years, a holdout, one broken experiment."""
    return listening_plans.programme_plan(generate(date(2026, 11, 16)))


@cache
def programme() -> ProgrammeResult:
    return computed(plan())


def computed(asked: ProgrammePlan) -> ProgrammeResult:
    return programme_result(asked, analysis_id="0198c0de", data_as_of=AT, code_version="test")


@cache
def links_plan() -> LinksPlan:
    """Of all teams only one has a name: every team that can be left out is learned without once more."""
    told = generate(date(2026, 11, 16))
    asked = listening_plans.links_plan(told, tuple(each["metric_key"] for each in told.north_star["input_metrics"]))
    effects = [each if each.team == "podcasts" else each.model_copy(update={"team": None}) for each in asked.effects]
    return asked.model_copy(update={"effects": effects})


@cache
def links() -> LinksResult:
    """Of one input that may stand for the North Star, and two that may not."""
    return draft_links(links_plan(), LinksContext("0198c0de", AT, 1, "test")).finish()


def about(metric_key: str, **changes: Any) -> ProgrammeResult:
    """The programme as if it were of another metric."""
    return programme().model_copy(update={"metric_key": metric_key, **changes})
