"""The new-experiment form: what was typed becomes a definition, or comes back with faults beside the fields."""

import re

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.pages.experiment_form import ExperimentForm
from app.pages.experiment_options import DEFAULTS, options
from experiments.definitions import Estimation
from experiments.tables import Experiment
from tests.app.pages.conftest import Reader

pytestmark = pytest.mark.anyio

NOT_IN_THE_FORM = ("prior_mean", "rope", "srm_threshold", "seed")
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
        ({"key": "Not A Key"}, "key", "lower-case letters"),
        ({"name": ""}, "name", "must not be empty"),
        ({"variant-1-weight": "40"}, "variants", "the weights must sum to 1"),
        ({"variant-1-weight": "half"}, "variant-1-weight", "is not a percentage"),
        ({"control": ""}, "variants", "exactly one variant must have is_control"),
        ({"variant-1-key": "control"}, "variants", "every variant needs its own key"),
        ({"metric-2-margin": ""}, "metric-2-metric_key", "a guardrail needs"),
        ({"metric-0-mde": "-3"}, "metric-0-mde", "more than 0"),
        ({"planned_units": "many"}, "planned_units", "is not a whole number"),
        ({"planned_end_at": "soon"}, "planned_end_at", "is not a day"),
        ({"coverage": "0"}, "coverage", "more than 0"),
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


ADVANCED = {
    "segments": "country, platform, account",
    "purpose": "test",
    "decision_rule": "do_no_harm",
    "ci_level": "90",
    "power": "85",
    "sequential_method": "group_sequential",
    "spending": "power",
    "spending_parameter": "2,5",
    "futility": "non_binding",
    "look_every_days": "14",
    "correction": "bonferroni",
    "exploratory_correction": "benjamini_yekutieli",
    "cuped": "no",
    "screen_interactions": "no",
    "stratify_by": "country",
    "two_way_segments": "country × platform, platform * account",
    "cluster": "account",
    "trigger_source": "order",
}


async def test_advanced_options_become_part_of_the_plan(writer: Reader) -> None:
    answer = await writer.submit("/experiments/new", **{**GOOD, **ADVANCED})
    assert answer.status_code == 303, answer.text
    row = await stored(writer, "banner")
    assert row is not None
    chosen = row.spec["estimation"]
    assert chosen["sequential"] == {
        "method": "group_sequential",
        "spending": "power",
        "spending_parameter": 2.5,
        "futility": "non_binding",
        "look_every_days": 14,
    }
    assert (chosen["ci_level"], chosen["power"], chosen["cuped"], chosen["screen_interactions"]) == (
        0.9,
        0.85,
        False,
        False,
    )
    assert (chosen["correction"], chosen["exploratory_correction"], chosen["decision_rule"]) == (
        "bonferroni",
        "benjamini_yekutieli",
        "do_no_harm",
    )
    assert row.spec["two_way_segments"] == [["country", "platform"], ["platform", "account"]]
    assert (row.spec["cluster"], row.spec["trigger"]["fact_source"]) == ("account", "order")
    page = (await writer.http.get("/experiments/banner")).text
    assert "Power family spending with parameter 2.5, non-binding futility bound." in page
    assert "A unit counts from its first order after it was assigned." in page
    assert "account is what is randomised" in page


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"ci_level": "high"}, "ci_level", "is not a percentage"),
        ({"power": "20"}, "power", "more than 0.5"),
        ({"look_every_days": "2.5"}, "look_every_days", "is not a whole number"),
        ({"spending": "pocock"}, "sequential_method", "has no parameter"),
        ({"spending_parameter": "big"}, "spending_parameter", "is not a number"),
        ({"two_way_segments": "country"}, "two_way_segments", "is not a pair"),
        ({"two_way_segments": "country × moon"}, "two_way_segments", "two different ones"),
        ({"correction": "dunnett"}, "correction", "several treatments"),
        ({"stratify_by": "x" * 70}, "stratify_by", "at most 64"),
        ({"expected_loss": "little"}, "expected_loss", "is not a percentage"),
        ({"chance_to_win": "40"}, "chance_to_win", "more than 0.5"),
        ({"prior": "flat"}, "prior", "cannot be monitored"),
        ({"horizon_days": "a year"}, "horizon_days", "is not a number"),
    ],
)
async def test_a_fault_in_an_advanced_option_stands_beside_it_and_unfolds_the_section(
    company: Reader, changes: dict[str, str], place: str, words: str
) -> None:
    answer = await company.submit("/experiments/new", **{**GOOD, **ADVANCED, **changes})
    assert answer.status_code == 422
    fault = re.search(rf'class="error" id="{place}-error">([^<]*)<', answer.text)
    assert fault, f"no fault beside {place}"
    assert words in fault[1]
    assert '<details class="advanced" open>' in answer.text


async def test_what_is_believed_and_asked_of_beliefs_becomes_part_of_the_plan(writer: Reader) -> None:
    chosen = {
        "engine": "bayesian",
        "prior": "stated",
        "prior_family": "student_t4",
        "prior_scale": "3",
        "chance_to_win": "97,5",
        "expected_loss": "0.05",
        "guardrail_chance": "90",
        "rope": "0.5",
        "horizon_days": "180",
        "waiting_cost": "1",
    }
    assert (await writer.submit("/experiments/new", **{**GOOD, **chosen})).status_code == 303
    row = await stored(writer, "banner")
    assert row is not None
    estimation = row.spec["estimation"]
    assert (estimation["engine"], estimation["prior_scale"], estimation["rope"]) == ("bayesian", 0.03, 0.005)
    assert estimation["beliefs"] == {
        "prior": "stated",
        "family": "student_t4",
        "chance_to_win": 0.975,
        "expected_loss": 0.0005,
        "guardrail_chance": 0.9,
        "horizon_days": 180,
        "waiting_cost": 0.01,
    }
    text = (await writer.http.get("/experiments/banner")).text.replace("\u00a0", " ")
    for words in (
        "Both; beliefs lead, intervals stand beside them.",
        "Stated: effects of about ±3 %, with fat tails.",
        "With a chance to win of at least 97.5 %, an expected loss of at most 0.05 % of the North Star",
        "Effects within ±0.5 % are too small to matter.",
        "A shipped change is worth something for 180 days; each day of testing costs 1 %",
    ):
        assert words in text, words


def test_the_form_first_shows_what_a_plan_without_a_choice_has() -> None:
    assert options(DEFAULTS, lambda pointer, detail: None)["estimation"] == {
        name: value
        for name, value in Estimation().model_dump(mode="json", exclude_none=True).items()
        if name not in NOT_IN_THE_FORM and value != []
    } | {"sequential": {"method": "always_valid"}}


async def test_what_belongs_to_scheduled_looks_is_ignored_without_them(writer: Reader) -> None:
    answer = await writer.submit("/experiments/new", **{**GOOD, **ADVANCED, "sequential_method": "fixed"})
    assert answer.status_code == 303
    row = await stored(writer, "banner")
    assert row is not None
    assert row.spec["estimation"]["sequential"]["futility"] == "none"


async def test_the_blank_form_folds_its_advanced_options(company: Reader) -> None:
    assert '<details class="advanced"><summary>' in (await company.http.get("/experiments/new")).text


async def test_the_sample_size_follows_the_advanced_options_and_draws_its_curves(company: Reader) -> None:
    simple = {**GOOD, "sequential_method": "fixed", "cuped": "yes"}
    found = {}
    for method in ("fixed", "always_valid"):
        text = (await company.submit("/experiments/new/sample-size", **{**simple, "sequential_method": method})).text
        units = re.search(r'figure-value">([\d,]+) users', text)
        assert units
        found[method] = int(units[1].replace(",", ""))
        assert 'data-chart="sizing-power"' in text
    assert found["fixed"] < found["always_valid"]
