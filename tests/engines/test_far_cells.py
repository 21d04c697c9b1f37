"""Cells of units that are far from those of others, in their own standard deviations, keep the digits of their spread.

Against exact arithmetic, on both roads: every value is a double, and fractions of doubles add up without rounding.
"""

import tempfile
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from stats.moment_set import MomentSet
from stats.moments import Moments
from tests.engines.torture import metric, orders
from tests.engines.worlds import MOMENT, SHOWN, TIME, UNIT, World, write_files
from tests.warehouse.cases import DAY, START
from warehouse.engines.contract import Table
from warehouse.engines.embedded import DuckDBEngine
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational

ARMS, COUNTRIES = ("control", "treatment"), ("AT", "DE")
CLOSE = 1e-8
some: Any = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Counted(DuckDBEngine):
    """How many statements were about cells that had lost digits."""

    again = 0

    def run(self, statement: exp.Expression) -> Table:
        self.again += any(part.alias == "centre_0" for part in statement.find_all(exp.CTE))
        return super().run(statement)


@dataclass(frozen=True)
class Unit:
    arm: int
    country: int
    day: float
    value: float


def world_of(units: list[Unit]) -> World:
    """Everybody has one order before exposure, of 1, and one after, of their value."""
    names = [f"u{i}" for i in range(len(units))]
    at = [START + unit.day * DAY for unit in units]
    shown = {
        UNIT: names,
        TIME: pa.array(at, MOMENT),
        "arm": [ARMS[unit.arm] for unit in units],
        "country": [COUNTRIES[unit.country] for unit in units],
    }
    made = {
        UNIT: [*names, *names],
        TIME: pa.array([*(one - DAY for one in at), *(one + DAY for one in at)], MOMENT),
        "value": [*(1.0 for _ in units), *(unit.value for unit in units)],
    }
    return World(
        tables={SHOWN: pa.table(shown), "orders": pa.table(made)},
        metrics=(metric("spend", measure=orders()),),
        as_of=START + 14 * DAY,
        dimensions=("country",),
        options={"segments": ["country"]},
    )


def both_roads(world: World) -> tuple[MomentSet, MomentSet, int]:
    """The compiled road's moments, the embedded one's, and how often the first had to ask for cells again."""
    with tempfile.TemporaryDirectory() as name, closing(Counted(threads=1)) as engine:
        folder = Path(name)
        write_files(world, folder)
        compiled = extract_relational(world.plan(), world.slice(folder), engine)
        return compiled, extract_experiment(world.plan(), world.slice(folder), threads=1), engine.again


def assert_exact(found: Moments, units: list[list[Unit]]) -> None:
    """Cells (c,) against their units: means to a rounding or two, constants exactly, spreads to `CLOSE`.

    And to the bits of a mean: cells merge by the distance of their means, which are doubles.
    """
    column = 0  # the outcome; what was before exposure follows
    for cell, members in enumerate(units):
        values = [Fraction(unit.value) for unit in members]
        assert found.count[cell] == len(values)
        if not values:
            continue
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        spread = float(squares / len(values)) ** 0.5
        bits = 2.0**-50 * float(max(map(abs, values)))
        assert abs(found.mean[cell, column] - float(mean)) <= bits + 1e-9 * spread
        close = CLOSE * float(squares) + len(values) * bits * (spread + bits) * (spread > 0)
        assert found.comoment[cell, column, column] == pytest.approx(float(squares), rel=0.0, abs=close)
        assert not found.comoment[cell, column, 1]


def check(units: list[Unit]) -> int:
    compiled, embedded, again = both_roads(world_of(units))
    looks = [round((look - START) / DAY) for look in compiled.looks]
    for found in (compiled, embedded):
        assert_exact(found.last, [[unit for unit in units if unit.arm == arm] for arm in range(2)])
        for look, moments in zip(looks, (found.overall[i] for i in range(len(looks))), strict=True):
            entered = [unit for unit in units if unit.day + 3 <= look]
            assert_exact(moments, [[unit for unit in entered if unit.arm == arm] for arm in range(2)])
        for country, moments in enumerate(found.by_segment[i] for i in range(2)):
            mine = [unit for unit in units if unit.country == country]
            assert_exact(moments, [[unit for unit in mine if unit.arm == arm] for arm in range(2)])
    return again


@st.composite
def cells(draw: st.DrawFn) -> list[Unit]:
    """Units whose mean and spread depend on arm, country or when they came, or on none of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(8, 60))
    by = draw(st.sampled_from(["nothing", "arm", "country", "day", "all"]))
    centres = [draw(st.sampled_from([-1e9, 0.0, 1.0, 1e4, 1e6, 1e9, 1e12])) for _ in range(8)]
    spreads = [draw(st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e3])) for _ in range(8)]
    whole = draw(st.booleans())
    found = []
    for i in range(size):
        arm, country, late = i % 2, i // 2 % 2, i // 4 % 2
        kind = {"nothing": 0, "arm": arm, "country": country, "day": late, "all": arm + 2 * country + 4 * late}[by]
        value = centres[kind] + spreads[kind] * float(rng.normal())
        found.append(Unit(arm, country, 4.0 * late + float(rng.uniform(0.1, 0.9)), round(value) if whole else value))
    return found


@given(units=cells())
@settings(some, max_examples=3)
def test_spreads_are_exact_in_cells_of_any_distance(units: list[Unit]) -> None:
    check(units)


@pytest.mark.engines
@given(units=cells())
@settings(some, max_examples=150)
def test_spreads_are_exact_in_many_cells_of_any_distance(units: list[Unit]) -> None:
    check(units)


def test_only_cells_that_lose_their_digits_are_asked_for_again() -> None:
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=60)

    def units(far: float, offset: float) -> list[Unit]:
        return [Unit(i % 2, i // 2 % 2, i / 20, offset + far * (i % 2) + float(x)) for i, x in enumerate(drawn)]

    assert not check(units(far=0.0, offset=1e9))
    assert not check(units(far=100.0, offset=0.0))
    assert check(units(far=1e9, offset=0.0))
