"""The new-experiment form: what was typed becomes a definition, or comes back with faults beside the fields."""

import re

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.pages.experiment_form import ExperimentForm
from experiments.tables import Experiment
from tests.app.pages.conftest import Reader

pytestmark = pytest.mark.anyio

GOOD = {
    "key": "banner",
    "name": "Banner",
    "hypothesis": "A banner helps.",
    "owner": "Ada",
    "team": "",
    "tags": "home, banner",
    "unit_type": "user",
    "data": "events",
    "north_star_key": "weekly_orders",
    "segments": "country",
    "coverage": "50",
    "planned_units": "40,000",
    "planned_end_at": "2026-12-31",
    "control": "0",
    "variant-0-key": "control",
    "variant-0-name": "No banner",
    "variant-0-weight": "50",
    "variant-1-key": "banner",
    "variant-1-name": "Banner",
    "variant-1-weight": "50",
    "variant-2-key": "",
    "variant-2-name": "",
    "variant-2-weight": "",
    "metric-0-metric_key": "orders",
    "metric-0-role": "primary",
    "metric-0-mde": "3",
    "metric-0-margin": "",
    "metric-1-metric_key": "",
    "metric-1-role": "secondary",
    "metric-1-mde": "",
    "metric-1-margin": "",
    "metric-2-metric_key": "refund_rate",
    "metric-2-role": "guardrail",
    "metric-2-mde": "",
    "metric-2-margin": "5",
}


async def stored(reader: Reader, key: str) -> Experiment | None:
    async with reader.database.read() as session:
        found: Experiment | None = await session.scalar(sa.select(Experiment).where(col(Experiment.key) == key))
        return found


async def test_a_complete_form_registers_a_draft(writer: Reader) -> None:
    answer = await writer.submit("/experiments/new", **GOOD)
    assert (answer.status_code, answer.headers.get("location")) == (303, "/experiments/banner")
    row = await stored(writer, "banner")
    assert row is not None
    assert row.status == "draft"
    assert row.spec["tags"] == ["home", "banner"]
    assert row.spec["planned_units"] == 40_000
    assert row.spec["coverage"] == 0.5
    assert [variant["weight"] for variant in row.spec["variants"]] == [0.5, 0.5]
    assert [(item["metric_key"], item["role"]) for item in row.spec["metrics"]] == [
        ("orders", "primary"),
        ("refund_rate", "guardrail"),
    ]
    assert "Start and freeze the plan?" in (await writer.http.get("/experiments/banner")).text


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"key": "Not A Key"}, "key", "pattern"),
        ({"name": ""}, "name", "at least 1 character"),
        ({"variant-1-weight": "40"}, "variants", "the weights must sum to 1"),
        ({"variant-1-weight": "half"}, "variant-1-weight", "is not a percentage"),
        ({"control": ""}, "variants", "exactly one variant must have is_control"),
        ({"variant-1-key": "control"}, "variants", "every variant needs its own key"),
        ({"metric-2-margin": ""}, "metric-2-metric_key", "a guardrail needs"),
        ({"metric-0-mde": "-3"}, "metric-0-mde", "greater than 0"),
        ({"planned_units": "many"}, "planned_units", "is not a whole number"),
        ({"planned_end_at": "soon"}, "planned_end_at", "is not a day"),
        ({"coverage": "0"}, "coverage", "greater than 0"),
        ({"north_star_key": "polaris"}, "north_star_key", "polaris"),
        ({"key": "checkout"}, "key", "is in use"),
    ],
)
async def test_a_fault_stands_beside_its_field_and_what_was_typed_is_kept(
    company: Reader, changes: dict[str, str], place: str, words: str
) -> None:
    answer = await company.submit("/experiments/new", **{**GOOD, **changes})
    assert answer.status_code in (409, 422)
    fault = re.search(rf'class="error" id="{place}-error">([^<]*)<', answer.text)
    assert fault, f"no fault beside {place}"
    assert words in fault[1]
    assert 'value="home, banner"' in answer.text
    assert "A banner helps." in answer.text
    if changes.get("key") != "checkout":
        assert await stored(company, changes.get("key", "banner")) is None


async def test_another_row_can_be_added_without_javascript_or_losing_anything(company: Reader) -> None:
    answer = await company.submit("/experiments/new", **GOOD, add="variant")
    assert answer.status_code == 200
    assert 'name="variant-3-key"' in answer.text
    assert 'value="No banner"' in answer.text
    assert 'role="alert"' not in answer.text


async def test_sample_size_and_duration_come_from_stored_baselines(company: Reader) -> None:
    token = await company.token()
    answer = await company.http.post(
        "/experiments/new/sample-size", data={**GOOD, "csrf_token": token}, headers={"HX-Request": "true"}
    )
    assert answer.status_code == 200
    assert "<html" not in answer.text
    units = re.search(r'figure-value">([\d,]+) users', answer.text)
    assert units
    assert 10_000 < int(units[1].replace(",", "")) < 1_000_000
    assert re.search(r"about <b>\d+ days</b>", answer.text)
    whole = await company.submit("/experiments/new/sample-size", **GOOD)
    assert "<html" in whole.text
    assert units[0] in whole.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit_type": "account"}, "There is no history of metrics per account"),
        ({"metric-0-mde": ""}, "its smallest effect"),
        ({"control": ""}, "Fill in variants"),
    ],
)
async def test_a_sample_size_that_cannot_be_said_says_what_is_missing(
    company: Reader, changes: dict[str, str], words: str
) -> None:
    answer = await company.submit("/experiments/new/sample-size", **{**GOOD, **changes})
    assert words in answer.text


def test_a_row_with_only_a_weight_is_a_fault_to_show_not_a_row_to_drop() -> None:
    form = ExperimentForm.read({"variant-0-key": "a", "variant-0-weight": "50", "variant-1-weight": "50"})
    assert [variant["weight"] for variant in form.document()["variants"]] == [0.5, 0.5]
