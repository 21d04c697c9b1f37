"""Which sources go together: mappings of units, exposures that are rows of a source, and plans at home in one place."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import amendment, connection, experiment, fact_source, freezing, lifecycle, metric, north_star, refresh
from experiments.database import Database
from experiments.definitions import (
    Estimation,
    EventSource,
    ExperimentSpec,
    ExposureSource,
    FactSourceSpec,
    Filter,
    InputMetric,
    Measure,
    MetricSpec,
    NorthStarSpec,
    PlanMetric,
    Role,
    TableSource,
    UnitMapping,
    place_of,
)
from experiments.definitions.connection import PostgresConnection
from experiments.errors import InvalidDefinition
from experiments.places import by_place
from experiments.tables import Experiment
from tests.experiments.shop import AT, draft, mean, open_shop

pytestmark = pytest.mark.anyio
WHO: dict[str, Any] = {"actor": "ada", "at": AT}
BY_LOGIN = UnitMapping(fact_source="logins", id_column="device")
SHOWN = ExposureSource(fact_source="shown", variant_column="arm", segments={"Country": "land"})


@pytest.fixture
async def session(sqlite_url: str) -> AsyncIterator[AsyncSession]:
    """A shop with its registry, and sources of logins and exposures."""
    database = Database(sqlite_url, synchronous="OFF")
    async with database.write() as session:
        await open_shop(session)
        for source in (EventSource(key="logins", event="login"), EventSource(key="shown", event="shown")):
            await fact_source.create(session, spec=source, **WHO)
        for key in ("mart", "lake"):
            place = PostgresConnection(kind="postgres", key=key, host="h", database="d", user="u")
            await connection.create(session, spec=place, **WHO)
        yield session
    await database.dispose()


def table(key: str, where: str = "mart", **fields: Any) -> TableSource:
    columns = {"table": key, "unit_column": "unit", "timestamp_column": "at"}
    return TableSource.model_validate({"kind": "table", "key": key, "connection": where, **columns, **fields})


async def test_a_mapping_needs_a_source_of_the_same_units_in_the_same_place(session: AsyncSession) -> None:
    refused: list[tuple[FactSourceSpec, str]] = [
        (EventSource(key="opens", event="o", unit_mapping=UnitMapping(fact_source="no", id_column="d")), "there is no"),
        (EventSource(key="opens", event="o", unit_mapping=UnitMapping(fact_source="opens", id_column="d")), "its own"),
        (EventSource(key="opens", event="o", unit_type="shop", unit_mapping=BY_LOGIN), "`logins` is per user"),
        (table("opens", unit_mapping=BY_LOGIN), "same connection"),
    ]
    for source, why in refused:
        with pytest.raises(InvalidDefinition, match=why) as caught:
            await fact_source.create(session, spec=source, **WHO)
        assert [fault.pointer for fault in caught.value.errors] == ["/unit_mapping/fact_source"]


async def test_what_others_map_by_must_stay_fit_for_it(session: AsyncSession) -> None:
    await fact_source.create(session, spec=EventSource(key="opens", event="o", unit_mapping=BY_LOGIN), **WHO)
    with pytest.raises(InvalidDefinition, match="has a mapping itself"):
        again = EventSource(key="taps", event="t", unit_mapping=UnitMapping(fact_source="opens", id_column="d"))
        await fact_source.create(session, spec=again, **WHO)
    logins = await fact_source.get(session, key="logins")
    mapped = EventSource(key="logins", event="l", unit_mapping=UnitMapping(fact_source="orders", id_column="d"))
    for changed, pointer in ((mapped, "/unit_mapping"), (table("logins"), "/kind")):
        with pytest.raises(InvalidDefinition, match="`opens` maps by it") as caught:
            await fact_source.update(session, source=logins, spec=changed, expected=1, **WHO)
        assert [fault.pointer for fault in caught.value.errors] == [pointer]
    renamed = EventSource(key="logins", event="signed in", filters=[Filter(column="ok", value=True)])
    assert (await fact_source.update(session, source=logins, spec=renamed, expected=1, **WHO)).version == 2


async def test_a_plan_holds_the_sources_that_say_whose_its_facts_are(session: AsyncSession) -> None:
    opens = EventSource(key="opens", event="o", unit_mapping=BY_LOGIN)
    await fact_source.create(session, spec=opens, **WHO)
    await metric.create(session, spec=mean("opened", measure=Measure(fact_source="opens")), **WHO)
    metrics = [PlanMetric(metric_key="opened", role=Role.PRIMARY)]
    row = await experiment.create(session, spec=draft("mapped", metrics=metrics, exposures=SHOWN), **WHO)
    plan = await freezing.freeze(session, row)
    assert [source.key for source in plan.fact_sources] == ["logins", "opens", "shown"]
    assert plan.exposures == SHOWN


async def test_exposures_of_a_source_carry_the_segments_that_are_named(session: AsyncSession) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"segments": ["country", "shop"]}, "/segments"),
        ({"cluster": "account"}, "/cluster"),
        ({"estimation": Estimation(stratify_by=["os"])}, "/estimation/stratify_by"),
        ({"exposures": SHOWN.model_copy(update={"fact_source": "nowhere"})}, "/exposures/fact_source"),
    ]
    for changes, pointer in refused:
        with pytest.raises(InvalidDefinition) as caught:
            await experiment.create(session, spec=draft("read", **{"exposures": SHOWN, **changes}), **WHO)
        assert [fault.pointer for fault in caught.value.errors] == [pointer]
    spec = draft("read", exposures=SHOWN, segments=["country"], cluster="COUNTRY")
    assert (await experiment.create(session, spec=spec, **WHO)).status == "draft"


async def test_where_exposures_are_is_settled_at_the_start(session: AsyncSession) -> None:
    row = await experiment.create(session, spec=draft("read", exposures=SHOWN), **WHO)
    await lifecycle.start(session, experiment=row, actor="ada", at=AT)
    narrower = SHOWN.model_copy(update={"filters": [Filter(column="test", value="read")]})
    for exposures, refused in ((None, True), (narrower, False)):
        changes = {"exposures": None if exposures is None else exposures.model_dump(mode="json")}
        if refused:
            with pytest.raises(InvalidDefinition, match="exposures stay where they are"):
                await amendment.amend(session, experiment=row, reason="r", changes=changes, **WHO)
        else:
            made = await amendment.amend(session, experiment=row, reason="r", changes=changes, **WHO)
            assert [change["path"] for change in made.changes] == ["/plan/exposures/filters"]


async def in_the_mart(session: AsyncSession) -> None:
    for source in (table("sales"), table("seen"), table("far", "lake")):
        await fact_source.create(session, spec=source, **WHO)
    for key, source_key in (("sold", "sales"), ("afar", "far")):
        await metric.create(session, spec=mean(key, measure=Measure(fact_source=source_key)), **WHO)


async def test_a_plan_is_at_home_in_one_place(session: AsyncSession) -> None:
    await in_the_mart(session)

    def placed(metrics: list[str], exposures: str | None) -> ExperimentSpec:
        chosen = [PlanMetric(metric_key=key, role=Role.PRIMARY) for key in metrics]
        read = None if exposures is None else ExposureSource(fact_source=exposures, variant_column="arm")
        return draft("placed", metrics=chosen, exposures=read)

    for metrics, exposures, pointer in [
        (["sold"], None, "/exposures"),
        (["sold"], "shown", "/metrics"),
        (["sold", "revenue"], "seen", "/metrics"),
        (["sold", "afar"], "seen", "/metrics"),
        (["revenue"], "seen", "/metrics"),
    ]:
        spec = placed(metrics, exposures)
        with pytest.raises(InvalidDefinition) as caught:
            await experiment.create(session, spec=spec, **WHO)
        assert [fault.pointer for fault in caught.value.errors] == [pointer]
        row = Experiment(key="placed", name="p", spec=spec.model_dump(mode="json"), created_at=AT, updated_at=AT)
        with pytest.raises(InvalidDefinition):
            await freezing.freeze(session, row)
    plan = await freezing.freeze(session, await experiment.create(session, spec=placed(["sold"], "seen"), **WHO))
    assert [source.key for source in plan.fact_sources] == ["sales", "seen"]


async def test_the_company_s_numbers_are_made_where_their_facts_are(session: AsyncSession) -> None:
    await in_the_mart(session)
    one = InputMetric(metric_key="revenue")
    tree = NorthStarSpec(key="mart", name="Mart", metric_key="sold", formula="revenue", input_metrics=[one])
    await north_star.create(session, spec=tree, **WHO)
    star = await freezing.north_star_plan(session, key="mart")
    assert {place_of(source) for source in star.fact_sources} == {"mart", None}
    measures = {"numerator": Measure(fact_source="sales"), "denominator": Measure(fact_source="orders")}
    for key, fields in {
        "between": {"kind": "ratio", **measures},
        "summed": {"kind": "formula", "formula": "sold + revenue"},
        "twice": {"kind": "formula", "formula": "sold * 2"},
    }.items():
        await metric.create(session, spec=MetricSpec.model_validate({"key": key, "name": key, **fields}), **WHO)
    plan = await freezing.baseline_plan(session, unit_type="user")
    found = {place: [item.metric_key for item in part.metrics] for place, part in by_place(plan).items()}
    assert "revenue" in found[None] and {"sold", "twice"} <= set(found["mart"]) and len(found) > 2
    measured = sorted(key for keys in found.values() for key in keys)
    assert measured == sorted(item.metric_key for item in plan.metrics), "each is in one place"
    assert not {"between", "summed"} & set(measured), "no unit's value can be made anywhere"

    hourly, noon = timedelta(hours=1), AT.replace(hour=12, minute=5)
    company = {"north_star", "baseline"}
    for at, expected in ((noon, noon.replace(hour=0, minute=0)), (noon + 2 * hourly, None)):
        asked = [one for one in await refresh.due(session, at=at, every=hourly) if one.kind in company]
        there = {one.kind: one.data_as_of for one in asked if "mart" in json.dumps(one.plan_document["fact_sources"])}
        assert there == ({} if expected is None else dict.fromkeys(company, expected)), "tables are read once a day"
        for one in asked:
            await refresh.submit_due(session, one, at=at, max_attempts=1)
