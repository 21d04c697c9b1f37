"""Growth reviews in a browser: the page, the form, the list, the report, and what home says of them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date

import pytest

from app.charts.ledger import waterfall
from app.charts.units import amount, step_for, with_interval
from app.pages import review_words
from app.pages.reports.blocks import Block, Picture
from app.pages.reports.growth_review import growth_review_report
from app.pages.reports.html import html
from app.pages.reports.pdf import pdf
from app.pages.review_form import last_quarter
from app.pages.review_view import review_view
from experiments.result import GrowthReviewResult
from tests.app.pages.conftest import Reader, application, browsing
from tests.app.review_documents import review_result, too_short
from tests.app.review_world import reviewed, spec_for
from tests.app.world import HOSTILE, NOW, define_metrics, define_north_star

pytestmark = pytest.mark.anyio


@pytest.fixture
async def star(newcomer: Reader) -> Reader:
    """Signed in to write, in a company that has a North Star and one review of it."""
    async with newcomer.database.write() as session:
        await define_metrics(session)
        await define_north_star(session)
        await reviewed(session, stagnating(), at=NOW)
    return newcomer


@pytest.fixture(scope="module")
async def reader(module_sqlite_url: str, redis_url: str) -> AsyncIterator[Reader]:
    """Signed in to write, in a company with a review that says everything and one that cannot say much."""
    async with browsing(application(module_sqlite_url, redis_url)) as opened:
        async with opened.database.write() as session:
            await define_metrics(session)
            await define_north_star(session)
            await reviewed(session, stagnating(), at=NOW, notes=HOSTILE)
            await reviewed(session, too_short().model_copy(update={"review_key": "too-short"}), at=NOW)
        await opened.sign_in(opened.keys.write)
        yield opened


def stagnating(units: float = 1234.0) -> GrowthReviewResult:
    document = review_result(units=units)
    alarm = document.stagnation.model_copy(
        update={"slope": -0.001, "slope_lower_80": -0.002, "slope_upper_80": -0.0004, "alarm": True, "chances": [0.97]}
    )
    numbers = {**document.headline, "observed": units + 90, "launches": units}
    return document.model_copy(update={"stagnation": alarm, "headline": numbers})


def one_picture(blocks: Sequence[Block]) -> list[Block]:
    first = next(block for block in blocks if isinstance(block, Picture))
    return [block for block in blocks if block is first or not isinstance(block, Picture)]


def test_amounts_have_as_many_digits_as_their_interval_allows() -> None:
    assert amount(1_262_526.8, step_for(1_091_000)) == "+1,260,000"
    assert amount(-0.04123, step_for(0.02)) == "−0.0412"
    assert amount(-1e-13, step_for(1e-12)) == "0"
    assert with_interval(307_213.0, 178_112.0, 453_001.0) == "+307k  (+178k to +453k)"
    assert with_interval(1_262_526.8, 740_114.0, 1_832_001.0) == "+1.26M  (+0.74M to +1.83M)"
    assert with_interval(None, None, None) == "not estimable"


def test_the_waterfall_ends_at_what_was_observed() -> None:
    ledger = review_result(units=1234.0).ledger
    rows = [row for values in waterfall(ledger)["datasets"].values() for row in values if "label" in row]
    steps, total = rows[:-1], rows[-1]
    assert [row["start"] for row in steps] == pytest.approx([0.0, *(row["end"] for row in steps[:-1])])
    assert steps[-1]["end"] == pytest.approx(total["end"])
    assert total["end"] == pytest.approx(ledger.observed_units)


def test_the_proposed_period_is_the_last_quarter_that_is_over() -> None:
    assert last_quarter(date(2026, 11, 22)) == (date(2026, 6, 29), date(2026, 9, 28), 3, 2026)
    assert last_quarter(date(2026, 1, 1)) == (date(2025, 9, 29), date(2025, 12, 29), 4, 2025)


def test_what_the_weeks_add_to_the_prior_of_kappa_is_said() -> None:
    assert "next to nothing" in review_words.contraction(0.97)
    assert "a little" in review_words.contraction(0.73)
    assert "say much" in review_words.contraction(0.3)


def test_an_alarm_and_what_cannot_be_estimated_are_said_in_words() -> None:
    assert review_words.alarm(stagnating().stagnation) is review_words.ALARM
    view = review_view(too_short(), name="Weekly orders", names={})
    assert view.waterfall is None
    assert "52 known weeks" in review_words.reason("series_too_short")
    assert "not estimable" in review_words.kappa_sentence(too_short().ledger)


def test_a_report_is_one_file_without_scripts_in_which_no_text_is_markup() -> None:
    document = stagnating()
    view = review_view(document, name="Weekly orders", names={})
    whole = growth_review_report(view, spec_for(document, notes=HOSTILE, next_bets='#panic("owned") $x$ \\'))
    report = replace(whole, blocks=one_picture(whole.blocks))  # each takes a while to draw
    page = html(report)
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<svg" in page
    assert not any(text in page for text in ('src="http', 'href="http', "@import"))
    typeset = pdf(report)
    assert typeset.startswith(b"%PDF-")
    assert typeset == pdf(report)


async def test_the_list_and_home_have_the_newest_numbers_with_intervals(star: Reader) -> None:
    text = (await star.http.get("/reviews")).text
    assert "+1,234" in text
    assert "+1,184 to +1,284" in text
    assert "The base has stopped growing" in text
    home = (await star.http.get("/")).text
    assert "the newest review" in home
    assert "The base has stopped growing" in home


async def test_a_review_shows_its_ledger_and_leads_to_drafts(reader: Reader) -> None:
    text = (await reader.http.get("/reviews/2026-q2")).text
    assert 'id="review-waterfall"' in text
    assert "accounts for" in text.lower()
    assert "caused" not in text
    assert HOSTILE not in text
    assert "/experiments/new?from=" in text
    assert 'href="#method-F6"' in text
    assert 'id="method-F6"' in text


async def test_a_review_that_cannot_be_reconciled_says_why(reader: Reader) -> None:
    text = (await reader.http.get("/reviews/too-short")).text
    assert "Not estimable" in text
    assert 'id="review-waterfall"' not in text


async def test_a_review_is_registered_from_the_form(reader: Reader) -> None:
    page = (await reader.http.get("/reviews/new")).text
    begins, _, quarter, year = last_quarter(NOW.date())
    assert f'value="{year}-q{quarter}"' in page
    assert f'value="{begins.isoformat()}"' in page
    fields = {"key": "q", "name": "Quarter", "north_star_key": "weekly_orders", "compare_with": "year_earlier"}
    fields |= {"engine": "collapsed", "begins_on": "2026-06-30", "ends_on": "2026-09-28"}
    refused = await reader.submit("/reviews/new", **fields)
    assert refused.status_code == 422
    assert "weeks begin on Mondays" in refused.text
    done = await reader.submit("/reviews/new", **(fields | {"begins_on": "2026-06-29"}))
    assert done.headers["location"] == "/reviews/q"
    text = (await reader.http.get("/reviews/q")).text
    assert "It cannot be made yet" in text
    refused = await reader.submit("/reviews/q/analyses")
    assert refused.status_code == 409
    assert (await reader.http.get("/reviews/q/report")).status_code == 404


async def test_two_people_do_not_write_over_each_other_s_notes(reader: Reader) -> None:
    spec = spec_for(too_short(), key="too-short", notes="Mine").model_dump(mode="json")
    fields = {name: str(value) for name, value in spec.items()}
    saved = await reader.submit("/reviews/too-short/edit", version="1", **fields)
    assert saved.status_code == 303
    late = await reader.submit("/reviews/too-short/edit", version="1", **(fields | {"notes": "Theirs"}))
    assert late.status_code == 412
    assert "Theirs" in late.text
    assert "Mine" in (await reader.http.get("/reviews/too-short")).text


async def test_readers_read_and_mail_but_change_nothing(reader: Reader) -> None:
    await reader.sign_in(reader.keys.read)
    text = (await reader.http.get("/reviews/too-short")).text
    assert "Analyse again" not in text
    assert "/edit" not in text
    assert (await reader.http.get("/reviews/new")).status_code == 403
    assert (await reader.submit("/reviews/too-short/analyses")).status_code == 403
    file = await reader.http.get("/reviews/too-short/report", params={"format": "html"})
    assert file.status_code == 200
    assert file.headers["content-disposition"] == 'attachment; filename="growth-review-too-short.html"'
    assert "sandbox" in file.headers["content-security-policy"]
    await reader.sign_in(reader.keys.write)


def test_every_method_of_a_review_is_said_in_words() -> None:
    assert all(said for _, said in review_words.method_list([*too_short().methods, "H4"]))
