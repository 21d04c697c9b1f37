"""The plan of a growth review: weeks of the company, who had which launch when, what was measured, what was decided."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import (
    decision,
    experiment,
    growth_review,
    ingest_batch,
    launch,
    lifecycle,
    north_star,
    overview,
    refresh,
    review_plan,
    series_table,
)
from experiments.database import Database
from experiments.definitions import DecisionSpec, ExperimentSpec, NorthStarSpec, ReviewSpec, SeriesSpec
from experiments.errors import InvalidDefinition, NotReady
from experiments.launch_effects import KIND as LAUNCH
from experiments.plan import ReviewPlan, document, load
from experiments.review_launches import sizes_in
from experiments.series_table import SeriesTable
from experiments.tables import Experiment, GrowthReview, LaunchEffect, Result, Series, SeriesValue
from experiments.weekly_values import by_week, pushed_weeks
from tests.experiments.launches import DAY, define_metrics, define_series, record_launch
from tests.experiments.programmes import analyse
from tests.workers.shop import EXPERIMENT, NORTH_STAR

pytestmark = pytest.mark.anyio

MONDAY = datetime(2025, 1, 6, tzinfo=UTC)
WEEK = timedelta(weeks=1)
WEEKS = 84
END = MONDAY + WEEKS * WEEK
SPEC: dict[str, Any] = {
    "key": "spring",
    "name": "Spring",
    "north_star_key": "orders",
    "begins_on": (END - 13 * WEEK).date(),
    "ends_on": END.date(),
    "notes": "A good one.",
}


async def push_weeks(session: AsyncSession, row: Series, values: list[float | None]) -> None:
    """One value a week from the first Monday on, known a day after the week has ended."""
    batch = await ingest_batch.record(
        session,
        stream="series",
        batch_id=f"history of {row.key}",
        digest="",
        path="",
        accepted=len(values),
        rejected=0,
        errors=[],
        subjects=[row.key],
        first_at=MONDAY,
        last_at=MONDAY + len(values) * WEEK,
        actor="tests",
        at=MONDAY,
    )
    for i, value in enumerate(values):
        at = MONDAY + i * WEEK
        session.add(
            SeriesValue(series_id=row.id, segment="", at=at, value=value, known_at=at + WEEK + DAY, batch_id=batch.id)
        )
    await session.flush()


async def company(session: AsyncSession) -> tuple[GrowthReview, Experiment]:
    """Eighty-four weeks of orders, weather with a gap, an experiment in weeks 50 and 51 that shipped in week 53."""
    await define_metrics(session)
    orders = await define_series(session, "orders-by-week", grain="week", unit="orders")
    weather = await define_series(session, "weather", grain="week", role="regressor")
    await push_weeks(session, orders, [1000.0 + i for i in range(WEEKS)])
    await push_weeks(session, weather, [None if 10 <= i < 14 else float(i % 5) for i in range(WEEKS)])
    star = {
        **NORTH_STAR,
        "series_key": "orders-by-week",
        "influences": [{"series_key": "weather", "rationale": "Nobody launches the weather"}],
    }
    await north_star.create(session, spec=NorthStarSpec.model_validate(star), actor="tests", at=MONDAY)
    spec = ExperimentSpec.model_validate({**EXPERIMENT, "coverage": 0.4, "data": "summary"})
    row = await experiment.create(session, spec=spec, actor="tests", at=MONDAY)
    await lifecycle.start(session, experiment=row, actor="tests", at=END, effective_at=MONDAY + 50 * WEEK)
    await lifecycle.stop(session, experiment=row, actor="tests", at=END, effective_at=MONDAY + 52 * WEEK)
    ship = DecisionSpec(
        outcome="ship", shipped_variant="treatment", reason="It won", learnings="Less is more", override_reason=None
    )
    await decision.decide(
        session,
        experiment=row,
        spec=ship,
        actor="tests",
        at=END,
        decided_at=MONDAY + 53.5 * WEEK,
        launch_key="one-page",
    )
    review = await growth_review.create(session, spec=ReviewSpec.model_validate(SPEC), actor="tests", at=END)
    return review, row


async def plan_of(database: Database, *, at: datetime = END + 2 * DAY) -> ReviewPlan:
    async with database.read() as session:
        return await review_plan.review_plan(session, await growth_review.get(session, key="spring"), at=at)


async def test_a_plan_holds_everything_with_its_numbers(database: Database) -> None:
    async with database.write() as session:
        await company(session)
    plan = await plan_of(database)
    assert load(document(plan)) == plan
    assert (plan.weeks[0], plan.weeks[-1], len(plan.weeks)) == (MONDAY, END - WEEK, WEEKS)
    assert plan.values == [1000.0 + i for i in range(WEEKS)] and plan.unit == "orders"
    assert plan.influences[0].values[9:15] == [4.0, None, None, None, None, 4.0]
    assert plan.inputs["active_users"] == [None] * WEEKS, "nobody has counted facts yet"
    assert plan.review.notes == "" and plan.north_star.spec.key == "orders"
    shipped = plan.launches[0]
    assert (shipped.launch_key, shipped.evidence_grade, shipped.experiment_key) == ("one-page", "U", None)
    expected = [0.0] * 50 + [0.2, 0.2, 0.0, 0.5] + [1.0] * (WEEKS - 54)
    assert shipped.coverage == pytest.approx(expected, abs=1e-12), "exposed by the experiment, then launched"
    assert [each.name for each in plan.sources][:2] == ["series orders-by-week", "series weather"]
    assert (plan.programme.started, plan.previous, plan.running) == (1, None, [])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_its_experiment_measured_speaks_for_a_launch_before_any_series(database: Database) -> None:
    async with database.write() as session:
        _, row = await company(session)
        await analyse(session, row, 0.02, at=END)
    plan = await plan_of(database)
    effect, shipped = plan.programme.effects[0], plan.launches[0]
    assert (shipped.experiment_key, shipped.analysis_id) == ("checkout", effect.analysis_id)
    assert (shipped.evidence_grade, shipped.log_effect) == (effect.evidence_grade, None)
    assert effect.variant_key == "treatment" and effect.shipped
    async with database.write() as session:
        launched = await launch.get(session, key="one-page")
        spec = launch.spec_of(launched).model_copy(update={"shipped_variant": "control"})
        await launch.update(session, launch=launched, spec=spec, expected=None, actor="tests", at=END + DAY)
    assert (await plan_of(database)).launches[0].evidence_grade == "U", "another variant than the one that was measured"


async def test_only_what_was_known_then_is_in_a_plan(database: Database) -> None:
    async with database.write() as session:
        await company(session)
    earlier = await plan_of(database, at=MONDAY + 60 * WEEK + 1.5 * DAY)
    assert (earlier.weeks[-1], len(earlier.values)) == (MONDAY + 59 * WEEK, 60)
    with pytest.raises(NotReady, match="no week before"):
        await plan_of(database, at=MONDAY + DAY)


async def test_a_launch_without_an_experiment_has_what_its_series_say(database: Database) -> None:
    async with database.write() as session:
        await company(session)
        step = {"at": MONDAY + 60 * WEEK, "coverage": 0.5, "mechanism": "all_at_once"}
        await record_launch(session, key="blind", rollout=[step], measurements=[])
        await record_launch(session, key="seen", rollout=[{**step, "coverage": 1}], measurements=[])
        result = Result(kind=LAUNCH, subject_key="seen", data_as_of=END, body=b"{}", etag="e", created_at=END)
        session.add(result)
        await session.flush()
        common: dict[str, Any] = dict.fromkeys(set(LaunchEffect.model_fields) - {"id"}) | {
            "result_id": result.id,
            "launch_key": "seen",
            "metric_key": "orders",
            "method": "bsts",
            "evidence_grade": "C",
            "ci_level": 0.95,
            "interval_kind": "posterior",
            "periods_before": 60,
            "periods_after": 10,
        }
        for series, leads, error in (("precise", True, 0.01), ("rough", True, 0.05), ("beside", False, 0.001)):
            numbers = {"log_effect": 0.03, "standard_error": error, "bias_sd": 0.02}
            session.add(LaunchEffect(**common | numbers | {"series_key": series, "leads": leads, "estimable": True}))
    by_key = {each.launch_key: each for each in (await plan_of(database)).launches}
    seen, blind = by_key["seen"], by_key["blind"]
    assert (seen.evidence_grade, seen.log_effect, seen.standard_error, seen.bias_sd) == ("C", 0.03, 0.01, 0.02)
    assert (blind.evidence_grade, blind.log_effect, blind.coverage[-1]) == ("U", None, 0.5)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_launch_about_another_north_star_is_in_no_ledger_of_this_one(database: Database) -> None:
    async with database.write() as session:
        await company(session)
        other = {**NORTH_STAR, "key": "another", "name": "Another"}
        await north_star.create(session, spec=NorthStarSpec.model_validate(other), actor="tests", at=MONDAY)
        steps = [{"at": MONDAY + 60 * WEEK, "coverage": 1, "mechanism": "all_at_once"}]
        for key, about in (("ours", "orders"), ("theirs", "another"), ("anybodys", None)):
            await record_launch(session, key=key, rollout=steps, measurements=[], north_star_key=about)
        with pytest.raises(InvalidDefinition, match="no North Star `nowhere`"):
            await record_launch(session, key="lost", rollout=steps, measurements=[], north_star_key="nowhere")
    keys = [each.launch_key for each in (await plan_of(database)).launches]
    assert keys == ["one-page", "anybodys", "ours"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_review_is_due_when_its_period_has_ended_then_weekly_and_when_there_is_news(database: Database) -> None:
    async with database.write() as session:
        await company(session)

    async def asked(at: datetime) -> int:
        async with database.read() as session:
            wanted = [each for each in await refresh.due(session, at=at, every=DAY) if each.kind == "growth_review"]
        for each in wanted:
            async with database.write() as session:
                await refresh.submit_due(session, each, at=at, max_attempts=5)
        return len(wanted)

    assert await asked(END - DAY) == 0, "its weeks are not over"
    assert await asked(END + DAY) == 1
    assert await asked(END + 2 * DAY) == 0, "nothing has happened"
    async with database.write() as session:
        row = await launch.get(session, key="one-page")
        spec = launch.spec_of(row).model_copy(update={"description": "Corrected"})
        await launch.update(session, launch=row, spec=spec, expected=None, actor="tests", at=END + 2.5 * DAY)
    assert await asked(END + 3 * DAY) == 1, "a launch was corrected"
    assert await asked(END + 4 * DAY) == 0
    assert await asked(END + 10 * DAY) == 1, "a week has passed"
    assert await asked(END + 92 * DAY) == 0, "a quarter later only on request"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_pushed_weeks_are_drawn_like_counted_ones_with_the_launches_about_them(database: Database) -> None:
    async with database.write() as session:
        await company(session)
        other = {**NORTH_STAR, "key": "another", "name": "Another"}
        await north_star.create(session, spec=NorthStarSpec.model_validate(other), actor="tests", at=MONDAY)
        steps = [{"at": MONDAY + 60 * WEEK, "coverage": 1, "mechanism": "all_at_once"}]
        await record_launch(session, key="theirs", rollout=steps, measurements=[], north_star_key="another")
    async with database.read() as session:
        home = await overview.home(session, key="orders")
        assert home.chosen is not None
        found = await pushed_weeks(session, home.chosen, at=END + 2 * DAY)
        assert [row.key for row in home.launches] == ["one-page"]
        counted = await north_star.get(session, key="another")
        assert await pushed_weeks(session, counted, at=END) is None
    assert found is not None and len(found.points) == WEEKS
    assert (found.points[0].value, found.points[-1].value, found.points[-1].complete) == (1000.0, 999.0 + WEEKS, True)


def table(values: list[list[float]], first: datetime) -> SeriesTable:
    numbers = np.array(values)
    periods = series_table.periods_between(first, first + (numbers.shape[1] - 1) * DAY, "day")
    unknown = np.full_like(numbers, np.nan)
    return SeriesTable(tuple(f"s{i}" for i in range(len(values))), periods, numbers, unknown, unknown)


def test_days_make_whole_weeks_and_an_unknown_day_makes_a_week_unknown() -> None:
    total = SeriesSpec.model_validate({"key": "s", "name": "S"})
    mean = SeriesSpec.model_validate({"key": "s", "name": "S", "aggregation": "mean"})
    wednesday = MONDAY + 2 * DAY
    days = [float(i) for i in range(30)]
    assert by_week(table([days], wednesday), total) == {
        MONDAY + (1 + i) * WEEK: float(sum(days[5 + 7 * i : 12 + 7 * i])) for i in range(3)
    }
    assert by_week(table([days], wednesday), mean) == {
        MONDAY + (1 + i) * WEEK: sum(days[5 + 7 * i : 12 + 7 * i]) / 7 for i in range(3)
    }
    gap = [*days[:15], np.nan, *days[16:]]
    assert list(by_week(table([gap], wednesday), total)) == [MONDAY + WEEK, MONDAY + 3 * WEEK]
    new = [np.nan] * 19 + [100.0] * 11
    assert by_week(table([days, new], wednesday), total)[MONDAY + 3 * WEEK] == sum(days[19:26]) + 700
    assert by_week(SeriesTable.empty(), total) == {}


def test_segments_are_as_large_as_their_series_unless_that_is_no_size() -> None:
    assert sizes_in(table([[2.0, 4.0], [np.nan, 1.0], [np.nan, np.nan]], MONDAY)) == {"s0": 3.0, "s1": 1.0}
    for nothing in ([[0.0, 0.0], [0.0, 0.0]], [[5.0, 5.0], [-6.0, 0.0]], [[np.nan], [np.nan]]):
        assert sizes_in(table(nothing, MONDAY)) == {}


def test_means_of_segments_weigh_by_how_many_units_they_are_of_where_all_say_so() -> None:
    mean = SeriesSpec.model_validate({"key": "s", "name": "S", "aggregation": "mean"})
    known = table([[2.0] * 14, [np.nan] * 7 + [8.0] * 7], MONDAY)
    sizes = np.array([[90.0] * 7 + [150.0] * 7, [np.nan] * 7 + [50.0] * 7])
    sized = SeriesTable(known.segments, known.periods, known.values, sizes, known.variance)
    assert by_week(sized, mean) == {MONDAY: 2.0, MONDAY + WEEK: (150 * 2.0 + 50 * 8.0) / 200}
    assert by_week(known, mean) == {MONDAY: 2.0, MONDAY + WEEK: 5.0}
    sizes[0, 3] = np.nan
    assert by_week(sized, mean) == {MONDAY: 2.0, MONDAY + WEEK: 5.0}, "one of them does not say"
    sizes[0] = [90.0] * 3 + [10.0] * 4 + [0.0] * 7
    assert by_week(sized, mean) == {MONDAY: 2.0, MONDAY + WEEK: 8.0}


def test_a_period_is_held_against_a_year_or_as_many_weeks_before() -> None:
    spec = ReviewSpec.model_validate(SPEC)
    assert spec.lag_weeks == 52
    assert ReviewSpec.model_validate({**SPEC, "compare_with": "previous_period"}).lag_weeks == 13
    assert growth_review.midnight(date(2026, 5, 11)) == datetime(2026, 5, 11, tzinfo=UTC)
