"""Recording launches from the browser: what was typed becomes the definition, and faults stand beside their fields."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pages.launch_form import LaunchForm
from experiments import launch, series
from experiments.definitions import Confounder, Eligible, LaunchMeasurement, LaunchSpec, RolloutStep, SeriesSpec
from experiments.validation import parse
from tests.app.launch_documents import FIRST, launch_spec
from tests.app.pages.conftest import Reader, application, browsing
from tests.app.pages.test_pages import Structure

pytestmark = pytest.mark.anyio

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1, max_size=6)


def sent(form: LaunchForm) -> dict[str, str]:
    """The form as a browser sends it."""
    fields = dict(form.fields)
    for kind, rows in form.rows.items():
        for place, row in enumerate(rows):
            fields |= {f"{kind}-{place}-{name}": value for name, value in row.items()}
    return fields


def again(spec: LaunchSpec) -> LaunchSpec:
    """The definition after it was a form, sent, and read."""
    form = LaunchForm.read(sent(LaunchForm.of(spec, 3)))
    found = parse(LaunchSpec, form.document())
    assert form.faults == []
    assert form.expected == 3
    return found


def test_a_recorded_launch_goes_through_the_form_unchanged() -> None:
    plain = launch_spec()
    assert again(plain) == plain
    exact = FIRST + timedelta(seconds=12, microseconds=345_678)
    everything = launch_spec(
        rollout=[
            RolloutStep(at=exact, coverage=1 / 3, mechanism="random", segments=["Congo, Republic", 'the "west"', "DE"]),
            RolloutStep(at=exact + timedelta(days=3), coverage=0, mechanism="all_at_once"),
        ],
        eligible=Eligible(dimension="country", segments=["Congo, Republic", 'the "west"', "DE", "FR"]),
        announced_at=exact - timedelta(microseconds=1),
        confounders=[Confounder(name="Outage", description="Two hours", ended_at=exact, segments=["a, b"])],
        measurements=[
            LaunchMeasurement(series_key="revenue", controls=["other"], excluded_segments=["x,y"], level=0.9),
            LaunchMeasurement(series_key="signups", carry_over_periods=2, measure_for_days=7, history_days=90),
        ],
    )
    found = again(everything)
    assert found.rollout[0].coverage == pytest.approx(1 / 3, abs=1e-11)
    step = found.rollout[0].model_copy(update={"coverage": 1 / 3})
    assert found.model_copy(update={"rollout": [step, *found.rollout[1:]]}) == everything


@given(segments=st.lists(NAMES, min_size=1, max_size=4, unique=True))
@settings(max_examples=30, deadline=None)
def test_segments_of_any_name_stay_what_they_are(segments: list[str]) -> None:
    spec = launch_spec(
        rollout=[RolloutStep(at=FIRST, coverage=1, mechanism="random", segments=segments)], confounders=[]
    )
    assert again(spec).rollout[0].segments == segments


def test_a_time_that_was_changed_is_the_one_that_was_typed() -> None:
    form = LaunchForm.of(launch_spec(announced_at=None, confounders=[]), 1)
    form.rows["step"][0]["at"] = "2026-07-26T08:30"
    assert parse(LaunchSpec, form.document()).rollout[0].at.isoformat() == "2026-07-26T08:30:00+00:00"


def test_what_cannot_be_read_is_a_fault_of_its_field() -> None:
    form = LaunchForm.blank()
    form.fields |= {"key": "x", "name": "X", "announced_at": "yesterday"}
    form.rows["step"][0] |= {"at": "2026-07-27T00:00", "coverage": "half", "segments": "DE"}
    form.add("step")
    form.rows["step"][1] |= {"coverage": "50"}
    form.rows["measurement"][0] |= {"series_key": "revenue", "history_days": "a year", "level": "high"}
    form.document()
    assert {fault.pointer for fault in form.faults} == {
        "/announced_at",
        "/rollout/0/coverage",
        "/rollout/1/at",
        "/measurements/0/history_days",
        "/measurements/0/level",
    }
    assert "half" in form.error_at("/rollout/0/coverage")


def test_rows_are_added_and_taken_away() -> None:
    form = LaunchForm.blank()
    assert form.rearrange({"add": "step"})
    assert form.rearrange({"drop": "step-0"})
    assert form.rearrange({"add": "nothing", "drop": "step-99"})
    assert not form.rearrange({})
    assert len(form.rows["step"]) == 1


@pytest.fixture(scope="module")
async def desk(module_sqlite_url: str, redis_url: str) -> AsyncIterator[Reader]:
    """Signed in to write, where there is one series to measure launches on."""
    async with browsing(application(module_sqlite_url, redis_url)) as reader:
        async with reader.database.write() as session:
            spec = SeriesSpec(key="revenue", name="Revenue", dimension="country")
            await series.create(session, spec=spec, actor="ada", at=FIRST)
        assert (await reader.sign_in(reader.keys.write)).status_code == 303
        yield reader


def typed(key: str, **changes: str) -> dict[str, str]:
    """What somebody fills in to record a launch."""
    form = LaunchForm.blank()
    form.fields |= {"key": key, "name": "Next day"}
    form.rows["step"][0] |= {"at": "2026-07-27T00:00", "segments": "DE, FR"}
    form.rows["measurement"][0]["series_key"] = "revenue"
    return sent(form) | changes


async def test_a_launch_is_recorded_and_corrected_in_the_browser(desk: Reader) -> None:
    fields = typed("next-day")
    answer = await desk.submit("/launches/new", **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/launches/next-day")
    page = await desk.http.get("/launches/next-day/edit")
    assert 'value="DE, FR"' in page.text
    assert (await desk.submit("/launches/new", **fields)).status_code == 409

    changed = fields | {"version": "1", "step-0-coverage": "50", "owner": "Bo"}
    assert (await desk.submit("/launches/next-day/edit", **changed)).status_code == 303
    late = await desk.submit("/launches/next-day/edit", **(changed | {"step-0-coverage": "20"}))
    assert late.status_code == 412
    assert 'value="20"' in late.text
    async with desk.database.read() as session:
        spec = launch.spec_of(await launch.get(session, key="next-day"))
    assert (spec.rollout[0].coverage, spec.owner) == (0.5, "Bo")


async def test_faults_stand_beside_what_was_typed(desk: Reader) -> None:
    fields = typed("faulty", **{"step-0-coverage": "300", "measurement-0-regressors": "weather"})
    answer = await desk.submit("/launches/new", **fields)
    assert answer.status_code == 422
    assert 'id="step-0-coverage-error"' in answer.text
    assert 'value="300"' in answer.text
    answer = await desk.submit("/launches/new", **(fields | {"step-0-coverage": "30"}))
    assert answer.status_code == 422
    assert "there is no series <code>weather</code>" in answer.text
    assert 'id="measurement-0-regressors-error"' in answer.text
    page = Structure()
    page.feed(answer.text)
    assert (page.faults, page.open) == ([], [])
    assert set(page.references) <= set(page.ids)
    assert all(field.get("id") in page.labelled for field in page.fields)


async def test_a_row_more_or_less_is_a_button_that_records_nothing(desk: Reader) -> None:
    fields = typed("unfinished")
    more = await desk.submit("/launches/new", **fields, add="confounder")
    assert (more.status_code, more.text.count("confounder-0-name")) == (200, 3)
    less = await desk.submit("/launches/new", **fields, drop="step-0")
    assert "step-0-at" not in less.text
    assert (await desk.http.get("/launches/unfinished")).status_code == 404


async def test_the_enter_key_records_and_takes_no_row_away(desk: Reader) -> None:
    form = (await desk.http.get("/launches/new")).text.partition('<form class="stack"')[2]
    first = re.search(r"<button[^>]*>", form)
    assert first is not None
    assert "name=" not in first[0]


async def test_recording_needs_a_key_that_may_write_and_a_form_of_this_session(desk: Reader) -> None:
    assert (await desk.http.post("/launches/new", data={"csrf_token": "forged"})).status_code == 403
    assert (await desk.http.get("/launches/nothing/edit")).status_code == 404
    assert (await desk.submit("/launches/nothing/edit", **typed("nothing"))).status_code == 404
    await desk.sign_in(desk.keys.read)
    for path in ("/launches/new", "/launches/nothing/edit"):
        assert (await desk.http.get(path)).status_code == 403
        assert (await desk.submit(path)).status_code == 403
    await desk.sign_in(desk.keys.write)
