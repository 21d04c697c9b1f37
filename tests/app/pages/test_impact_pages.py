"""Impact on the company, lineage, and what accounts for a change: pages and what they draw."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from app.pages.change_page import change_view
from app.pages.impact_view import impact
from app.pages.lineage_view import picture
from app.pages.naming import Names
from experiments.lineage_graph import Edge, Graph, Node
from experiments.observed_change import RecentChange
from experiments.result import (
    Attribution,
    AttributionPart,
    Persistence,
    PersistencePoint,
    ProjectedImpact,
    ReachWeek,
    ToplineImpact,
    UncertaintyShare,
)
from tests.app.documents import result
from tests.app.pages.conftest import Reader

pytestmark = pytest.mark.anyio
NAMES = Names({"orders": "Orders"}, {"orders": "increase"}, {"treatment": "Treatment"}, False)
TOPLINE = ToplineImpact(
    metric_key="orders",
    variant_key="treatment",
    source="measured",
    share=0.3,
    share_standard_error=0.01,
    share_of_units=0.1,
    log_lift=0.0149,
    standard_error=0.004,
    lift=0.015,
    ci_lower=0.007,
    ci_upper=0.023,
    ci_level=0.95,
    naive_lift=0.005,
    reach=[ReachWeek(week=week, share=0.1 * (week + 1), share_standard_error=0.01) for week in range(3)],
    estimable=True,
)
FADING = Persistence(
    metric_key="orders",
    variant_key="treatment",
    start=0.06,
    start_lower=0.04,
    start_upper=0.08,
    long_run=0.02,
    long_run_lower=-0.01,
    long_run_upper=0.04,
    remaining=0.34,
    remaining_lower=0.0,
    remaining_upper=0.7,
    remaining_log_sd=0.4,
    half_life_days=5.0,
    half_life_lower=2.0,
    half_life_upper=12.0,
    chance_below_half=0.8,
    transient=True,
    identified=True,
    curve=[PersistencePoint(age_days=day, lift=0.06 - 0.003 * day, lower=0.01, upper=0.08) for day in range(14)],
    estimable=True,
)
PROJECTED = ProjectedImpact(
    metric_key="orders",
    variant_key="treatment",
    horizon_weeks=52,
    headline=True,
    median=12_345.6,
    lower_80=1_234.5,
    upper_80=34_567.8,
    chance_positive=0.93,
    steady_state_lift=None,
    uncertainty=[
        UncertaintyShare(source="baseline", share=0.001),
        UncertaintyShare(source="effect", share=0.3),
        UncertaintyShare(source="persistence", share=0.699),
    ],
    estimable=True,
)


def test_the_impact_says_no_more_digits_than_it_knows_and_the_largest_source_first() -> None:
    document = result(topline=[TOPLINE], persistence=[FADING], projected=[PROJECTED])
    found = impact(document, NAMES, "treatment")
    assert found is not None
    assert (found.projected_median, found.projected_range) == ("+12,000", "+1,000 to +35,000")
    assert [source.source for source in found.sources] == ["persistence", "effect"]
    assert "long run alone" in found.persistence_sentence
    assert "80.0" in found.persistence_sentence
    assert found.share_chart is not None
    assert found.persistence_chart is not None


def test_a_course_that_the_data_do_not_tell_is_not_called_lasting() -> None:
    unknown = FADING.model_copy(update={"identified": False, "transient": False})
    found = impact(result(topline=[TOPLINE], persistence=[unknown]), NAMES, "treatment")
    assert found is not None
    assert "do not tell" in found.persistence_sentence


async def test_the_impact_is_on_the_page_with_its_methods(company: Reader) -> None:
    text = (await company.http.get("/experiments/checkout")).text
    assert '<a href="#impact">Impact</a>' in text
    for method in set(re.findall(r'href="#method-(\w+)"', text)) & {"E1", "E2"}:
        assert f'id="method-{method}"' in text, method


def _node(identity: str, **fields: str) -> Node:
    kind, key = identity.split(":")
    return Node(identity, kind, key, fields.get("name", key))  # type: ignore[arg-type]  # kinds by their prefix


def test_what_follows_stands_to_the_right_and_below_and_nothing_overlaps() -> None:
    ids = ["hypothesis:a", "experiment:a", "experiment:b", "hypothesis:b", "experiment:c", "experiment:d"]
    ids += ["launch:a", "launch:a2", "ledger:a", "launch:c", "holdout:h"]
    edges = [
        Edge("hypothesis:a", "experiment:a", "tested_by"),
        Edge("hypothesis:b", "experiment:b", "tested_by"),
        Edge("experiment:a", "experiment:b", "iterates"),
        Edge("experiment:a", "experiment:c", "replicates"),
        Edge("experiment:b", "experiment:d", "contradicts"),
        Edge("experiment:a", "launch:a", "shipped_as"),
        Edge("experiment:a", "launch:a2", "shipped_as"),
        Edge("experiment:c", "launch:c", "shipped_as"),
        Edge("launch:a", "ledger:a", "reconciled_in"),
        Edge("launch:a", "holdout:h", "held_by"),
        Edge("launch:c", "holdout:h", "held_by"),
    ]
    drawn = picture(Graph([_node(each) for each in ids], edges), title="A", key="a")
    at = {card.node.id: card for card in drawn.cards}
    assert "hypothesis:b" not in at
    assert at["experiment:b"].hypothesis == "b"
    assert len(drawn.listed) == len(ids)
    for edge in edges:
        if edge.source in at:
            assert at[edge.source].x + at[edge.source].width < at[edge.target].x
    boxes = list(at.values())
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y
    assert max(card.x + card.width for card in boxes) <= drawn.width
    assert [line.label for line in drawn.lines if line.label] == ["iterates", "replicates", "contradicts"]


async def test_lineages_are_drawn_and_listed(company: Reader) -> None:
    whole = (await company.http.get("/lineage")).text
    assert '<svg class="lineage"' in whole
    one = await company.http.get("/lineage/checkout")
    assert "lineage-chosen" in one.text
    assert "Show as a list" in one.text
    assert "style=" not in one.text
    assert (await company.http.get("/lineage/nothing")).status_code == 404


async def test_before_anything_ships_the_lineage_says_how_to_begin(newcomer: Reader) -> None:
    assert "Nothing follows from anything yet" in (await newcomer.http.get("/lineage")).text


def test_a_change_is_told_with_intervals_and_never_as_a_cause() -> None:
    end = datetime(2026, 11, 16, tzinfo=UTC)
    part = AttributionPart(
        metric_key="users",
        name="Users",
        units=1_050.0,
        lower_80=800.0,
        upper_80=1_300.0,
        covers_zero=False,
        log_change=0.02,
        before=100.0,
        after=102.0,
    )
    found = Attribution(
        method="lmdi",
        begins_at=end - timedelta(weeks=4),
        ends_at=end,
        compared_begins_at=end - timedelta(weeks=8),
        compared_ends_at=end - timedelta(weeks=4),
        change=1_050.0,
        parts=[part],
        uncertainty="sampling error",
        estimable=True,
    )
    view = change_view(RecentChange(4, found), "orders")
    assert view.chart is not None
    assert "caus" not in str(view.chart)
    assert view.parts[0].own == pytest.approx(0.0202, abs=1e-4)
    assert change_view(RecentChange(13, None), "orders").chart is None


async def test_the_home_page_asks_for_the_change_after_it_has_loaded(company: Reader) -> None:
    home = (await company.http.get("/")).text
    address = re.search(r'hx-get="(/north-stars/[^"]+/change)"', home)
    assert address
    part = await company.http.get(address[1], headers={"HX-Request": "true"})
    assert part.status_code == 200
    assert "<html" not in part.text
    assert "4 weeks" in part.text
    page = await company.http.get(address[1])
    assert "<h1>What accounts for the change</h1>" in page.text
    assert (await company.http.get("/north-stars/nothing/change")).status_code == 404
