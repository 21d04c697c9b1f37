"""The pages of holdouts: registering, correcting, releasing, and what was realised."""

from datetime import timedelta

import pytest

from experiments import experiment
from experiments.definitions import ExperimentSpec
from experiments.plan import document
from tests.app import programme_documents as documents
from tests.app.documents import START
from tests.app.pages.conftest import Reader
from tests.app.world import NOW, define_metrics, store

pytestmark = pytest.mark.anyio

SPEC = {
    "key": "held", "name": "Kept back", "data": "summary", "purpose": "holdout",
    "metrics": [{"metric_key": "orders", "role": "primary"}],
    "variants": [{"key": "control", "weight": 0.05, "is_control": True}, {"key": "new", "weight": 0.95}],
}  # fmt: skip
FIELDS = {
    "key": "autumn",
    "name": "Held back in autumn",
    "experiment_key": "held",
    "metric_key": "orders",
    "started_at": (NOW - timedelta(days=20)).strftime("%Y-%m-%dT%H:%M"),
    "owner": "Ada",
}


async def with_experiment(reader: Reader) -> None:
    async with reader.database.write() as session:
        await define_metrics(session)
        await experiment.create(session, spec=ExperimentSpec.model_validate(SPEC), actor="ada", at=START)


async def test_a_holdout_is_registered_corrected_and_released_by_one_writer_at_a_time(newcomer: Reader) -> None:
    assert "Nobody is held out" in (await newcomer.http.get("/holdouts")).text
    assert "There is no experiment that may measure it yet" in (await newcomer.http.get("/holdouts/new")).text
    await with_experiment(newcomer)
    form = (await newcomer.http.get("/holdouts/new")).text
    assert '<option value="held">Kept back</option>' in form
    answer = await newcomer.submit("/holdouts/new", **FIELDS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/holdouts/autumn"), answer.text
    page = (await newcomer.http.get("/holdouts/autumn")).text
    assert "Not in a programme yet" in page and "Release now" in page and "20 days" in page
    listed = (await newcomer.http.get("/holdouts")).text
    assert 'href="/holdouts/autumn"' in listed and "not in a programme yet" in listed
    assert '<a href="/programme" aria-current="page">Programme</a>' in listed
    edit = (await newcomer.http.get("/holdouts/autumn/edit")).text
    assert 'name="version" value="1"' in edit
    changed = await newcomer.submit(
        "/holdouts/autumn/edit", **FIELDS | {"version": "1", "description": "One in twenty"}
    )
    assert changed.status_code == 303
    late = await newcomer.submit("/holdouts/autumn/edit", **FIELDS | {"version": "1", "name": "Another"})
    assert late.status_code == 412
    assert (await newcomer.submit("/holdouts/autumn/release", version="1")).status_code == 412
    assert (await newcomer.submit("/holdouts/autumn/release", version="2")).status_code == 303
    released = (await newcomer.http.get("/holdouts/autumn")).text
    assert "Release now" not in released and "One in twenty" in released


async def test_what_cannot_be_meant_is_said_beside_its_field_and_what_was_typed_stays(newcomer: Reader) -> None:
    await with_experiment(newcomer)
    for changes, said in (
        ({"started_at": "yesterday"}, "“yesterday” is not a time"),
        ({"released_at": "soon"}, "“soon” is not a time"),
        ({"released_at": "2020-01-01T00:00"}, "must be later than started_at"),
        ({"experiment_key": "nothing"}, "there is no experiment"),
        ({"metric_key": "refund_rate"}, "does not measure"),
        ({"launch_keys": "first, second"}, "there is no launch"),
        ({"key": "Not A Key"}, 'id="key-error"'),
    ):
        answer = await newcomer.submit("/holdouts/new", **FIELDS | changes)
        assert answer.status_code == 422, changes
        assert said in answer.text, changes
        assert 'value="Held back in autumn"' in answer.text
    assert "Nobody is held out" in (await newcomer.http.get("/holdouts")).text
    assert (await newcomer.http.get("/holdouts/nothing")).status_code == 404
    assert (await newcomer.submit("/holdouts/nothing/release", version="1")).status_code == 404


async def test_what_was_realised_stands_against_what_was_claimed_with_its_hygiene(newcomer: Reader) -> None:
    await with_experiment(newcomer)
    assert (await newcomer.submit("/holdouts/new", **FIELDS)).status_code == 303
    numbers = {"kappa": 0.232, "kappa_lower": -0.104, "kappa_upper": 0.62}
    held = documents.programme().holdouts[0].model_copy(update={"holdout_key": "autumn", **numbers})
    body = documents.about("orders", holdouts=[held])
    asked = documents.plan().model_copy(update={"metric_key": "orders"})
    async with newcomer.database.write() as session:
        await store(session, "programme", "orders", document(asked), body, START + timedelta(days=30))
    page = (await newcomer.http.get("/holdouts/autumn")).text.replace("\u00a0", " ")
    assert "23 % of what was claimed came true (95 % interval: −10 % to 62 %)" in page
    assert 'data-chart="holdout"' in page and "<b>Precision.</b>" in page and 'id="method-F3"' in page
    listed = (await newcomer.http.get("/holdouts")).text.replace("\u00a0", " ")
    assert "23 %" in listed and "−10 % to 62 %" in listed and "Warning" in listed


async def test_who_may_only_read_sees_holdouts_and_cannot_change_them(visitor: Reader) -> None:
    await visitor.sign_in(visitor.keys.read)
    assert "Register a holdout" not in (await visitor.http.get("/holdouts")).text
    assert (await visitor.http.get("/holdouts/new")).status_code == 403
    assert (await visitor.submit("/holdouts/new", **FIELDS)).status_code == 403
