"""What a plan pins of past gaps between direct estimates and the tree of drivers (METHODS E8)."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import experiment, freezing, north_star
from experiments.database import Database
from experiments.definitions import DeclaredShare, InputMetric, NorthStarSpec
from experiments.plan import TreeGap
from experiments.tables import Experiment, Result
from tests.experiments.shop import AT, draft, open_shop

pytestmark = pytest.mark.anyio
ENDED = datetime(2026, 8, 1, tzinfo=UTC)
NUMBER = {"lift": 0.1, "standard_error": 0.1, "ci_lower": 0.0, "ci_upper": 0.2, "chance_to_win": None}
MEASURED = {**NUMBER, "estimable": True}
PASSED = {"name": "north_star_coherence", "status": "pass", "detail": "", "remedy": ""}


def effect(gap: float | None, error: float = 0.01, **changes: Any) -> dict[str, Any]:
    """The entry of a variant in a stored document."""
    kept = {"elasticity": 1.0, "lift": 0.1, "ci_lower": 0.0, "ci_upper": 0.2}
    part = {**kept, "contribution": 0.1, "contribution_standard_error": 0.1, "edge": "driver"}
    return {
        "north_star_key": "guide", "north_star_version": 1, "metric_key": "orders", "variant_key": "b",
        "direct": MEASURED, "tree": MEASURED, "coherence": PASSED,
        "inputs": [{**part, "metric_key": "active"}, {**part, "metric_key": "per_active"}],
        "gap": gap, "gap_standard_error": error,
    } | changes  # fmt: skip


async def ended(session: AsyncSession, key: str, *effects: dict[str, Any], **changes: Any) -> None:
    spec = {"key": key, "north_star_key": "guide", "purpose": "test"} | changes.pop("spec", {})
    fields = {"stopped_at": ENDED, "status": "stopped", "created_at": ENDED, "updated_at": ENDED} | changes
    verdict = fields.pop("verdict", "better")
    session.add(Experiment(key=key, name=key, spec=spec, **fields))
    await result(session, key, *effects, verdict=verdict)


async def result(
    session: AsyncSession, key: str, *effects: dict[str, Any], verdict: str = "better", day: int = 0
) -> None:
    body = json.dumps({"kind": "experiment", "north_star": list(effects)}).encode()
    at = ENDED + timedelta(days=day)
    session.add(
        Result(
            kind="experiment", subject_key=key, verdict=verdict, data_as_of=at, body=body, etag=f"{key}{day}",
            created_at=at,
        )
    )  # fmt: skip
    await session.flush()


async def drivers(session: AsyncSession, edge: str = "driver") -> None:
    """The shop, with a tree of drivers."""
    await open_shop(session)
    row = await north_star.get(session, key="guide")
    inputs = [InputMetric.model_validate({"metric_key": key, "edge": edge}) for key in ("active", "per_active")]
    spec = NorthStarSpec.model_validate(row.spec).model_copy(update={"input_metrics": inputs, "name": "Guide"})
    await north_star.update(session, north_star=row, spec=spec, expected=row.version, actor="ada", at=AT)


async def frozen(session: AsyncSession, key: str = "new", **changes: Any) -> list[TreeGap]:
    row = await experiment.create(session, spec=draft(key, north_star_key="guide", **changes), actor="ada", at=AT)
    plan = await freezing.freeze(session, row)
    assert plan.north_star is not None
    return plan.north_star.past_gaps


async def test_a_plan_pins_the_most_precise_gap_of_every_sound_test_in_its_newest_result(database: Database) -> None:
    async with database.write() as session:
        await drivers(session)
        await ended(session, "one", effect(0.02, 0.01), effect(0.05, 0.005, variant_key="c"))
        await ended(session, "two", effect(0.9))
        await result(session, "two", effect(-0.01), day=3)
        await ended(session, "silent", effect(None))
        await ended(session, "running", effect(0.5), stopped_at=None)
        await ended(session, "broken", effect(0.5), verdict="unreliable")
        await ended(session, "alike", effect(0.5), spec={"purpose": "aa"})
        await ended(session, "everything", effect(0.5), spec={"purpose": "holdout"})
        await ended(session, "elsewhere", effect(0.5), spec={"north_star_key": "other"})
        await ended(session, "other-tree", effect(0.5, inputs=effect(0.0)["inputs"][:1]))
        found = await frozen(session)
    assert [gap.experiment_key for gap in found] == ["one", "two"]
    assert [gap.gap for gap in found] == [0.05, -0.01]
    assert [gap.variance for gap in found] == [pytest.approx(0.005**2), pytest.approx(0.01**2)]


async def test_a_definitional_tree_needs_no_past(database: Database) -> None:
    async with database.write() as session:
        await drivers(session, "definitional")
        await ended(session, "one", effect(0.02))
        assert await frozen(session) == []


async def test_a_plan_holds_its_coverage_and_the_share_that_was_declared(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        row = await experiment.create(session, spec=draft("tenth", coverage=0.1), actor="ada", at=AT)
        assert (await freezing.freeze(session, row)).coverage == 0.1
        share = DeclaredShare(value=0.4, standard_error=0.05)
        spec = draft("sums", data="summary", north_star_share=share)
        row = await experiment.create(session, spec=spec, actor="ada", at=AT)
        assert (await freezing.freeze(session, row)).north_star_share == share
