"""The pages of series: what is known, what was restated, and sending values from the browser."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape

import httpx
import numpy as np
import pytest

from app.pages.series_view import MOST_SEGMENTS, series_view
from experiments import api_key, launch, series
from experiments.definitions import LaunchMeasurement, LaunchSpec, RolloutStep, SeriesSpec
from experiments.series_table import SeriesTable
from tests.app.documents import START
from tests.app.pages.conftest import Reader, application, browsing
from tests.app.pages.test_pages import Structure
from tests.app.world import HOSTILE, NOW

pytestmark = pytest.mark.anyio

DAYS = [START + timedelta(days=day) for day in range(30)]
REVENUE = SeriesSpec(key="revenue", name="Revenue", dimension="country", unit="€", owner="Bo")


def csv(changes: dict[tuple[str, int], float] | None = None) -> str:
    """Thirty days of two countries; the last of NO is missing."""
    rows = ["segment,at,value"]
    for segment, level in (("NO", 100.0), ("SE", 300.0)):
        for place, at in enumerate(DAYS[: 29 if segment == "NO" else 30]):
            value = (changes or {}).get((segment, place), level + place)
            rows.append(f"{segment},{at.date()},{value}")
    return "\n".join(rows)


async def send(reader: Reader, key: str, content: str, *, batch: str, name: str = "values.csv") -> httpx.Response:
    fields = {"csrf_token": await reader.token(), "batch": batch}
    return await reader.http.post(f"/series/{key}/values", data=fields, files={"file": (name, content)})


@pytest.fixture(scope="module")
async def desk(module_database_url: str, redis_url: str) -> AsyncIterator[Reader]:
    """Signed in to write and to send data, where series of every kind are registered."""
    async with browsing(application(module_database_url, redis_url)) as reader:
        async with reader.database.write() as session:
            for spec in (
                REVENUE,
                SeriesSpec(key="signups", name="Sign-ups"),
                SeriesSpec(key="hostile", name=HOSTILE, description=HOSTILE, role="regressor", aggregation="mean"),
            ):
                await series.create(session, spec=spec, actor="ada", at=START)
            step = RolloutStep(at=START, coverage=1, mechanism="random", segments=["SE"])
            measured_on = [LaunchMeasurement(series_key="revenue")]
            spec_of_launch = LaunchSpec(key="wallet", name="Wallet", rollout=[step], measurements=measured_on)
            await launch.create(session, spec=spec_of_launch, actor="ada", at=START)
            both = await api_key.issue(session, name="both", scopes=["write", "ingest"], actor="ada", at=NOW)
        assert (await reader.sign_in(both[1])).status_code == 303
        assert (await send(reader, "revenue", csv(), batch="first")).status_code == 200
        yield reader


def test_segments_are_shown_by_size_and_say_what_is_missing() -> None:
    values = np.array([[1.0, 2.0, np.nan], [np.nan, 50.0, 60.0]])
    empty = np.full((2, 3), np.nan)
    view = series_view(REVENUE, SeriesTable(("NO", "SE"), tuple(DAYS[:3]), values, empty, empty, restated=4))
    assert [(line.name, line.last, line.last_at, line.missing, line.swatch) for line in view.segments] == [
        ("SE", 60.0, DAYS[2], 1, 1),
        ("NO", 2.0, DAYS[1], 1, 2),
    ]
    assert view.rows[0] == (DAYS[2], [60.0, None])
    assert view.restated == 4


def test_a_series_of_very_many_segments_says_how_many_it_does_not_show() -> None:
    many = MOST_SEGMENTS + 5
    values = np.ones((many, 2))
    table = SeriesTable(tuple(f"s{place}" for place in range(many)), tuple(DAYS[:2]), values, values, values)
    view = series_view(REVENUE, table)
    assert (len(view.segments), view.hidden_segments) == (MOST_SEGMENTS, 5)
    assert f"The 16 largest of {many}." in view.summary


def test_without_values_there_is_nothing_to_draw() -> None:
    view = series_view(REVENUE, SeriesTable.empty())
    assert (view.chart, view.segments, view.rows) == (None, [], [])


@pytest.mark.parametrize("path", ["/series", "/series/revenue", "/series/signups", "/series/hostile", "/series/new"])
async def test_every_page_of_series_is_well_formed_and_shows_no_code(desk: Reader, path: str) -> None:
    answer = await desk.http.get(path)
    assert answer.status_code == 200
    assert HOSTILE not in answer.text
    page = Structure()
    page.feed(answer.text)
    assert (page.faults, page.open) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert all(field.get("id") in page.labelled for field in page.fields)
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert all(table["caption"] and table["scoped"] for table in page.tables)


async def test_the_list_leads_to_series_and_counts_the_launches_measured_on_each(desk: Reader) -> None:
    text = (await desk.http.get("/series")).text
    line = re.search(r'<a href="/series/revenue">.*?</tr>', text, re.DOTALL)
    assert line is not None
    assert '<td class="num">1</td>' in line[0]
    assert "none yet" in text


async def test_a_page_has_the_newest_values_of_each_segment(desk: Reader) -> None:
    text = unescape((await desk.http.get("/series/revenue")).text)
    assert "329.0" in text
    assert '<a href="/launches/wallet?series=revenue">Wallet</a>' in text
    assert "2 segments, over 30 periods" in text


async def test_restated_values_are_shown_and_what_was_known_before_can_be_seen(desk: Reader) -> None:
    answer = await send(desk, "revenue", csv({("SE", 3): 999.0}), batch="second")
    assert answer.status_code == 200
    assert "0 new, 1 restated, 58 known already" in unescape(answer.text)
    text = (await desk.http.get("/series/revenue")).text
    assert "999.0" in text
    assert "303.0" in text
    before = (await desk.http.get("/series/revenue", params={"known_at": "2026-01-01"})).text
    assert "Nothing was known then" in before
    assert (await desk.http.get("/series/revenue", params={"known_at": "soon"})).status_code == 422


async def test_the_same_form_sent_twice_counts_once(desk: Reader) -> None:
    again = await send(desk, "revenue", csv(), batch="first")
    assert again.status_code == 200
    other = await send(desk, "revenue", csv({("NO", 1): 5.0}), batch="first")
    assert other.status_code == 409


async def test_bad_rows_are_listed_and_nothing_is_stored(desk: Reader) -> None:
    answer = await send(desk, "signups", "at,value\n2026-09-07,1\nnever,2", batch="bad")
    assert answer.status_code == 422
    assert "nothing was stored" in answer.text
    assert "No values yet" in answer.text
    nothing = await desk.submit("/series/signups/values")
    assert nothing.status_code == 422
    assert "No file was chosen" in nothing.text


async def test_a_series_is_registered_in_the_browser(desk: Reader) -> None:
    fields = {"key": "visits", "name": "Visits", "grain": "week", "dimension": "country"}
    answer = await desk.submit("/series/new", **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/series/visits")
    taken = await desk.submit("/series/new", **fields)
    assert taken.status_code == 409
    assert 'value="Visits"' in taken.text
    faulty = await desk.submit("/series/new", key="orders-by-day", name="Orders", source="facts")
    assert faulty.status_code == 422
    assert 'id="metric_key-error"' in faulty.text


async def test_what_nobody_registered_has_no_page(desk: Reader) -> None:
    assert (await desk.http.get("/series/nothing")).status_code == 404
    assert (await send(desk, "nothing", csv(), batch="lost")).status_code == 404


async def test_sending_and_registering_need_their_scopes_and_a_form_of_this_session(desk: Reader) -> None:
    await desk.sign_in(desk.keys.write)
    assert "Send values" not in (await desk.http.get("/series/revenue")).text
    assert (await send(desk, "revenue", csv(), batch="no")).status_code == 403
    assert (await desk.http.post("/series/new", data={"csrf_token": "forged"})).status_code == 403
    await desk.sign_in(desk.keys.read)
    assert (await desk.http.get("/series/revenue")).status_code == 200
    assert (await desk.http.get("/series/new")).status_code == 403
    assert (await desk.submit("/series/new", key="x", name="X")).status_code == 403
