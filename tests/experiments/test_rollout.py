"""The coverage path of a launch: who has the change at a time, and how much of a period that is."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from experiments.definitions import RolloutStep
from experiments.rollout import company_coverage, coverage_at, mean_coverage, segments_named

START = datetime(2026, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def step(day: float, coverage: float, *segments: str) -> RolloutStep:
    return RolloutStep(at=START + day * DAY, coverage=coverage, mechanism="ordered", segments=list(segments))


STAGED = [step(0, 0.1), step(7, 0.5, "DE"), step(14, 1.0), step(21, 0.0, "FR")]


def test_the_last_step_about_a_segment_or_about_everybody_counts() -> None:
    at = [START + day * DAY for day in (-1, 0, 7, 14, 21)]
    assert [coverage_at(STAGED, each, segment="DE") for each in at] == [0, 0.1, 0.5, 1, 1]
    assert [coverage_at(STAGED, each, segment="FR") for each in at] == [0, 0.1, 0.1, 1, 0]
    assert [coverage_at(STAGED, each) for each in at] == [0, 0.1, 0.1, 1, 1]
    assert segments_named(STAGED) == {"DE", "FR"}


def test_a_period_in_which_a_step_falls_is_covered_in_part() -> None:
    noon = [step(0.5, 1.0)]
    assert mean_coverage(noon, START, START + DAY, segment=None) == pytest.approx(0.5)
    assert mean_coverage(noon, START + DAY, START + 2 * DAY, segment=None) == 1
    assert mean_coverage(noon, START - DAY, START, segment=None) == 0


def test_the_company_has_the_share_of_its_segments_by_their_size() -> None:
    at = START + 22 * DAY
    assert company_coverage(STAGED, at, sizes={"DE": 3.0, "FR": 1.0}) == pytest.approx(0.75)
    assert company_coverage(STAGED, at, sizes={}) == 1


STEPS = st.tuples(st.floats(0, 20), st.floats(0, 1), st.booleans())


@given(st.lists(STEPS, min_size=1, max_size=5), st.floats(0.1, 19.9))
@settings(max_examples=50)
def test_the_mean_of_a_whole_is_that_of_its_parts_and_lies_among_its_values(
    steps: list[tuple[float, float, bool]], cut: float
) -> None:
    rollout = [step(day, share, *(["DE"] if only else [])) for day, share, only in sorted(steps)]
    end, middle = START + 20 * DAY, START + cut * DAY
    whole, left, right = (
        mean_coverage(rollout, begin, until, segment="DE")
        for begin, until in ((START, end), (START, middle), (middle, end))
    )
    weight = (middle - START) / (end - START)
    assert whole == pytest.approx(weight * left + (1 - weight) * right, abs=1e-9)
    assert 0 <= whole <= max(share for _, share, _ in steps) + 1e-12
