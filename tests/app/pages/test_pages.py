"""What the pages say about a company with experiments in every state."""

import json
import re
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa
from sqlmodel import col

from experiments import experiment, lifecycle
from experiments.definitions import ExposureSource, Filter
from experiments.tables import Analysis, Decision, Erasure, Experiment, Launch
from tests.app.pages.conftest import Reader, add_complete
from tests.app.world import HOSTILE, NOW, spec_of

pytestmark = pytest.mark.anyio

PAGES = (
    "/",
    "/experiments",
    "/experiments/checkout",
    "/experiments/search-ranking",
    "/experiments/wallet",
    "/experiments/free-delivery",
    "/experiments/hostile",
    "/experiments/scheduled",
    "/experiments/new",
    "/planning",
    "/planning?metric-0-metric_key=orders&metric-0-role=primary&metric-0-mde=3&arms=3&unit_type=user",
    "/launches",
    "/portfolio?scope=all",
    "/launches/brand-campaign",
    "/catalogue",
    "/metrics/orders/prior",
    "/metrics/refund_rate/prior",
)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Structure(HTMLParser):
    """What assistive technology depends on, and whether elements close where they should."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[dict[str, str | None]] = []
        self.in_label = 0
        self.headings: list[int] = []
        self.landmarks: list[str] = []
        self.tables: list[dict[str, bool]] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID and not (self.open and "svg" in self.open and tag in ("path", "rect", "circle", "line")):
            self.open.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for name in ("aria-labelledby", "aria-describedby", "aria-controls"):
            self.references += str(values.get(name) or "").split()
        if tag == "label":
            self.in_label += 1
            if values.get("for"):
                self.labelled.add(str(values["for"]))
        hidden = values.get("type") == "hidden"
        if tag in ("input", "select", "textarea") and not hidden and not self.in_label:
            self.fields.append(values)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag in ("main", "nav", "header", "footer"):
            self.landmarks.append(tag)
        if tag == "table":
            self.tables.append({"caption": False, "scoped": True})
        if tag == "caption":
            self.tables[-1]["caption"] = True
        if tag == "th" and "scope" not in values:
            self.tables[-1]["scoped"] = False

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self.in_label -= 1
        if "svg" in self.open and tag in ("path", "rect", "circle", "line"):
            return
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self.open[-3:]}")
        else:
            self.open.pop()


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_well_formed_and_usable_with_a_screen_reader(company: Reader, path: str) -> None:
    answer = await company.http.get(path)
    assert answer.status_code == 200
    page = Structure()
    page.feed(answer.text)
    assert page.faults == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), [name for name in page.ids if page.ids.count(name) > 1]
    assert set(page.references) <= set(page.ids), set(page.references) - set(page.ids)
    assert {"main", "nav", "header", "footer"} <= set(page.landmarks)
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert all(field.get("id") in page.labelled for field in page.fields), page.fields
    assert all(table["caption"] and table["scoped"] for table in page.tables)
    assert '<html lang="en">' in answer.text
    assert 'class="skip"' in answer.text


@pytest.mark.parametrize("path", PAGES)
async def test_what_people_typed_is_never_code_on_a_page(company: Reader, path: str) -> None:
    text = (await company.http.get(path)).text
    assert HOSTILE not in text
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL)
    for content in scripts:
        if content.strip():
            assert "<" not in content  # data only, with every angle bracket escaped
            json.loads(content)


async def test_the_verdict_comes_first_with_its_number_and_interval(company: Reader) -> None:
    text = (await company.http.get("/experiments/checkout")).text.replace("\u00a0", " ")
    assert "One page is better than Three steps: Orders per user +3.0 % (always-valid 95 % interval" in text
    assert text.index('id="verdict"') < text.index('id="effects-title"') < text.index('id="plan"')


async def test_shares_are_percentages_and_their_differences_points_and_a_recipe_says_of_what(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text.replace("\u00a0", " ")
    assert '<td class="num">200 %</td><td class="num">206 %</td>' in text
    assert '<td class="num">+0.0400 points<br>' in text and "−0.110 points to +0.190 points" in text
    assert "units with referral, days 7 to 14 after exposure" in text
    assert "number of order, 7 days from exposure on" in (await company.http.get("/catalogue")).text


async def test_an_unreliable_result_says_so_before_any_number(company: Reader) -> None:
    text = (await company.http.get("/experiments/search-ranking")).text
    assert "These numbers cannot be trusted: a check failed." in text
    assert "Find out why before reading anything" in text


async def test_what_is_not_estimable_is_said_with_its_reason(company: Reader) -> None:
    text = (await company.http.get("/experiments/checkout")).text
    assert "Not estimable. The control&#39;s mean cannot be told from zero" in text


async def test_direct_and_tree_estimates_stand_beside_each_other(company: Reader) -> None:
    text = (await company.http.get("/experiments/checkout")).text
    assert re.search(r"Direct</p>.*Through the tree <a.*Do they agree\?", text, re.DOTALL)


@pytest.mark.parametrize(
    ("path", "charts"),
    [
        ("/experiments/checkout", 5),
        ("/experiments/scheduled", 8),
        ("/planning?metric-0-metric_key=orders&metric-0-role=primary&metric-0-mde=3&unit_type=user", 2),
    ],
)
async def test_every_chart_has_a_table_with_its_numbers(company: Reader, path: str, charts: int) -> None:
    text = (await company.http.get(path)).text
    figures = re.findall(r'<figure class="chart">.*?</figure>', text, re.DOTALL)
    assert len(figures) >= charts
    assert all("<figcaption>" in figure and "<details>" in figure and "<table" in figure for figure in figures)
    drawn = set(re.findall(r'data-chart="([^"]+)"', text))
    assert drawn == set(re.findall(r'<script type="application/json" id="([^"]+)"', text))


async def test_home_shows_the_curve_the_tree_what_runs_and_what_was_learned(company: Reader) -> None:
    text = (await company.http.get("/")).text.replace("\u00a0", " ")
    for words in (
        "Weekly orders",
        "Against 4 weeks earlier",
        "Target 18,000",
        "Brand campaign",
        "Free delivery above 30 €",
        "OMTM until",
        "One-page checkout",
        "people add a second item",
    ):
        assert words in text, words
    assert text.count('class="spark"') == 3


async def test_discoveries_are_named_with_their_always_valid_interval(company: Reader) -> None:
    text = (await company.http.get("/portfolio", params={"scope": "all"})).text
    assert "strongest evidence first" in text and "always-valid" in text.lower()
    assert (await company.http.get("/portfolio", params={"scope": "none"})).status_code == 422


async def test_home_teaches_what_to_do_when_nothing_is_there(newcomer: Reader) -> None:
    for path, words in (
        ("/", "northlift apply"),
        ("/experiments", "Write down what you expect"),
        ("/launches", "Nothing has been launched yet"),
        ("/portfolio", "Nothing to compare yet"),
        ("/catalogue", "Nothing is measured yet"),
    ):
        assert words in (await newcomer.http.get(path)).text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=running", {"checkout", "search-ranking"}),
        ("verdict=unreliable", {"search-ranking"}),
        ("team=Payments", {"wallet"}),
        ("tag=search", {"search-ranking"}),
        ("q=DELIVERY", {"free-delivery"}),
        ("status=running&verdict=better", {"checkout"}),
        ("q=nothing+like+it", set()),
    ],
)
async def test_the_list_is_filtered_and_searched_by_its_address(company: Reader, query: str, found: set[str]) -> None:
    text = (await company.http.get(f"/experiments?{query}")).text
    assert set(re.findall(r'class="title" href="/experiments/([^"]+)"', text)) == found
    fragment = await company.http.get(
        f"/experiments?{query}", headers={"HX-Request": "true", "HX-Target": "section#experiment-rows"}
    )
    assert fragment.text.lstrip().startswith('<section id="experiment-rows"')
    assert set(re.findall(r'class="title" href="/experiments/([^"]+)"', fragment.text)) == found


async def test_a_list_longer_than_a_page_continues_on_the_next(
    company: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.pages.experiment_list.PAGE_SIZE", 2)
    path, seen = "/experiments?q=e", []
    while path:
        text = (await company.http.get(path)).text
        seen += re.findall(r'class="title" href="/experiments/([^"]+)"', text)
        following = re.search(r'href="([^"]+)" rel="next"', text)
        path = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == len(set(seen)) == 6


async def test_moves_are_offered_as_the_lifecycle_allows_and_illegal_ones_say_what_is_legal(writer: Reader) -> None:
    page = (await writer.http.get("/experiments/checkout")).text
    assert set(re.findall(r"/moves/(\w+)", page)) == {"pause", "stop"}
    assert (await writer.submit("/experiments/checkout/moves/stop")).status_code == 303
    again = await writer.submit("/experiments/checkout/moves/pause")
    assert again.status_code == 409
    assert "you can archive it" in again.text
    assert (await writer.submit("/experiments/checkout/moves/dance")).status_code == 404


async def test_a_draft_without_a_primary_metric_cannot_start_and_says_why(writer: Reader) -> None:
    await writer.submit(
        "/experiments/new",
        key="empty",
        name="Empty",
        unit_type="user",
        data="events",
        control="0",
        **{"variant-0-key": "a", "variant-0-weight": "50", "variant-1-key": "b", "variant-1-weight": "50"},
    )
    answer = await writer.submit("/experiments/empty/moves/start")
    assert answer.status_code == 422
    assert "primary" in answer.text


async def test_analysing_queues_one_analysis_shows_its_progress_and_can_be_cancelled(writer: Reader) -> None:
    for _ in range(2):
        assert (await writer.submit("/experiments/checkout/analyses")).status_code == 303
    async with writer.database.read() as session:
        waiting = list(await session.scalars(sa.select(Analysis).where(col(Analysis.state) == "queued")))
    assert [row.subject_key for row in waiting] == ["checkout"]
    page = (await writer.http.get("/experiments/checkout")).text
    assert "Waiting for a worker" in page
    assert 'hx-get="/experiments/checkout/progress"' in page
    assert "Analyse now" not in page
    assert (await writer.submit("/experiments/checkout/cancel")).status_code == 303
    done = await writer.http.get("/experiments/checkout/progress", headers={"HX-Request": "true"})
    assert done.headers["hx-refresh"] == "true"


async def test_an_experiment_that_reads_its_exposures_asks_nobody_to_send_any(writer: Reader) -> None:
    read = ExposureSource(
        fact_source="order", variant_column="arm", filters=[Filter(column="test", value="<b>read</b>")],
        segments={"country": "land"},
    )  # fmt: skip
    async with writer.database.write() as session:
        row = await experiment.create(session, spec=spec_of("read", "Read", exposures=read), actor="tests", at=NOW)
        await lifecycle.start(session, experiment=row, actor="tests", at=NOW)
    page = (await writer.http.get("/experiments/read")).text
    assert "Exposures are read from the fact source <code>order</code>" in page
    assert "/v1/ingest/exposures" not in page
    assert "Rows of order with test = &lt;b&gt;read&lt;/b&gt;; the variant is their arm." in page


async def test_a_draft_cannot_be_analysed(company: Reader) -> None:
    answer = await company.submit("/experiments/hostile/analyses")
    assert answer.status_code == 409
    assert "has never been started" in answer.text


async def test_deciding_to_ship_records_the_launch_and_what_was_learned(writer: Reader) -> None:
    answer = await writer.submit(
        "/experiments/wallet/decisions",
        outcome="ship",
        shipped_variant="treatment",
        coverage="25",
        reason="Better, and safe.",
        override_reason="",
        learnings=f"Speed beats choice {HOSTILE}",
    )
    assert answer.status_code == 303
    async with writer.database.read() as session:
        launch = (await session.scalars(sa.select(Launch).where(col(Launch.key) == "wallet"))).one()
        row = (await session.scalars(sa.select(Experiment).where(col(Experiment.key) == "wallet"))).one()
        decision = (await session.scalars(sa.select(Decision).where(col(Decision.launch_id) == launch.id))).one()
    assert (row.conclusion, decision.verdict, decision.decided_by) == ("won", "better", "write key")
    assert launch.spec["rollout"][0]["coverage"] == 0.25
    assert 'href="/launches/wallet"' in (await writer.http.get("/experiments/wallet")).text
    assert "at random" in (await writer.http.get("/launches/wallet")).text
    assert "Speed beats choice" in (await writer.http.get("/")).text


async def test_a_refused_decision_keeps_what_was_typed_and_says_what_to_do_first(company: Reader) -> None:
    fields = {"outcome": "ship", "shipped_variant": "treatment", "reason": "We like it", "learnings": "A lot"}
    answer = await company.submit("/experiments/checkout/decisions", **fields)
    assert answer.status_code == 409
    assert "Stop it first" in answer.text
    wrong = await company.submit("/experiments/wallet/decisions", **{**fields, "coverage": "250"})
    assert wrong.status_code == 422
    assert "above 0 and at most 100" in wrong.text
    assert "We like it" in wrong.text
    assert "A lot" in wrong.text
    async with company.database.read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Decision)) == 1


async def test_the_series_of_the_north_star_can_be_refreshed(writer: Reader) -> None:
    assert (await writer.submit("/north-stars/weekly_orders/analyses")).status_code == 303
    assert "A new series is being computed" in (await writer.http.get("/")).text
    assert (await writer.submit("/north-stars/none/analyses")).status_code == 404


async def test_what_does_not_exist_is_a_page_that_says_so(company: Reader) -> None:
    for path in ("/experiments/none", "/launches/none", "/static/none.js"):
        assert (await company.http.get(path)).status_code == 404
    assert "No such resource" in (await company.http.get("/experiments/none")).text


async def test_static_files_may_be_kept_for_ever_because_their_address_changes_with_them(company: Reader) -> None:
    page = (await company.http.get("/catalogue")).text
    address = re.search(r'href="(/static/app\.css\?v=\w+)"', page)
    assert address
    answer = await company.http.get(address[1])
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    unchanged = await company.http.get(address[1], headers={"If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304


async def test_the_api_documents_itself_without_another_host(company: Reader) -> None:
    page = (await company.http.get("/docs")).text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert {"/static/swagger-ui.css", "/static/swagger-ui-bundle.js"} <= {each.split("?")[0] for each in addresses}
    assert 'data-openapi="/openapi.json"' in page and "//cdn" not in page
    style = await company.http.get("/static/swagger-ui.css")
    assert style.status_code == 200 and ".swagger-ui" in style.text


async def test_every_step_of_a_funnel_is_shown_with_its_uncertainty(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text.replace("\u00a0", " ")
    steps = re.sub(r"<[^>]+>", " ", text[text.index('id="funnels"') : text.index('id="over-time"')])
    steps = " ".join(steps.split())
    for words in (
        "1 Basket of all units",
        "55.0 % 53.0 % to 57.0 %",
        "+1.8 % −2.0 % to +21.0 %",
        "&lt;script&gt;IT",
        "+4.00 points −1.00 points to +8.00 points",
        "Only shares of all units compare what was randomised.",
    ):
        assert words in steps
    assert text.count('class="step-bar"') == 4


async def test_an_unreliable_result_shows_its_checks_before_its_effects(company: Reader) -> None:
    text = (await company.http.get("/experiments/search-ranking")).text
    assert text.index('id="checks"') < text.index('id="effects-title"')
    assert "Do not decide on them" in text
    trusted = (await company.http.get("/experiments/checkout")).text
    assert trusted.index('id="effects-title"') < trusted.index('id="checks"')


async def test_the_page_says_what_to_do_with_tags_days_and_power(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text.replace("\u00a0", " ")
    advice = text[text.index('id="recommendation"') : text.index('class="figures"')]
    for words in (
        "Ship One page",
        "Its link to the North Star is not proven",
        "complete in about 7 days",
        "93.0 % at the planned end",
    ):
        assert words in advice, words


async def test_ratios_caps_and_surveys_explain_themselves_beside_their_numbers(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text.replace("\u00a0", " ")
    assert "numerator +3.0 % (+1.0 % to +5.0 %), denominator +1.8 %" in text
    assert "at 1,250 EUR, which cut 2.1 % of the control's and 2.4 % of the treatment's mean" in text
    assert "31 % of the control and 27 % of the treatment (p = 0.0004); whatever selection did" in text
    assert re.search(r"q = 0\.280", text)
    assert "Difference +0.0004 invites" in text


async def test_segments_interactions_and_ages_are_told_in_sentences(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text.replace("\u00a0", " ")
    assert "The effect differs between segments of country × platform: Q = 21.3 on 6 degrees of freedom" in text
    assert "No proof that the effect differs between segments of country:" in text
    assert "&lt;script&gt;IT</th>" in text
    assert "1 interaction" in text
    assert "The effect is not the same on all days" in text


async def test_a_started_plan_says_its_options_in_words(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text
    assert "Group-sequential: scheduled looks decide, every 7 days; O&#39;Brien-Fleming spending, non-bind" in text
    assert "post-stratified by country." in text
    assert "Broken down by country × platform." in text


async def test_a_decision_against_the_recommendation_is_asked_why_beside_the_field(writer: Reader) -> None:
    async with writer.database.write() as session:
        await add_complete(session)
    page = (await writer.http.get("/experiments/scheduled")).text
    assert 'data-agrees="ship" data-recommended="treatment"' in page
    fields = {"outcome": "roll_back", "reason": "Another bet comes first.", "learnings": "Plenty"}
    refused = await writer.submit("/experiments/scheduled/decisions", **fields)
    assert refused.status_code == 422
    beside = re.search(r'id="override_reason-error">([^<]*)<', refused.text)
    assert beside
    assert "recommends to ship" in beside[1]
    assert "Another bet comes first." in refused.text
    why = "Two bets would collide in the checkout."
    accepted = await writer.submit("/experiments/scheduled/decisions", **fields, override_reason=why)
    assert accepted.status_code == 303
    text = (await writer.http.get("/experiments/scheduled")).text
    assert "Against the recommendation to ship:" in text
    assert why in text


async def test_planning_answers_by_its_address_alone_and_readers_may_ask(reader: Reader) -> None:
    asked = {
        "metric-0-metric_key": "orders",
        "metric-0-role": "primary",
        "metric-0-mde": "3",
        "metric-1-metric_key": "refund_rate",
        "metric-1-role": "guardrail",
        "metric-1-margin": "5",
        "unit_type": "user",
    }

    async def units(**changes: str) -> int:
        text = (await reader.http.get("/planning", params={**asked, **changes})).text
        found = re.search(r'figure-value">([\d,]+) users', text)
        assert found, text
        return int(found[1].replace(",", ""))

    plain = await units(sequential_method="fixed")
    assert plain < await units(sequential_method="group_sequential") < await units(sequential_method="always_valid")
    assert plain < await units(sequential_method="fixed", cuped="no")
    assert plain < await units(sequential_method="fixed", arms="3")
    assert plain < await units(sequential_method="fixed", cluster_size="20", cluster_icc="0.05")
    text = (await reader.http.get("/planning", params={**asked, "triggered_share": "25"})).text
    assert "of whom 25\u00a0% trigger" in text
    assert 'data-chart="sizing-smallest"' in text
    assert 'data-chart="sizing-power"' in text


@pytest.mark.parametrize(
    ("changes", "place"),
    [({"power": "lots"}, "power"), ({"cluster_size": "nan"}, "cluster_size"), ({"coverage": "0"}, "")],
)
async def test_a_plan_that_cannot_be_meant_says_so_and_does_not_break(
    company: Reader, changes: dict[str, str], place: str
) -> None:
    asked = {"metric-0-metric_key": "orders", "metric-0-mde": "3", "metric-0-role": "primary", "unit_type": "user"}
    answer = await company.http.get("/planning", params={**asked, **changes})
    assert answer.status_code == 200
    assert "Fill in variants" in answer.text
    if place:
        assert f'id="{place}-error"' in answer.text


async def test_an_experiment_says_how_many_units_its_result_still_counts(company: Reader) -> None:
    async with company.database.write() as session:
        for variant in ("control", "one_page"):
            session.add(
                Erasure(
                    unit_type="user", unit_digest="0" * 64, state="done", requested_by="ada", requested_at=NOW,
                    rewritten_at=NOW, effects={"experiments": {"search-ranking": {variant: 1}}, "rounds": 1},
                )
            )  # fmt: skip
    told = "2 units erased since this result. It still counts them; the next analysis does not."
    assert told in (await company.http.get("/experiments/search-ranking")).text
    assert "erased since" not in (await company.http.get("/experiments/checkout")).text
