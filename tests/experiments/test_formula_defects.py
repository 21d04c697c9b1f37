"""Defects of formulas in words, in the checks of reviews, and what a formula is held to for each of its inputs."""

import numpy as np
import pytest

from experiments import fact_source, formula_defects, metric, north_star, series
from experiments.database import Database
from experiments.definitions import Direction, EventSource, InputMetric, NorthStarSpec, SeriesSpec
from experiments.evidence.formula_defects import check, defects
from experiments.evidence.review.draft import draft_review
from experiments.plan import InputNature
from tests.experiments.review_cases import context, review_plan
from tests.experiments.shop import AT, mean

UP = InputNature(direction=Direction.INCREASE, counted=True)
DOWN = InputNature(direction=Direction.DECREASE, counted=True)
RATE = InputNature(direction=Direction.INCREASE, counted=False)


def star(formula: str, *inputs: InputMetric | str) -> NorthStarSpec:
    items = [item if isinstance(item, InputMetric) else InputMetric(metric_key=item) for item in inputs]
    return NorthStarSpec(key="star", name="Star", metric_key="all", formula=formula, input_metrics=items)


def test_a_north_star_that_should_fall_is_told_in_its_own_direction() -> None:
    spec = star("tickets / visits", "tickets", "visits")
    assert defects(spec, {"tickets": DOWN, "visits": UP}, Direction.DECREASE, {}) == []
    (found,) = defects(spec, {"tickets": DOWN, "visits": DOWN}, Direction.DECREASE, {})
    assert found.detail == "`visits` is good when it falls, but the North Star then rises."
    assert "direction `increase`" in found.remedy


def test_a_denominator_that_comes_near_zero_says_how_near() -> None:
    spec = star("orders / growth", "orders", "growth")
    growth = (10 + 6 * np.cos(np.arange(26) * np.pi / 2)).tolist()
    natures = {"orders": UP, "growth": RATE.model_copy(update={"direction": Direction.DECREASE})}
    (found,) = defects(spec, natures, Direction.INCREASE, {"orders": [100.0] * 26, "growth": growth})
    assert found.code == "denominator_near_zero"
    assert found.variation is not None and 0.4 < found.variation < 0.5
    assert "varies by 4" in found.detail and "has a chance of" in found.detail


def test_a_driver_beside_the_formula_is_not_judged_and_not_named() -> None:
    spec = star("rate / customers", "rate", "customers", InputMetric(metric_key="calls", edge="driver"))
    natures = {"rate": RATE, "customers": DOWN, "calls": UP}
    weekly: dict[str, list[float | None]] = {"rate": [0.5] * 9, "customers": [90.0] * 9, "calls": [None] * 9}
    (found,) = defects(spec, natures, Direction.INCREASE, weekly)
    assert found.detail.startswith("Twice as much of `customers` lowers the North Star in 9 of 9 weeks")


def test_a_review_has_the_defects_of_its_formula_among_its_checks() -> None:
    plan = review_plan(weeks=30)
    natures = dict.fromkeys(plan.inputs, UP) | {next(iter(plan.inputs)): DOWN}
    given = plan.model_copy(update={"natures": natures})
    result = draft_review(given, context(given)).finish()
    assert next(each.status for each in result.checks if each.name == "formula_defects") == "warn"


def test_two_defects_are_one_check_with_every_remedy_once() -> None:
    spec = star("orders / growth", "orders", "growth")
    weekly: dict[str, list[float | None]] = {"orders": [1.0, 2.0, 3.0], "growth": [1.0, -1.0, 2.0]}
    found = check(defects(spec, {"orders": UP, "growth": RATE}, Direction.INCREASE, weekly))
    assert (found.name, found.status) == ("formula_defects", "warn")
    assert "in 1 of 3 weeks" in found.detail and "in 2 of 2 weeks" in found.detail
    assert found.remedy.count("Turn the ratio over") == 2


@pytest.mark.anyio
async def test_totals_double_with_the_company_and_rates_and_means_do_not(database: Database) -> None:
    async with database.write() as session:
        await fact_source.create(session, spec=EventSource(key="orders", event="order"), actor="ada", at=AT)
        for key in ("all", "total", "average", "counted"):
            await metric.create(session, spec=mean(key), actor="ada", at=AT)
        for key, aggregation in (("totals", "total"), ("averages", "mean")):
            spec = SeriesSpec.model_validate({"key": key, "name": key, "aggregation": aggregation})
            await series.create(session, spec=spec, actor="ada", at=AT)
        spec_of_star = star(
            "total * average * counted",
            InputMetric(metric_key="total", series_key="totals"),
            InputMetric(metric_key="average", series_key="averages"),
            "counted",
        )
        row = await north_star.create(session, spec=spec_of_star, actor="ada", at=AT)
        known = {key: item.spec for key, item in (await metric.all_known(session)).items()}
        natures = await formula_defects.natures(session, spec_of_star, known)
        assert {key: nature.counted for key, nature in natures.items()} == {
            "total": True,
            "average": False,
            "counted": True,
        }
        assert (await formula_defects.formula_defects(session, row, at=AT)).defects == []
