"""Formulas that nobody should steer by are found out (METHODS G8)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.formula import parse
from stats.formula_defects import CHANCE_OF_ZERO, DefectCode, FormulaDefect, formula_defects

RATE, COUNT = False, True


def found(
    text: str,
    values: list[list[float]] | None = None,
    *,
    good: list[float] | None = None,
    counted: list[bool] | None = None,
    star_good: float = 1.0,
) -> list[FormulaDefect]:
    formula = parse(text)
    m = len(formula.names)
    return list(
        formula_defects(
            formula,
            None if values is None else np.array(values),
            good=np.array(good if good is not None else [1.0] * m),
            counted=np.array(counted if counted is not None else [RATE] * m),
            star_good=star_good,
        )
    )


def codes(defects: list[FormulaDefect]) -> list[tuple[str, str]]:
    return [(defect.code.value, defect.part) for defect in defects]


def test_sales_throughput_trips_twice() -> None:
    weeks = [[400.0 + week, growth] for week, growth in enumerate([40.0, 12.0, -8.0, 55.0, 70.0, 31.0, 0.0, 44.0])]
    assert codes(found("touchpoints / growth", weeks, counted=[COUNT, RATE])) == [
        ("denominator_crosses_zero", "growth"),
        ("direction_conflict", "growth"),
    ]


def test_without_weeks_the_direction_alone_is_judged() -> None:
    assert codes(found("touchpoints / growth")) == [("direction_conflict", "growth")]
    assert codes(found("touchpoints / growth", good=[1.0, -1.0])) == []
    assert codes(found("promoters - detractors")) == [("direction_conflict", "detractors")]


def test_for_a_north_star_that_should_fall_directions_turn_around() -> None:
    assert codes(found("effort * share", good=[-1.0, -1.0], star_good=-1.0)) == []
    assert codes(found("effort * share", good=[-1.0, 1.0], star_good=-1.0)) == [("direction_conflict", "share")]


def test_an_input_whose_direction_depends_on_the_others_is_judged_where_it_was_seen() -> None:
    """A shift to the phone is worse only as long as the phone is."""
    mix, good = "by_phone * phone + (1 - by_phone) * chat", [-1.0, -1.0, -1.0]
    assert found(mix, good=good, star_good=-1.0) == []
    dearer = [[0.4, 5.0, 2.0], [0.5, 4.8, 2.1]]
    cheaper = [[0.4, 2.0, 5.0], [0.5, 2.1, 4.8]]
    assert found(mix, dearer, good=good, star_good=-1.0) == []
    assert codes(found(mix, cheaper, good=good, star_good=-1.0)) == [("direction_conflict", "by_phone")]


def test_twice_as_many_customers_must_not_halve_the_north_star() -> None:
    assert codes(found("rate / customers", good=[1.0, -1.0], counted=[RATE, COUNT])) == [("falls_with_scale", "")]
    assert found("revenue / customers", good=[1.0, -1.0], counted=[COUNT, COUNT]) == []
    assert found("revenue * margin", counted=[COUNT, RATE]) == []
    assert found("cost / customers", good=[-1.0, 1.0], counted=[RATE, COUNT], star_good=-1.0) == []


def varying(variation: float) -> list[list[float]]:
    """A year of a numerator and a denominator that varies by so much, exactly."""
    wave = np.cos(2 * np.pi * np.arange(52) / 4)
    wave -= np.polynomial.Polynomial.fit(np.arange(52), wave, 1)(np.arange(52))
    wave /= math.sqrt((wave**2).sum() / 50)
    return [[1.0, 10 * (1 + variation * each)] for each in wave]


def test_a_denominator_is_near_zero_when_a_normal_week_could_be() -> None:
    """Phi(-1 / .3) = .0004 and Phi(-1 / .345) = .0019: METHODS allows .001."""
    assert found("a / d", varying(0.3), good=[1.0, -1.0]) == []
    (defect,) = found("a / d", varying(0.345), good=[1.0, -1.0])
    assert (defect.code, defect.part) == (DefectCode.DENOMINATOR_NEAR_ZERO, "d")
    assert defect.variation == pytest.approx(0.345)
    assert CHANCE_OF_ZERO < defect.chance_not_positive == pytest.approx(0.001873, abs=2e-5)


def test_denominators_well_clear_of_zero_are_left_alone_and_those_near_it_are_found() -> None:
    """Of 200 simulated years each; a spread from 52 weeks is off by 10 % (one standard error)."""
    draw = np.random.default_rng(6)
    alarms = {
        variation: sum(
            bool(found("a / d", np.c_[np.ones(52), draw.normal(1, variation, 52)].tolist(), good=[1.0, -1.0]))
            for _ in range(200)
        )
        for variation in (0.2, 0.5)
    }
    assert alarms[0.2] == 0
    assert alarms[0.5] >= 199


def test_growth_of_a_denominator_is_no_noise() -> None:
    weeks = [[1.0, 10.0 + 20.0 * week] for week in range(52)]
    assert found("a / d", weeks, good=[1.0, -1.0]) == []


def test_few_weeks_say_nothing_of_a_spread_but_a_zero_is_a_zero() -> None:
    assert found("a / d", [[1.0, 10.0], [1.0, 1.0], [1.0, 30.0]], good=[1.0, -1.0]) == []
    (defect,) = found("a / d", [[1.0, 10.0], [1.0, 0.0], [1.0, 30.0]], good=[1.0, -1.0])
    assert (defect.code, defect.share) == (DefectCode.DENOMINATOR_CROSSES_ZERO, pytest.approx(1 / 3))
    assert math.isnan(defect.variation)


def test_weeks_with_a_value_missing_are_left_out() -> None:
    weeks = [[1.0, 10.0], [math.nan, -5.0], [1.0, 11.0]]
    assert found("a / d", weeks, good=[1.0, -1.0]) == []
    assert found("log(a)", [[math.nan]] * 3) == []


@settings(max_examples=20, deadline=None)
@given(point=st.lists(st.floats(0.1, 100.0), min_size=3, max_size=3), unit=st.floats(0.001, 1000.0))
def test_a_product_of_good_inputs_has_no_defect_in_any_unit(point: list[float], unit: float) -> None:
    weeks = [[value * unit for value in point]] * 10
    assert found("users * sessions * minutes", weeks, counted=[COUNT, RATE, RATE]) == []


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 inputs"):
        formula_defects(
            parse("a * b"), np.ones((3, 3)), good=np.ones(2), counted=np.ones(2, dtype=np.bool_), star_good=1.0
        )
