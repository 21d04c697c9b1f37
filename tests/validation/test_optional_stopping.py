"""METHODS C5's table of optional stopping, and the calibration of the chance to win."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.validation.cells import Cell
from tests.validation.optional_stopping import calibration, curves, losses, stopping


def outside(cells: Sequence[Cell]) -> list[str]:
    return [f"{c.name} is {c.observed:.4f}, not {c.nominal:g} ({c.tolerance:.4f})" for c in cells if c.status == "FAIL"]


@pytest.mark.parametrize("part", [0.05, pytest.param(1.0, marks=pytest.mark.simulation)])
def test_stopping_costs_what_methods_says(part):
    cells = stopping(part)
    assert outside(cells) == []
    actual = {cell.case["prior"]: cell.observed for cell in cells if cell.quantity == "actual"}
    over = {c.case["prior"]: c.observed for c in cells if c.quantity.startswith("posterior mean")}
    assert actual["4x too wide"] < 0.8 < actual["right"]
    assert over["4x too wide"] > 0.5 > abs(over["right"]), "a prior that is too wide overstates what it stops for"


@pytest.mark.parametrize("part", [0.1, pytest.param(1.0, marks=pytest.mark.simulation)])
def test_chances_under_the_learned_prior_hold_whether_a_look_stops_or_not(part):
    assert outside(calibration(part)) == []


def test_stopping_on_the_default_prior_claims_more_than_holds():
    found = {(curve.prior, curve.stopping): curve for curve in curves(0.3)}
    gap = {}
    for key, curve in found.items():
        sure = slice(-2, None)  # claims of more than 95 %
        held = (curve.count[sure] * curve.actual[sure]).sum() / curve.count[sure].sum()
        gap[key] = (curve.count[sure] * curve.claimed[sure]).sum() / curve.count[sure].sum() - held
    assert abs(gap["learned", True]) < 0.01 and abs(gap["learned", False]) < 0.01
    assert gap["default", True] > 0.08 > gap["default", False] + 0.02
    assert all(np.nansum(curve.count) == found["learned", True].count.sum() for curve in found.values())


@pytest.mark.parametrize("part", [0.1, pytest.param(1.0, marks=pytest.mark.simulation)])
def test_what_a_look_ships_loses_what_the_learned_prior_said_it_would(part):
    cells = losses(part)
    assert outside(cells) == []
    by_default = next(cell for cell in cells if cell.case["prior"] == "default")
    assert by_default.observed > 2 * by_default.nominal, "a prior that is too wide understates the loss"
