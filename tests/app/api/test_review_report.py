"""/v1/growth-reviews/{key}/report: a review as a file to mail."""

from datetime import timedelta

import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, pointers
from tests.app.review_documents import too_short
from tests.app.review_world import reviewed

pytestmark = pytest.mark.anyio

PATH = "/v1/growth-reviews/2026-q2/report"


async def test_a_review_is_mailed_as_html_or_pdf_and_only_what_is_there(shop: Service) -> None:
    async with shop.database.write() as session:
        document = too_short().model_copy(update={"north_star_key": examples.NORTH_STAR["key"]})
        await reviewed(session, document, at=shop.clock() - timedelta(days=1), notes="Rain <b>helped</b>.")
    page = await shop.read.get(PATH)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Rain &lt;b&gt;helped&lt;/b&gt;." in page.text
    file = await shop.read.get(PATH, params={"format": "pdf"})
    assert file.headers["content-type"] == "application/pdf"
    assert file.content.startswith(b"%PDF-")
    assert 'filename="growth-review-2026-q2.pdf"' in file.headers["content-disposition"]
    refused = await shop.read.get(PATH, params={"format": "docx"})
    assert_problem(refused, "invalid-definition", 422)
    assert pointers(refused.json()) == ["/query/format"]
    assert_problem(await shop.anonymous.get(PATH), "unauthenticated", 401)
    assert_problem(await shop.ingest.get(PATH), "forbidden", 403)


async def test_a_review_that_was_never_made_has_no_report(shop: Service) -> None:
    await created(shop.write, "/v1/growth-reviews", examples.GROWTH_REVIEW)
    answer = await shop.read.get(f"/v1/growth-reviews/{examples.GROWTH_REVIEW['key']}/report")
    assert_problem(answer, "not-found", 404)
    assert "analyses" in answer.json()["remedy"]
