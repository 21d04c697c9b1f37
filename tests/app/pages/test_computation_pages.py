"""How a result was computed and what the next one reads, as an experiment's page shows it."""

import pytest

from tests.app.pages.conftest import Reader
from tests.app.pages.test_data_page import well_formed

pytestmark = pytest.mark.anyio


async def test_the_statements_are_a_fold_of_the_experiments_page_and_a_page_of_their_own(company: Reader) -> None:
    page = (await company.http.get("/experiments/checkout")).text
    assert 'hx-get="/experiments/checkout/sql"' in page and 'href="/experiments/checkout/sql"' in page
    assert "DuckDB, in the worker" in page and 'hx-trigger="load"' in page
    text = well_formed(await company.http.get("/experiments/checkout/sql?dialect=spark&statement=moments"))
    assert "Make these tables first" in text or "The rows are elsewhere" in text
    assert 'data-copy="statement"' in text and "statement=moments" in text
    part = (await company.http.get("/experiments/checkout/sql", headers={"HX-Request": "true"})).text
    assert "<html" not in part and "-- Experiment checkout, plan " in part
    assert (await company.http.get("/experiments/checkout/sql?dialect=mysql")).status_code == 422
    assert (await company.http.get("/experiments/none/sql")).status_code == 404


async def test_what_would_be_read_is_known_before_and_otherwise_why_not(company: Reader) -> None:
    text = well_formed(await company.http.get("/experiments/checkout/cost"))
    assert "at most <b>0</b> rows" in text
    part = (await company.http.get("/experiments/checkout/cost", headers={"HX-Request": "true"})).text
    assert "<html" not in part and "By source" in part
    # A draft has a price and no statement.
    assert "28 days ago" in (await company.http.get("/experiments/hostile/cost")).text
    assert "There is no statement" in (await company.http.get("/experiments/hostile/sql")).text
    assert 'href="/experiments/hostile/cost"' in (await company.http.get("/experiments/hostile")).text
