"""Single truths about extraction that random worlds hit too seldom."""

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warehouse.experiment_moments as experiment_moments
from experiments.definitions import EventSource, FileSource, Measure, MetricSpec
from experiments.errors import SourceUnreadable
from stats.moment_set import MomentSet
from tests.warehouse.cases import (
    DAY,
    START,
    Exposure,
    Fact,
    assert_same,
    plan_of,
    slice_of,
    write_exposures,
    write_facts,
)
from warehouse.extract import extract_experiment
from warehouse.looks import MAX_LOOKS, look_times
from warehouse.units import MAX_LEVELS, OTHER_LEVELS

SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def metric(key: str = "revenue", aggregation: str = "sum", **fields: object) -> MetricSpec:
    measure = Measure.model_validate({"fact_source": "orders", "aggregation": aggregation})
    return MetricSpec.model_validate({"key": key, "name": key, "kind": "mean", "measure": measure, **fields})


def extracted(
    folder: Path,
    metrics: list[MetricSpec],
    exposures: list[Exposure],
    facts: list[Fact],
    days: float = 30,
    **slice_fields: object,
) -> MomentSet:
    data = slice_of(
        [write_exposures(folder, exposures)],
        {"order": [write_facts(folder, facts)]},
        data_as_of=START + days * DAY,
        **slice_fields,  # type: ignore[arg-type]
    )
    return extract_experiment(plan_of(metrics), data, threads=2)


def total(found: MomentSet, column: str, arm: int = 0) -> float:
    return float(found.last.mean[arm, found.column(column)] * found.last.count[arm])


def test_windows_and_pre_periods_include_their_start_and_exclude_their_end(tmp_path: Path) -> None:
    shown = START + DAY
    window = metric(window_days=2, delay_days=1, pre_period_days=3)
    borders = {
        "before the pre-period": shown - 3 * DAY - TICK,
        "pre start": shown - 3 * DAY,
        "pre end": shown - TICK,
        "exposure": shown,
        "before delay": shown + DAY - TICK,
        "window start": shown + DAY,
        "window last": shown + 3 * DAY - TICK,
        "window end": shown + 3 * DAY,
    }
    facts = [Fact("u", at, float(2**i)) for i, at in enumerate(borders.values())]
    found = extracted(tmp_path, [window], [Exposure("u", "control", shown)], facts)
    assert total(found, "revenue") == 2**5 + 2**6
    assert total(found, "revenue.pre") == 2**1 + 2**2


def test_exposures_count_from_the_start_up_to_but_not_at_the_end(tmp_path: Path) -> None:
    end = START + 5 * DAY
    exposures = [
        Exposure("early", "control", START - TICK),
        Exposure("first", "control", START),
        Exposure("last", "control", end - TICK),
        Exposure("late", "control", end),
    ]
    found = extracted(tmp_path, [metric()], exposures, [], ended_at=end)
    assert found.last.count.tolist() == [2, 0]
    assert found.exposures[-1].tolist() == [2, 0]


def test_a_unit_enters_at_the_look_that_completes_its_longest_window(tmp_path: Path) -> None:
    metrics = [metric("short", window_days=1), metric("long", window_days=3)]
    exposures = [Exposure("a", "control", START), Exposure("b", "control", START + SECOND)]
    found = extracted(tmp_path, metrics, exposures, [Fact("a", START, 5.0)], days=5)
    assert found.looks == (START + 3 * DAY, START + 4 * DAY, START + 5 * DAY)
    assert found.overall.count[:, 0].tolist() == [1, 2, 2]
    assert found.exposures[:, 0].tolist() == [2, 2, 2]


def test_the_first_exposure_counts_however_rows_are_ordered_and_repeated(tmp_path: Path) -> None:
    exposures = [Exposure("u", "control", START + hours * timedelta(hours=1)) for hours in (30, 2, 2, 50)]
    facts = [Fact("u", START + timedelta(hours=2), 1.0), Fact("u", START + timedelta(hours=1), 2.0)]
    found = extracted(tmp_path, [metric()], exposures, facts)
    assert total(found, "revenue") == 1.0
    assert total(found, "revenue.pre") == 2.0


def test_units_seen_in_two_variants_are_excluded_and_counted(tmp_path: Path) -> None:
    exposures = [
        Exposure("crossed", "control", START),
        Exposure("crossed", "treatment", START + DAY),
        Exposure("true", "treatment", START),
        Exposure("withdrawn arm", "gone", START),
    ]
    found = extracted(tmp_path, [metric()], exposures, [])
    assert found.crossover == 1
    assert found.last.count.tolist() == [0, 1]
    assert found.exposures[-1].tolist() == [0, 1]


def test_null_values_and_units_without_facts_count_as_zero(tmp_path: Path) -> None:
    exposures = [Exposure(unit, "control", START) for unit in "abc"]
    found = extracted(
        tmp_path, [metric(), metric("largest", "max")], exposures, [Fact("a", START, None), Fact("b", START, -4.0)]
    )
    assert found.last.count[0] == 3
    assert total(found, "revenue") == -4.0
    assert total(found, "largest") == -4.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("aggregation", ["sum", "max"])
def test_a_column_with_a_non_finite_fact_is_withdrawn_and_the_others_are_not(
    tmp_path: Path, bad: float, aggregation: str
) -> None:
    facts = {"who": ["a", "a", "b"], "when": [START, START, START], "good": [1.0, 2.0, 3.0], "bad": [9.0, bad, 9.0]}
    pq.write_table(pa.table(facts), tmp_path / "facts.parquet")
    source = FileSource(kind="file", key="file", path="facts.parquet", unit_column="who", timestamp_column="when")
    metrics = [
        MetricSpec(
            key=name, name=name, kind="mean", measure=Measure(fact_source="file", aggregation=aggregation, column=name)
        )  # type: ignore[arg-type]
        for name in ("good", "bad")
    ]
    exposures = [write_exposures(tmp_path, [Exposure("a", "control", START), Exposure("b", "treatment", START)])]
    data = slice_of(exposures, data_as_of=START + 9 * DAY, file_source_dir=tmp_path)
    found = extract_experiment(plan_of(metrics, sources=[source]), data)
    assert found.invalid == {"bad": "non_finite_values"}
    assert (found.last.mean[:, found.column("bad")] == 0).all()
    assert found.last.mean[:, found.column("good")].tolist() == [3.0 if aggregation == "sum" else 2.0, 3.0]
    found.validate()


def test_values_whose_squares_overflow_are_withdrawn(tmp_path: Path) -> None:
    found = extracted(
        tmp_path,
        [metric()],
        [Exposure("a", "control", START), Exposure("b", "control", START)],
        [Fact("a", START, 1e200)],
    )
    assert found.invalid == {"revenue": "non_finite_values"}
    found.validate()


def test_an_offset_of_a_billion_keeps_the_digits_of_the_variance(tmp_path: Path) -> None:
    noise = np.random.default_rng(7).normal(size=400)
    exposures = [Exposure(f"u{i}", "control", START) for i in range(400)]
    plain = extracted(tmp_path, [metric()], exposures, [Fact(f"u{i}", START, float(x)) for i, x in enumerate(noise)])
    offset = extracted(
        tmp_path, [metric()], exposures, [Fact(f"u{i}", START, 1e9 + float(x)) for i, x in enumerate(noise)]
    )
    np.testing.assert_allclose(offset.last.covariance[0, 0, 0], plain.last.covariance[0, 0, 0], rtol=1e-6)


def test_an_arm_with_one_value_has_a_variance_of_exactly_zero(tmp_path: Path) -> None:
    exposures = [Exposure(f"u{i}", "control" if i % 2 else "treatment", START + i * SECOND * 9000) for i in range(60)]
    facts = [Fact(row.unit, row.at, 0.1 if row.variant == "control" else 0.7) for row in exposures]
    found = extracted(tmp_path, [metric()], exposures, facts)
    assert found.last.mean[:, 0].tolist() == [0.1, 0.7]
    assert found.last.comoment[:, 0, 0].tolist() == [0.0, 0.0]


def test_buckets_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    exposures = [
        Exposure(f"u{i}", ["control", "treatment"][i % 2], START + float(rng.uniform(0, 9)) * DAY, {"c": "ab"[i % 2]})
        for i in range(500)
    ]
    facts = [
        Fact(f"u{rng.integers(500)}", START + float(rng.uniform(-5, 19)) * DAY, float(rng.normal()))
        for _ in range(3000)
    ]
    metrics = [metric(), metric("open", window_days=None)]
    data = slice_of(
        [write_exposures(tmp_path, exposures)], {"order": [write_facts(tmp_path, facts)]}, data_as_of=START + 20 * DAY
    )
    plan = plan_of(metrics, segments=["c"])
    whole = extract_experiment(plan, data, threads=1)
    again = extract_experiment(plan, data, threads=2)
    assert whole.overall.comoment.tobytes() == again.overall.comoment.tobytes()
    assert whole.by_segment.third.tobytes() == again.by_segment.third.tobytes()
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 4000)
    parts = extract_experiment(plan, data, threads=2)
    assert_same(parts.overall, whole.overall)
    assert_same(parts.by_segment, whole.by_segment)
    assert (parts.exposures == whole.exposures).all()


def test_rare_levels_of_a_segment_share_one(tmp_path: Path) -> None:
    exposures = [Exposure(f"u{i}", "control", START, {"city": f"c{i % (MAX_LEVELS + 20)}"}) for i in range(200)]
    data = slice_of([write_exposures(tmp_path, exposures)], {"order": []}, data_as_of=START + 20 * DAY)
    found = extract_experiment(plan_of([metric()], segments=["City", "never_sent"]), data)
    assert len(found.segments) == MAX_LEVELS
    assert found.segments[-1] == ("City", OTHER_LEVELS)
    assert found.by_segment.count.sum() == 200


def test_an_experiment_without_any_data_has_empty_moments(tmp_path: Path) -> None:
    data = slice_of([], {}, data_as_of=START + 20 * DAY)
    found = extract_experiment(plan_of([metric()], segments=["country"]), data)
    assert found.last.count.tolist() == [0, 0]
    assert found.segments == ()


def test_before_the_first_window_is_complete_there_is_one_empty_look(tmp_path: Path) -> None:
    found = extracted(tmp_path, [metric()], [Exposure("u", "control", START)], [], days=2)
    assert found.looks == (START + 2 * DAY,)
    assert found.last.count.tolist() == [0, 0]
    assert found.exposures.tolist() == [[1, 0]]


def test_a_column_that_no_event_carries_is_named(tmp_path: Path) -> None:
    wrong = MetricSpec(
        key="m", name="m", kind="mean", measure=Measure(fact_source="orders", aggregation="sum", column="amount")
    )
    with pytest.raises(SourceUnreadable, match="amount") as caught:
        extracted(tmp_path, [wrong], [Exposure("u", "control", START)], [Fact("u", START, 1.0)])
    assert caught.value.remedy is not None


def test_an_event_that_was_never_sent_has_no_facts(tmp_path: Path) -> None:
    data = slice_of([write_exposures(tmp_path, [Exposure("u", "control", START)])], {}, data_as_of=START + 20 * DAY)
    found = extract_experiment(plan_of([metric()], sources=[EventSource(key="orders", event="order")]), data)
    assert dict(zip(found.columns, found.last.mean[0], strict=True)) == {
        "revenue": 0.0,
        "revenue.pre": 0.0,
        "no_history.14d": 1.0,
    }


def test_looks_are_daily_thinned_to_sixty_and_end_with_the_last_window() -> None:
    running = look_times(started_at=START, ended_at=None, data_as_of=START + 10.5 * DAY, longest_window_days=7)
    assert running == (START + 7 * DAY, START + 8 * DAY, START + 9 * DAY, START + 10 * DAY, START + 10.5 * DAY)
    ended = look_times(started_at=START, ended_at=START + 2 * DAY, data_as_of=START + 99 * DAY, longest_window_days=7)
    assert ended == (START + 7 * DAY, START + 8 * DAY, START + 9 * DAY)
    long = look_times(started_at=START, ended_at=None, data_as_of=START + 400 * DAY, longest_window_days=None)
    assert len(long) == MAX_LOOKS
    assert long[-1] == START + 400 * DAY
    assert list(long) == sorted(set(long))
