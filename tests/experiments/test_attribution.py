"""The attribution of a change to the inputs of a tree, on real companies and on known ones (METHODS E3, E4)."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from experiments.definitions import NorthStarSpec
from experiments.evidence.attribution import NOT_IN_THE_TREE, WeeksOfTree, attribution
from experiments.plan import WeeksWithout
from tests.shared_data import shared_path

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def tree(formula: str, inputs: list[str], edge: str = "definitional") -> NorthStarSpec:
    return NorthStarSpec.model_validate(
        {
            "key": "star",
            "name": "Star",
            "metric_key": "star",
            "formula": formula,
            "input_metrics": [{"metric_key": key, "edge": edge} for key in inputs],
        }
    )


def weeks(count: int) -> list[datetime]:
    return [MONDAY + timedelta(weeks=i) for i in range(count)]


def test_rides_are_accounted_for_by_who_rides() -> None:
    """Bike Sharing: casual and registered riders add up, so each accounts for exactly its own change."""
    days = pl.read_csv(shared_path("data", "telemetry", "bike_sharing_day.csv"))
    whole = len(days) // 7
    casual, registered = (
        days[name].head(whole * 7).to_numpy().reshape(whole, 7).sum(axis=1) for name in ("casual", "registered")
    )
    known = WeeksOfTree(
        weeks(whole),
        list(map(float, casual + registered)),
        {"casual": list(map(float, casual)), "registered": list(map(float, registered))},
    )
    after, before = list(range(52, 104)), list(range(52))
    found = attribution(
        tree("casual + registered", ["casual", "registered"]), {}, known, after=after, before=before, seed=0
    )
    by_key = {part.metric_key: part for part in found.parts}
    assert found.method == "shapley"
    assert by_key["casual"].units == pytest.approx(casual[52:104].sum() - casual[:52].sum())
    assert by_key["registered"].units == pytest.approx(registered[52:104].sum() - registered[:52].sum())
    assert found.change == pytest.approx(sum(part.units for part in found.parts))
    assert by_key["registered"].covers_zero is False
    assert "52 weeks" in found.uncertainty


def test_what_rounding_leaves_is_a_part_of_its_own() -> None:
    """Upworthy: page views = users x sessions x pages, with factors that were published rounded."""
    days = pl.read_csv(shared_path("data", "telemetry", "upworthy_ga_daily_clean.csv"))
    names = ["users", "sessions_per_user", "pages_per_session"]
    known = WeeksOfTree(
        weeks(len(days)),
        days["pageviews"].cast(float).to_list(),
        {name: days[name].cast(float).to_list() for name in names},
    )
    found = attribution(tree(" * ".join(names), names), {}, known, after=range(365, 455), before=range(90), seed=0)
    assert found.method == "lmdi"
    assert sum(part.units for part in found.parts) == pytest.approx(found.change, rel=1e-12)
    rest = next(part for part in found.parts if part.metric_key == NOT_IN_THE_TREE)
    assert abs(rest.units) < 0.1 * abs(found.change or 0)
    assert next(part for part in found.parts if part.metric_key == "users").units > 0


def test_statistical_relations_account_for_nothing() -> None:
    known = WeeksOfTree(weeks(2), [1.0, 2.0], {"a": [1.0, 2.0]})
    found = attribution(tree("a", ["a"], "driver"), {}, known, after=[1], before=[0], seed=0)
    assert (found.estimable, found.reason, found.parts) == (False, "driver_edges", [])


def test_weeks_without_a_number_are_left_out() -> None:
    known = WeeksOfTree(weeks(4), [6.0, None, 12.0, 9.0], {"a": [2.0, 3.0, 4.0, 3.0], "b": [3.0, 3.0, 3.0, 3.0]})
    found = attribution(tree("a * b", ["a", "b"]), {"a": "Users"}, known, after=[2, 3], before=[0, 1], seed=0)
    assert found.change == pytest.approx(6.0)
    assert [(part.name, part.lower_80) for part in found.parts] == [("Users", None), ("b", None)]
    assert found.uncertainty.startswith("unknown")
    nothing = attribution(tree("a * b", ["a", "b"]), {}, known, after=[3], before=[1], seed=0)
    assert (nothing.estimable, nothing.reason) == (False, "no_common_weeks")


def test_intervals_from_parts_of_the_units_hold_what_the_whole_population_would_show() -> None:
    """2,000 users of a larger population: the contributions of activity and intensity are held in 80 % of samples."""
    rng = np.random.default_rng(4)
    runs, parts, users = 300, 20, 2000
    held = np.zeros(2)
    truth = attribution(
        tree("a * b", ["a", "b"]),
        {},
        WeeksOfTree(weeks(2), [600.0, 840.0], {"a": [600.0, 700.0], "b": [1.0, 1.2]}),
        after=[1],
        before=[0],
        seed=0,
    )
    for _ in range(runs):
        bucket = rng.integers(parts, size=users)
        trait = rng.gamma(4, 0.25, size=users)
        active = rng.random((2, users)) < np.array([[0.3], [0.35]])
        value = active * trait * np.array([[1.0], [1.2]])
        counts = np.stack([np.bincount(bucket, active[t], parts) for t in (0, 1)])
        sums = np.stack([np.bincount(bucket, value[t], parts) for t in (0, 1)])
        rest_count, rest_sum = (x.sum(axis=1, keepdims=True) - x for x in (counts, sums))
        scale = parts / (parts - 1)
        known = WeeksOfTree(
            weeks(2),
            sums.sum(axis=1).tolist(),
            {"a": counts.sum(axis=1).tolist(), "b": (sums.sum(axis=1) / counts.sum(axis=1)).tolist()},
            [
                WeeksWithout(
                    value=(scale * rest_sum[:, p]).tolist(),
                    inputs={
                        "a": (scale * rest_count[:, p]).tolist(),
                        "b": (rest_sum[:, p] / rest_count[:, p]).tolist(),
                    },
                )
                for p in range(parts)
            ],
        )
        found = attribution(tree("a * b", ["a", "b"]), {}, known, after=[1], before=[0], seed=0)
        held += [
            part.lower_80 <= target.units <= part.upper_80
            for part, target in zip(found.parts, truth.parts, strict=True)
        ]
    error = 3 * np.sqrt(0.8 * 0.2 / runs)
    assert np.all(np.abs(held / runs - 0.8) < error + 0.01), held / runs
