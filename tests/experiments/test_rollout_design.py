"""What the history of a series says about a launch to come, without a database."""

from datetime import UTC, datetime

import numpy as np
import pytest

from experiments.definitions import SeriesSpec
from experiments.errors import DomainError, InvalidDefinition, NotReady
from experiments.rollout_design import MOST_EFFORT, MOST_FOUND, History, RolloutDesign, RolloutQuestion, rollout_design
from experiments.series_table import SeriesTable, periods_between
from experiments.validation import parse
from stats.launch.geo_design import geo_design
from stats.moments import Floats

DAYS = periods_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC), "day")
NORTH, SOUTH = [f"north{i}" for i in range(5)], [f"south{i}" for i in range(5)]


def shops(seed: int = 1) -> Floats:
    """(11, 90) orders of five shops that share the weather of the north, five of the south, and one like no other."""
    rng = np.random.default_rng(seed)
    north, south, own = (np.cumsum(rng.normal(0, 0.02, len(DAYS))) for _ in range(3))
    logs = np.array([north] * 5 + [south] * 5 + [3 * own]) + rng.normal(0, 0.01, (11, len(DAYS)))
    return np.asarray(np.exp(logs) * np.linspace(100, 300, 11)[:, None])


def history(values: Floats, **changes: str) -> History:
    spec = parse(SeriesSpec, {"key": "orders", "name": "Orders", "dimension": "shop", **changes})
    nothing = np.full(values.shape, np.nan)
    names = (*NORTH, *SOUTH, "island")[: len(values)]
    return History(spec, SeriesTable(names, DAYS[: values.shape[1]], values, nothing, nothing), ())


def designed(of: History, **asked: object) -> RolloutDesign:
    return rollout_design(of, parse(RolloutQuestion, {"days": [7, 14], **asked}))


def faults(error: DomainError) -> list[str]:
    return [fault.pointer for fault in error.errors]


def test_what_donors_follow_shows_smaller_effects_and_numbers_are_the_designs_own() -> None:
    values = shops()
    design = designed(history(values), candidates=[["north0"], ["north1", "south1"], ["island"]])
    assert [(option.segments, option.days) for option in design.options] == [
        (segments, days) for segments in (["north0"], ["north1", "south1"], ["island"]) for days in (7, 14)
    ]
    share = values.mean(axis=1) / values.mean(axis=1).sum()
    by_name = np.r_[10, 0:10]
    expected = geo_design(np.log(values[by_name]), share[by_name], [(1,), (2, 7), (0,)], (7, 14))
    rises = [option.detectable_rise for option in design.options]
    assert rises == pytest.approx(np.expm1(expected.detectable).ravel())
    one, pair, island = (design.options[i] for i in (1, 3, 5))
    assert one.detectable_rise is not None and pair.detectable_rise is not None and island.detectable_rise is not None
    assert max(one.detectable_rise, pair.detectable_rise) < 0.5 * island.detectable_rise
    assert one.detectable_drop == pytest.approx(1 - 1 / (1 + one.detectable_rise))
    assert one.adds == pytest.approx(one.detectable_rise * values[0, -14:].sum())
    assert pair.share == pytest.approx(share[1] + share[6])
    assert (design.scale, design.periods, design.compared_segments, design.searched) == ("log", 90, 11, None)


def test_a_search_answers_with_sets_of_every_size_the_most_telling_first() -> None:
    design = designed(history(shops()), days=[14])
    effects = [option.detectable_rise or np.inf for option in design.options]
    assert len(effects) == MOST_FOUND and effects == sorted(effects)
    assert {len(option.segments) for option in design.options} == {1, 2, 3}
    assert design.searched is not None and design.searched > MOST_FOUND
    pairs = designed(
        history(shops()), days=[7], sizes=[2], included_segments=["north3"], excluded_segments=["north2", "island"]
    )
    assert all("north3" in option.segments and len(option.segments) == 2 for option in pairs.options)
    assert pairs.left_out == ["island", "north2"] and pairs.compared_segments == 9


def test_gaps_short_histories_and_values_below_zero_are_named_or_kept_apart() -> None:
    values = shops()
    values[0, 30] = np.nan
    values[10] -= values[10].mean()
    design = designed(history(values), days=[14, 60], candidates=[["north0"], ["north1"]])
    assert [option.reason for option in design.options] == ["gaps_in_series"] * 2 + [None, "too_little_history"]
    assert design.left_out == ["island"], "one segment below zero does not decide the scale for all"
    assert all((option.detectable_rise is None) == (option.reason is not None) for option in design.options)
    below = shops() - 0.9 * shops().mean(axis=1, keepdims=True)
    balance = designed(history(below, aggregation="mean"), days=[14], candidates=[["north1"]]).options[0]
    assert balance.detectable_rise == balance.detectable_drop and balance.adds is None


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"candidates": [["north0"], ["west"]]}, ["/candidates/1"]),
        ({"included_segments": ["west"]}, ["/included_segments"]),
        ({"sizes": [10]}, ["/sizes"]),
        ({"days": [0]}, ["/days"]),
        ({"days": []}, ["/days"]),
        ({"candidates": [["north0"]], "sizes": [1]}, ["/candidates"]),
        ({"candidates": [["north0", "north0"]]}, ["/candidates"]),
        ({"candidates": [["north0"]], "excluded_segments": ["north0"]}, ["/excluded_segments"]),
        ({"candidates": [[]]}, ["/candidates"]),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(asked: dict[str, object], where: list[str]) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        designed(history(shops()), **asked)
    assert faults(refused.value) == where


def test_where_too_few_segments_would_stay_without_it_there_is_no_number() -> None:
    """A launch beside fewer than five segments is measured in another way than the one that is imagined here."""
    with pytest.raises(NotReady, match="5 segments of `orders` have a value in each"):
        designed(history(shops()[:5]))
    design = designed(history(shops()[:6]), days=[7], candidates=[["north0"], ["north0", "north1"]])
    assert [option.reason for option in design.options] == [None, "too_few_comparison_units"]


def test_more_than_can_be_computed_at_once_is_refused_before_computing() -> None:
    """Forty segments over a year: one set is 40 x 40 x 365, so that a few are the limit."""
    rng = np.random.default_rng(3)
    spec = parse(SeriesSpec, {"key": "orders", "name": "Orders", "dimension": "city"})
    periods = periods_between(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC), "day")
    values = np.exp(rng.normal(0, 0.1, (60, len(periods))))
    names = tuple(f"city{i:02}" for i in range(60))
    cities = History(spec, SeriesTable(names, periods, values, values * np.nan, values * np.nan), ())
    room = MOST_EFFORT // (42**2 * 365)
    with pytest.raises(InvalidDefinition, match=f"there is room for {room // 2} sets"):
        designed(cities, history=365, candidates=[["city01", "city02"], ["city01"], ["city02"], ["city02", "city01"]])
