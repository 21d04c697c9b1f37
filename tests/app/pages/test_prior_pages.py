"""The page of a metric's learned prior, and learning one from it."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.pages.prior_view import prior_view
from experiments.tables import Analysis
from tests.app.complete_beliefs import learned_prior
from tests.app.documents import START
from tests.app.pages.conftest import Reader
from tests.app.world import define_metrics
from tests.experiments.past import lifts, remember

pytestmark = pytest.mark.anyio


def test_a_population_is_said_in_a_sentence_and_each_past_effect_is_pulled_in() -> None:
    view = prior_view(learned_prior(), metric_name="Orders per user")
    said = view.sentence.replace("\u00a0", " ")
    assert said == (
        "True effects on Orders per user lie around +0.2 % and differ by about 1.8 % (standard deviation). Before it "
        "has any data, the next experiment is expected to bring −3.9 % to +4.5 %."
    )
    assert [line.effect.experiment_key for line in view.effects][:2] == ["past-0", "past-1"]
    assert view.effects[-1].lift == "–"
    assert [line.name for line in view.strata] == ["All experiments", "Checkout"]
    assert view.strata_sentence.startswith("Teams differ")
    assert view.chart is not None


def test_too_few_experiments_teach_nothing_and_say_so() -> None:
    whole = learned_prior().strata[0]
    nothing = whole.model_copy(
        update={
            "mean": None,
            "tau": None,
            "prior_mean": None,
            "prior_scale": None,
            "components": [],
            "reason": "too_few_experiments",
        }
    )
    view = prior_view(learned_prior(strata=[nothing]), metric_name="Orders per user")
    assert view.chart is None
    assert view.sentence == "Nothing was learned. Too few experiments have measured it to say what is usual."


async def test_the_list_of_metrics_leads_to_what_was_learned(company: Reader) -> None:
    text = (await company.http.get("/catalogue")).text
    assert '<a href="/metrics/orders/prior">learned</a>' in text
    assert '<a class="muted" href="/metrics/refund_rate/prior">not learned</a>' in text


async def test_the_prior_behind_a_belief_is_one_click_away(company: Reader) -> None:
    text = (await company.http.get("/experiments/scheduled")).text
    assert '<a href="/metrics/orders/prior">How it was learned</a>' in text


async def test_a_metric_that_nobody_defined_has_no_page(company: Reader) -> None:
    assert (await company.http.get("/metrics/nothing/prior")).status_code == 404


async def test_with_too_few_experiments_nothing_can_be_learned_and_the_page_says_how_many_are_missing(
    company: Reader,
) -> None:
    text = (await company.http.get("/metrics/refund_rate/prior")).text
    assert "of 8 experiments have ended" in text
    assert "Learn it now" not in text
    answer = await company.submit("/metrics/refund_rate/prior/analyses")
    assert answer.status_code == 409
    assert "too few to learn a prior from" in answer.text


async def test_learning_is_one_button_that_submits_an_analysis_once(newcomer: Reader) -> None:
    async with newcomer.database.write() as session:
        await define_metrics(session, at=START - timedelta(days=900))
        await remember(session, lifts(9), metric_key="orders", team="growth")
    page = await newcomer.http.get("/metrics/orders/prior")
    assert "Learn it now" in page.text
    for _ in range(2):
        answer = await newcomer.submit("/metrics/orders/prior/analyses")
        assert (answer.status_code, answer.headers["location"]) == (303, "/metrics/orders/prior")
    async with newcomer.database.read() as session:
        found = (await session.execute(sa.select(Analysis).where(col(Analysis.kind) == "prior"))).scalars().all()
    assert [(row.subject_key, row.state) for row in found] == [("orders", "queued")]
    assert "Waiting for a worker" in (await newcomer.http.get("/metrics/orders/prior")).text
    progress = await newcomer.http.get("/metrics/orders/prior/progress")
    assert "hx-refresh" not in progress.headers


async def test_who_may_only_read_cannot_make_it_learn(reader: Reader) -> None:
    assert "Learn it" not in (await reader.http.get("/metrics/orders/prior")).text
    assert (await reader.submit("/metrics/orders/prior/analyses")).status_code == 403
