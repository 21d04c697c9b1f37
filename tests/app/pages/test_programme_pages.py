"""The pages of programmes and of learned links."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.pages import programme_words
from app.pages.links_view import links_view
from app.pages.programme_view import holdout_line, programme_view
from experiments import lifecycle, programme_plan
from experiments.definitions import Direction
from experiments.plan import LinksPlan, PlannedNorthStar, document
from experiments.tables import Analysis
from tests.app import programme_documents as documents
from tests.app.documents import START
from tests.app.pages.conftest import Reader
from tests.app.world import NOW, define_metrics, define_north_star, run, spec_of, store
from tests.experiments.joint import remember_joint

pytestmark = pytest.mark.anyio

TREE = ("orders", "active_users", "sessions_per_active_user", "orders_per_session")


async def with_programme(reader: Reader) -> None:
    """The programme and the links of the listening service, as if they were this company's."""
    asked = documents.plan().model_copy(update={"metric_key": "orders"})
    spec = documents.links_plan().north_star.spec
    links_asked = LinksPlan(north_star=PlannedNorthStar(version=1, spec=spec), effects=[], missing=[])
    links = documents.links().model_copy(update={"north_star_key": "weekly_orders"})
    at = START + timedelta(days=30)
    async with reader.database.write() as session:
        await define_metrics(session)
        await define_north_star(session)
        await store(session, "programme", "orders", document(asked), documents.about("orders"), at)
        await store(session, "links", "weekly_orders", document(links_asked), links, at)


def test_the_answer_says_what_is_believed_and_what_was_claimed_with_intervals() -> None:
    programme = documents.programme()
    view = programme_view(programme)
    said = view.sentence.replace("\u00a0", " ")
    ours, claims = programme.totals[:2]
    assert said == (
        f"What shipped is believed to have moved Hours listened by +{ours.lift:.1%} in total "
        f"(80 % interval: +{ours.lower_80:.1%} to +{ours.upper_80:.1%}). "
        f"The experiments themselves had claimed +{claims.lift:.1%}."
    ).replace(" %", "%").replace("%", " %")
    assert view.wins_sentence.replace("\u00a0", " ") == (
        f"{programme.wins_for_80} wins make 80 % of the total, of 21 shipped experiments."
    )
    assert [group.title for group in view.groups] == ["Shipped (21)", "Not shipped (36)"]
    assert "24 of 36" in view.groups[1].summary
    assert [len(group.lines) for group in view.groups] == [21, 36]


def test_a_programme_in_which_nothing_shipped_has_no_total_and_says_why() -> None:
    plan = documents.plan()
    effects = [each.model_copy(update={"shipped": False, "outcome": "iterate"}) for each in plan.effects[:12]]
    nothing = documents.computed(plan.model_copy(update={"effects": effects, "holdouts": []}))
    view = programme_view(nothing)
    assert view.sentence == "Not estimable. Nothing has shipped yet, so there is no total."
    assert view.cumulative is None and view.totals is None and view.wins is None
    assert [group.key for group in view.groups] == ["other"]


def test_a_metric_that_should_fall_has_a_total_below_zero() -> None:
    plan = documents.plan()
    turned = [
        each.model_copy(update={"log_lift": -each.log_lift, "topline_log_lift": -(each.topline_log_lift or 0.0)})
        for each in plan.effects[:20]
    ]
    fallen = plan.model_copy(update={"direction": Direction.DECREASE, "effects": turned, "holdouts": []})
    view = programme_view(documents.computed(fallen))
    assert view.lead is not None and view.lead.upper_80 is not None and view.lead.upper_80 < 0
    assert "moved Hours listened by −" in view.sentence


def test_how_much_of_a_claim_came_true_is_said_in_words_also_where_it_is_anybodys_guess() -> None:
    held = (
        documents.programme()
        .holdouts[0]
        .model_copy(update={"kappa": 0.232, "kappa_lower": -0.104, "kappa_upper": 0.62, "reason": None})
    )
    assert programme_words.realised(held).replace("\u00a0", " ") == (
        "23 % of what was claimed came true (95 % interval: −10 % to 62 %). Nothing at all is possible."
    )
    unbounded = held.model_copy(update={"kappa_unbounded": True, "kappa_lower": None, "kappa_upper": None})
    assert programme_words.realised(unbounded).startswith("Any share of the claim may have come true")
    unclaimed = held.model_copy(update={"reason": "no_claims", "kappa": None, "claimed": None, "claimed_sd": None})
    assert programme_words.realised(unclaimed).startswith("Not estimable. None of its launches has a claim")
    assert holdout_line(unclaimed).chart is not None
    nothing = unclaimed.model_copy(update={"realised": None, "realised_standard_error": None})
    assert holdout_line(nothing).chart is None


def test_an_input_that_is_no_proxy_is_refused_with_the_chance_that_is_missing() -> None:
    view = links_view(documents.links(), names={"listening_hours": "Hours listened"})
    usable, refused = view.parts[:2]
    link = usable.link
    assert usable.label.text == "May stand for the North Star"
    assert usable.sentence.replace("\u00a0", " ") == (
        f"Where experiments moved active_listeners by 1 %, Hours listened moved by {link.slope:.2f} % "
        f"(80 % interval: {link.slope_lower_80:.2f} % to {link.slope_upper_80:.2f} %)."
    )
    assert "It stays inside" in usable.teams_summary
    assert refused.label.text == "Not proven"
    assert f"{(refused.link.chance_correlation or 0) * 100:.1f}" in refused.usable and "are needed" in refused.usable
    slope = refused.link.slope_by_team["podcasts"]
    elsewhere = refused.link.model_copy(update={"slope_lower_80": slope - 2, "slope_upper_80": slope - 1})
    moved = links_view(documents.links().model_copy(update={"links": [elsewhere]}), names={}).parts[0]
    assert "It hangs on podcasts" in moved.teams_summary


def test_every_reason_of_a_programme_has_words() -> None:
    for code in ("no_claims", "declared_invalid", "correlation_uncertain", "one_formula", "not_sampled"):
        assert programme_words.reason(code) == programme_words.REASONS[code]
    assert programme_words.reason("its result failed a check") == "Its result failed a check."


async def test_a_programme_is_shown_with_its_total_its_experiments_and_what_it_is_worth(visitor: Reader) -> None:
    reader = visitor
    await with_programme(reader)
    await reader.sign_in(reader.keys.read)
    page = await reader.http.get("/programme")
    assert page.status_code == 200
    assert '<a href="/programme" aria-current="page">Programme</a>' in page.text
    for part in ("answer", "over-time", "wins", "totals", "experiments", "holdouts", "completeness", "checks"):
        assert f'id="{part}"' in page.text, part
    for chart in (
        "programme-cumulative",
        "programme-wins",
        "programme-totals",
        "programme-effects-shipped",
        "holdout-1",
    ):
        assert f'data-chart="{chart}"' in page.text
    assert 'href="/experiments/car_home"' in page.text and "A check failed, so its numbers are not used." in page.text
    assert 'id="method-F1"' in page.text and 'href="#method-F1"' in page.text
    assert 'href="/v1/analyses/0198c0de"' in page.text
    assert "Compute again" not in page.text  # this key may only read
    assert (await reader.http.get("/programme/orders")).text.count("Programme: ") == page.text.count("Programme: ")
    assert (await reader.submit("/programme/orders/analyses")).status_code == 403
    links = (await reader.http.get("/links/weekly_orders")).text
    assert "May stand for the North Star" in links and "Not proven" in links
    assert 'data-chart="link-1"' in links and 'data-chart="teams-1"' in links
    assert '<a href="/programme" aria-current="page">Programme</a>' in links
    assert (await reader.submit("/links/weekly_orders/analyses")).status_code == 403
    assert (await reader.http.get("/programme/nothing")).status_code == 404
    assert (await reader.http.get("/links/nothing")).status_code == 404


async def test_a_programme_is_asked_for_once_however_often_the_button_is_pressed(newcomer: Reader) -> None:
    empty = (await newcomer.http.get("/programme")).text
    assert "There is no North Star yet" in empty
    async with newcomer.database.write() as session:
        await define_metrics(session)
        await define_north_star(session)
    text = (await newcomer.http.get("/programme/orders")).text
    assert "No experiment that measures <code>orders</code> has ended yet" in text and "Compute now" not in text
    for path in ("/programme/%00", "/programme/%00/progress", "/links/%00", "/holdouts/%00"):
        assert (await newcomer.http.get(path)).status_code == 422
    refused = await newcomer.submit("/programme/orders/analyses")
    assert refused.status_code == 409 and "has ended yet" in refused.text
    assert (await newcomer.submit("/programme/nothing/analyses")).status_code == 404
    text = (await newcomer.http.get("/links/weekly_orders")).text
    assert "0 of 8 experiments on <code>weekly_orders</code> have ended" in text and "Learn now" not in text
    assert (await newcomer.submit("/links/weekly_orders/analyses")).status_code == 409
    async with newcomer.database.write() as session:
        tried = await run(session, spec_of("wallet", "Wallet at checkout"))
        await lifecycle.stop(session, experiment=tried, actor="ada", at=NOW)
        await remember_joint(session, 8, keys=TREE, north_star_key="weekly_orders")
    assert "Compute now" in (await newcomer.http.get("/programme/orders")).text
    for _ in range(2):
        answer = await newcomer.submit("/programme/orders/analyses", winners_only="on")
        assert (answer.status_code, answer.headers["location"]) == (303, "/programme/orders")
    for _ in range(2):
        answer = await newcomer.submit("/links/weekly_orders/analyses")
        assert (answer.status_code, answer.headers["location"]) == (303, "/links/weekly_orders")
    async with newcomer.database.read() as session:
        kinds = col(Analysis.kind).in_(("programme", "links"))
        found = (await session.scalars(sa.select(Analysis).where(kinds).order_by(col(Analysis.kind)))).all()
    assert [(row.kind, row.subject_key, row.state) for row in found] == [
        ("links", "weekly_orders", "queued"),
        (programme_plan.KIND, "orders", "queued"),
    ]
    assert found[1].plan["winners_only"] is True
    for path in ("/programme/orders", "/links/weekly_orders"):
        assert "Waiting for a worker" in (await newcomer.http.get(path)).text
        assert "hx-refresh" not in (await newcomer.http.get(f"{path}/progress")).headers
        assert (await newcomer.submit(f"{path}/cancel")).status_code == 303
        assert "hx-refresh" in (await newcomer.http.get(f"{path}/progress")).headers
