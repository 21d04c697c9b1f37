"""Survey answers: scores, who answered, and what is no answer (METHODS A13, TRAPS 1)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import warehouse.experiment_moments as experiment_moments
from experiments.columns import layout
from experiments.definitions import MetricSpec
from stats.moments import Moments
from tests.warehouse.cases import DAY, START, Exposure, Fact, assert_same, direct_moments
from tests.warehouse.small_world import ARMS, World, arm_of, metric, world
from warehouse.answers import INVALID_ANSWERS, MOST_SCORES, Respondents, nps_scores
from warehouse.extract import NON_FINITE


def survey(key: str = "nps", scale: str = "nps", **fields: Any) -> MetricSpec:
    return metric(key, "survey", "count", scale=scale, **fields)


def answer(rng: np.random.Generator) -> float | None:
    return None if rng.random() < 0.2 else float(rng.integers(0, 11))


def direct(small: World, metrics: list[MetricSpec]) -> Moments:
    rows = small.analysed(metrics, small.as_of)
    values = np.stack([small.values(column, rows) for column in layout(metrics).columns], axis=1)
    return direct_moments([values[arm_of(rows) == arm].tolist() for arm in (0, 1)], values.shape[1])


def test_scores_answers_and_respondents_equal_loops_over_the_answers(tmp_path: Path) -> None:
    small = world(1, draw=answer)
    metrics = [survey(), survey("csat", "score"), metric("asked", "proportion", "count"), metric("orders")]
    found = small.extract(tmp_path, metrics)
    assert found.columns[:3] == ("nps.score", "nps.answers", "nps.responded")
    assert "csat.answers" not in found.columns, "the same answers are counted once"
    assert_same(found.last, direct(small, metrics))


def test_promoters_count_one_passives_zero_and_detractors_minus_one() -> None:
    assert nps_scores(np.arange(11.0)).tolist() == [-1] * 7 + [0, 0, 1, 1]


def test_a_null_is_no_answer_and_its_unit_has_not_responded(tmp_path: Path) -> None:
    """Half the answers are null: the mean is that of the others, as if the nulls had never come (torture case 1)."""
    shown = [Exposure(f"u{i}", ARMS[i % 2], START) for i in range(8)]
    given_ = [9.0, None, 10.0, None, 3.0, 7.0, None, None]
    facts = [Fact(f"u{i}", START + DAY, value) for i, value in enumerate(given_)]
    found = World(shown, facts).extract(tmp_path, [survey()])
    total = found.last.mean * found.last.count[:, None]
    assert total[:, :3].tolist() == [[2 - 1, 3, 3], [0, 1, 1]]
    assert found.missing["nps.score"].tolist() == [1, 3]
    without = World(shown, [fact for fact in facts if fact.value is not None]).extract(tmp_path, [survey()])
    assert without.last.comoment.tobytes() == found.last.comoment.tobytes()
    assert not without.missing


@pytest.mark.parametrize("bad", [-1.0, 11.0, 8.5])
def test_an_answer_off_the_nps_scale_refuses_its_metric_and_no_other(tmp_path: Path, bad: float) -> None:
    shown = [Exposure("u", "control", START)]
    facts = [Fact("u", START + DAY, bad), Fact("u", START + DAY, 10.0)]
    found = World(shown, facts).extract(tmp_path, [survey(), survey("csat", "score"), metric("orders")])
    assert found.invalid == {"nps.score": INVALID_ANSWERS}
    assert set(found.responses) == {"csat"}
    assert found.last.mean[0, found.column("csat.score")] == bad + 10


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_is_refused_as_such(tmp_path: Path, bad: float) -> None:
    shown = [Exposure("u", "control", START)]
    found = World(shown, [Fact("u", START + DAY, bad)]).extract(tmp_path, [survey(), survey("csat", "score")])
    assert found.invalid == {"nps.score": NON_FINITE, "csat.score": NON_FINITE}
    assert not found.responses


def test_responses_count_units_by_the_mean_of_their_answers(tmp_path: Path) -> None:
    small = world(2, units=200, facts=500, draw=answer)
    metrics = [survey("csat", "score"), metric("orders", window_days=4)]
    found = small.extract(tmp_path, metrics)
    rows = small.analysed(metrics, small.as_of)
    score, answers = (small.values(column, rows) for column in layout(metrics).columns[:2])
    means = score[answers > 0] / answers[answers > 0]
    table = found.responses["csat"]
    assert table.scores.tolist() == sorted(set(means))
    expected = [
        [int(((means == s) & (arm_of(rows)[answers > 0] == arm)).sum()) for s in table.scores] for arm in (0, 1)
    ]
    assert table.respondents.tolist() == expected


def test_buckets_of_units_have_one_table_of_responses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = world(3, draw=answer)
    metrics = [survey(), survey("csat", "score")]
    whole = small.extract(tmp_path, metrics)
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 500)
    parts = small.extract(tmp_path, metrics)
    for key, table in whole.responses.items():
        assert table.scores.tolist() == parts.responses[key].scores.tolist()
        assert table.respondents.tolist() == parts.responses[key].respondents.tolist()


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=500, unique=True))
def test_a_table_has_at_most_201_scores_and_moves_none_by_more_than_half_a_step(scores: list[float]) -> None:
    ascending = np.sort(np.array(scores))
    counted = Respondents(ascending, np.ones((2, len(scores)), dtype=np.int64))
    table = counted.table()
    assert len(table.scores) <= MOST_SCORES
    assert (np.diff(table.scores) > 0).all()
    assert table.respondents.sum(axis=1).tolist() == [len(scores)] * 2
    step = (ascending[-1] - ascending[0]) / (MOST_SCORES - 1)
    gap = abs(table.respondents[0] @ table.scores - ascending.sum())
    assert gap <= (step / 2 * len(scores) if len(scores) > MOST_SCORES else 0) + 1e-6


def test_a_survey_nobody_was_asked_has_no_respondents(tmp_path: Path) -> None:
    found = World([Exposure("u", "control", START)], []).extract(tmp_path, [survey()])
    assert found.responses["nps"].respondents.shape == (2, 0)
    assert found.last.mean[0].tolist() == [0, 0, 0]
