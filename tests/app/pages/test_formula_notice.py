"""The home page says in one line what is wrong with the North Star's formula, and opens to what to do about it."""

import pytest

from app.cli.definitions import read_definitions
from experiments import fact_source, metric, north_star, series
from experiments.definitions import EventSource, MetricSpec, NorthStarSpec, SeriesSpec
from tests.app.pages.conftest import Reader
from tests.app.world import NOW
from tests.servers import REPOSITORY

pytestmark = pytest.mark.anyio


async def test_a_formula_that_nobody_should_steer_by_is_pointed_out(newcomer: Reader) -> None:
    found = read_definitions(REPOSITORY / "examples" / "north_stars" / "sales_throughput.yaml")
    async with newcomer.database.write() as session:
        for definition in (each for kind in found.values() for each in kind):
            if isinstance(definition, EventSource):
                await fact_source.create(session, spec=definition, actor="ada", at=NOW)
            elif isinstance(definition, MetricSpec):
                await metric.create(session, spec=definition, actor="ada", at=NOW)
            elif isinstance(definition, SeriesSpec):
                await series.create(session, spec=definition, actor="ada", at=NOW)
            elif isinstance(definition, NorthStarSpec):
                await north_star.create(session, spec=definition, actor="ada", at=NOW)
    page = (await newcomer.http.get("/")).text
    assert "1 defect of this formula: pipeline_growth is good when it rises, but the North Star then falls" in page
    assert "Turn the ratio over, or steer by the levels" in page


async def test_a_sound_formula_has_no_notice(company: Reader) -> None:
    assert "of this formula" not in (await company.http.get("/")).text
