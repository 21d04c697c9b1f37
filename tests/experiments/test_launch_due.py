"""Launches are measured again when there is news about them, and left alone when there is none."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from experiments import launch, refresh
from experiments.database import Database
from experiments.definitions import LaunchSpec
from experiments.tables import Launch, Series
from tests.experiments.launches import BEGUN, DAY, define_metrics, define_series, push, record_launch
from tests.experiments.past import remember, report

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def asked(database: Database, at: datetime) -> int:
    """How many launches the schedule has measured at a time (0 or 1), having asked for them."""
    async with database.read() as session:
        wanted = [each for each in await refresh.due(session, at=at, every=HOUR) if each.kind == "launch"]
    for each in wanted:
        assert each.subject_key == "same-day" and each.plan_document["kind"] == "launch"
        async with database.write() as session:
            await refresh.submit_due(session, each, at=at, max_attempts=5)
    return len(wanted)


async def prepared(database: Database, **fields: Any) -> tuple[Launch, Series]:
    async with database.write() as session:
        await define_metrics(session)
        series = await define_series(session, "orders", **fields)
        return await record_launch(session), series


async def pushed(
    database: Database, series: Series, *days: datetime, at: datetime, unchanged: Sequence[datetime] = ()
) -> None:
    async with database.write() as session:
        await push(session, series, days, at=at, unchanged=unchanged)


async def test_pushed_values_make_a_launch_due_once_and_only_if_its_measurement_can_see_them(
    database: Database,
) -> None:
    launched, orders = await prepared(database)
    async with database.write() as session:
        other = await define_series(session, "other")
    assert await asked(database, BEGUN) == 0, "nothing has shipped yet"
    assert await asked(database, BEGUN + HOUR) == 1
    assert await asked(database, BEGUN + 5 * DAY) == 0, "no value has arrived since"
    await pushed(database, orders, BEGUN + 4 * DAY, at=BEGUN + 5 * DAY + HOUR / 2)
    await pushed(database, other, BEGUN + 4 * DAY, at=BEGUN + 5 * DAY + 3 * HOUR)
    assert await asked(database, BEGUN + 5 * DAY + HOUR) == 1
    assert await asked(database, BEGUN + 5 * DAY + 1.5 * HOUR) == 0, "once per period of the schedule"
    assert await asked(database, BEGUN + 5 * DAY + 4 * HOUR) == 0, "the other series is not its own"
    await pushed(database, orders, BEGUN - 30 * DAY, at=BEGUN + 6 * DAY)
    assert await asked(database, BEGUN + 6 * DAY + HOUR) == 1, "history was restated"

    await pushed(database, orders, BEGUN + 8 * DAY, at=BEGUN + 8 * DAY + HOUR / 2)
    assert await asked(database, BEGUN + 8 * DAY + HOUR) == 0, "the period was not over when its value was sent"
    await pushed(database, orders, BEGUN + 8 * DAY, at=BEGUN + 9 * DAY)
    assert await asked(database, BEGUN + 9 * DAY) == 1

    closed = BEGUN + 29 * DAY  # 28 days of measuring, and the day in which they end
    assert await asked(database, closed - HOUR) == 0
    assert await asked(database, closed) == 1, "once more when the last period is over"
    await pushed(database, orders, closed + DAY, at=closed + 2 * DAY, unchanged=[BEGUN + 9 * DAY])
    assert await asked(database, closed + 3 * DAY) == 0, "what comes after is not about the launch"
    await pushed(database, orders, BEGUN + 20 * DAY, at=closed + 4 * DAY)
    assert await asked(database, closed + 5 * DAY) == 1, "what is restated is"

    spec = LaunchSpec.model_validate({**launched.spec, "confounders": [{"name": "A strike"}]})
    async with database.write() as session:
        row = await launch.get(session, key=launched.key)
        await launch.update(session, launch=row, spec=spec, expected=None, actor="tests", at=closed + 6 * DAY)
    assert await asked(database, closed + 6 * DAY + HOUR) == 1, "the record has changed"
    assert await asked(database, closed + 60 * DAY) == 0


async def test_facts_make_a_launch_due_every_day_until_its_last_period_is_over(database: Database) -> None:
    await prepared(database, source="facts", metric_key="orders")
    assert await asked(database, BEGUN + HOUR) == 1
    assert await asked(database, BEGUN + 23 * HOUR) == 0
    assert [await asked(database, BEGUN + day * DAY + HOUR) for day in range(1, 4)] == [1, 1, 1]
    assert [await asked(database, BEGUN + day * DAY) for day in (28, 29, 30, 400)] == [1, 1, 0, 0]


async def test_a_newer_result_of_its_experiment_makes_a_launch_due(database: Database) -> None:
    async with database.write() as session:
        tested, _ = await remember(session, [0.03, 0.01])
        await define_series(session, "orders")
        (await record_launch(session)).experiment_id = tested.id
    assert [await asked(database, BEGUN + hours * HOUR) for hours in (1, 2)] == [1, 0]
    async with database.write() as session:
        await report(session, "past-1", 0.02, at=BEGUN + 2.5 * HOUR)
        await report(session, "past-0", 0.02, at=BEGUN + 3.5 * HOUR)
    assert [await asked(database, BEGUN + hours * HOUR) for hours in (3, 4, 5)] == [0, 1, 0]


async def test_what_is_not_measured_on_anything_is_never_due(database: Database) -> None:
    async with database.write() as session:
        await record_launch(session, measurements=[])
    assert await asked(database, BEGUN + DAY) == 0
