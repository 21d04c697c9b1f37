"""The listening service: its parts add up, and what it measures is about what is true (METHODS I2 in full)."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from experiments.definitions import (
    EventSource,
    ExperimentSpec,
    HoldoutSpec,
    LaunchSpec,
    MetricSpec,
    NorthStarSpec,
    ReviewSpec,
    SeriesSpec,
)
from stats.company.listening import Listening, generate
from stats.company.listening.definitions import INPUTS, METRICS, SAVES
from stats.company.listening.launches import KAPPA, SCATTER
from stats.company.listening.story import (
    BLINDS,
    BROKEN,
    FUTURE_WEEKS,
    GAMED,
    HOLDOUT,
    HOLDOUT_WEEKS,
    IDEAS,
    PAIRS,
    PEEKED,
    PLACE,
    RUNNING,
    WEEKS,
)
from stats.company.listening.trials import CLASH, SLOPE, of_units
from stats.formula import parse

END = date(2026, 5, 27)
COMPANIES = 60


@pytest.fixture(scope="module")
def companies() -> list[Listening]:
    return [generate(END, seed=seed) for seed in range(COMPANIES)]


@pytest.fixture(scope="module")
def one(companies: list[Listening]) -> Listening:
    return companies[1]


def test_the_same_seed_gives_the_same_company_and_another_day_only_moves_it(one: Listening) -> None:
    again, later = generate(END, seed=1), generate(date(2026, 6, 24), seed=1)
    assert again.experiments == one.experiments
    assert again.summaries == one.summaries
    np.testing.assert_array_equal(again.truth.weeks.hours, one.truth.weeks.hours)
    np.testing.assert_array_equal(later.truth.weeks.hours, one.truth.weeks.hours)
    assert later.ended_at - one.ended_at == timedelta(weeks=4)
    assert (one.ended_at.weekday(), one.ended_at.date()) == (0, date(2026, 5, 25))


def test_every_definition_is_accepted(one: Listening) -> None:
    sources = {EventSource.model_validate(source).key for source in one.fact_sources}
    metrics = {MetricSpec.model_validate(metric).key for metric in one.metrics}
    assert metrics == set(METRICS)
    star = NorthStarSpec.model_validate(one.north_star)
    assert parse(star.formula, metrics).names == INPUTS
    series = {SeriesSpec.model_validate(record.spec).key for record in one.series}
    told = {star.series_key, *(item.series_key for item in (*star.input_metrics, *star.influences))}
    assert series == told - {None}
    assert [item.metric_key for item in star.input_metrics if item.edge == "driver"] == [SAVES]
    assert sources == {"listens", "saves"}
    specs = [ExperimentSpec.model_validate(record.spec) for record in one.experiments]
    assert len({spec.key for spec in specs}) == len(IDEAS) + 1 == 61
    launches = [LaunchSpec.model_validate(record.spec) for record in one.launches]
    assert sum(launch.experiment_key is None for launch in launches) == len(BLINDS) == 6
    held = HoldoutSpec.model_validate(one.holdout)
    assert held.experiment_key == HOLDOUT and set(held.launch_keys) <= {launch.key for launch in launches}
    earlier, last = (ReviewSpec.model_validate(review) for review in one.reviews)
    assert earlier.ends_on == last.begins_on and last.ends_on == one.ended_at.date()


def test_the_log_of_the_hours_is_the_sum_of_its_parts_and_the_hours_a_product(companies: list[Listening]) -> None:
    for company in companies[:10]:
        weeks = company.truth.weeks
        parts = weeks.base + weeks.season + weeks.outside.sum(1) + weeks.launched.sum(1) + weeks.noise
        np.testing.assert_allclose(parts, np.log(weeks.hours), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(weeks.hours, weeks.listeners * weeks.sessions * weeks.length)
        np.testing.assert_allclose(
            weeks.listeners[1:], weeks.retention[1:] * weeks.listeners[:-1] + weeks.joined[1:], rtol=1e-12
        )
        assert (weeks.joined > 0).all()
        assert weeks.hours.size == WEEKS + FUTURE_WEEKS
        launched = company.truth.launches
        np.testing.assert_allclose(launched.added.sum(1), weeks.launched.sum(1), atol=1e-12)
        np.testing.assert_allclose(weeks.without_launches * np.exp(launched.added.sum(1)), weeks.hours, rtol=1e-12)
        np.testing.assert_allclose(weeks.outside[:WEEKS].mean(0), 0, atol=1e-12)


def test_series_are_the_weeks_of_data_to_the_last_digit(one: Listening) -> None:
    values = {record.spec["key"]: record.values["value"] for record in one.series}
    product = values["listeners_by_week"] * values["sessions_by_week"] * values["length_by_week"]
    np.testing.assert_array_equal(values["hours_by_week"], product)
    at = one.series[0].values["at"]
    assert at.size == WEEKS
    assert (np.diff(at) == np.timedelta64(7, "D")).all()
    assert at[-1] + np.timedelta64(7, "D") == np.datetime64(one.ended_at.replace(tzinfo=None), "us")


def test_trees_are_exact_on_summaries_and_their_covariances_are_possible(one: Listening) -> None:
    for key, rows in one.summaries.items():
        at = max(row["as_of"] for row in rows)
        for arm in ("control", "treatment"):
            mine = {row["metric_key"]: row for row in rows if row["variant_key"] == arm and row["as_of"] == at}
            assert tuple(mine) == METRICS
            mean = np.array([mine[key]["mean"] for key in METRICS])
            assert mean[0] == pytest.approx(mean[1:4].prod(), rel=1e-14), key
            matrix = np.array(
                [[mine[a]["variance"] if a == b else mine[a]["covariances"][b] for b in METRICS] for a in METRICS]
            )
            np.testing.assert_array_equal(matrix, matrix.T)
            assert np.linalg.eigvalsh(matrix).min() > -1e-12 * np.trace(matrix)
            assert mine["active_listeners"]["variance"] == pytest.approx(mean[1] * (1 - mean[1]), rel=1e-12)
            # The hours' influence is the sum of its factors'.
            contrast = np.array([1, -1, -1, -1, 0]) / mean
            assert contrast @ matrix @ contrast == pytest.approx(0, abs=1e-12)
    spread = of_units()
    assert spread[0, 4] / np.sqrt(spread[0, 0] * spread[4, 4]) == pytest.approx(0.8)


def test_the_service_has_everything_a_programme_has(companies: list[Listening]) -> None:
    for company in companies:
        truth = company.truth
        records = {record.spec["key"]: record for record in company.experiments}
        assert {key for key, record in records.items() if record.ended_at is None} == set(RUNNING)
        assert set(company.decisions) == {idea.key for idea in IDEAS} - set(RUNNING)
        assert company.decisions[BROKEN] == "iterate"
        assert company.decisions[GAMED] != "ship"
        sessions, hours = truth.trials.true_log_lift[PLACE[GAMED], [2, 0]]
        assert sessions > 0 > hours
        counts = truth.trials.counts[PLACE[BROKEN]]
        assert (counts[0] - counts[1]) / np.sqrt(counts.sum()) > 4
        assert records[PEEKED].spec.get("planned_end_at") is None
        for first, second in PAIRS:
            assert records[first].started_at == records[second].started_at
            gap = truth.trials.true_topline - truth.trials.alone
            assert gap[[PLACE[first], PLACE[second]]] == pytest.approx(CLASH / 2, abs=1e-12)
        assert all(company.ended_at >= record.started_at for record in company.experiments)
        starts = sorted((record.started_at, record.ended_at or company.ended_at) for record in company.experiments)
        assert sum(later[0] < earlier[1] for earlier, later in pairwise(starts)) > 30, "many run side by side"
        assert company.launches[-1].spec["key"] == f"launch_{BLINDS[-1].key}"
    ships = [int(company.truth.trials.shipped.sum()) for company in companies]
    assert 18 < np.mean(ships) < 24
    assert min(ships) >= 8
    assert max(ships) <= 35
    steps = [len(launch.spec["rollout"]) for company in companies for launch in company.launches]
    assert set(steps) == {1, 3}


def test_estimates_are_about_their_truths_with_the_errors_that_they_state(companies: list[Listening]) -> None:
    honest = [number for number, idea in enumerate(IDEAS) if idea.key not in (BROKEN, PEEKED)]
    tries = [company.truth.trials for company in companies]
    errors = np.concatenate([np.sqrt(np.diagonal(t.error, axis1=1, axis2=2))[honest] for t in tries])
    z = np.concatenate([(t.log_lift - t.true_log_lift)[honest] for t in tries]) / errors
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(len(z))
    assert np.abs(z.std(0) - 1).max() < 4 / np.sqrt(2 * len(z))
    assert 0.0055 < np.median(errors[:, 0]) < 0.0068
    assert 0.0035 < errors[:, 0].min() < errors[:, 0].max() < 0.0145
    topline = np.concatenate([((t.topline - t.true_topline) / t.topline_error)[honest] for t in tries])
    assert abs(topline.std() - 1) < 4 / np.sqrt(2 * topline.size)
    held = np.array([(c.truth.holdout.log_lift - c.truth.holdout.true_log_lift) for c in companies])
    error = companies[0].truth.holdout.standard_error
    assert error == pytest.approx(0.01, rel=0.05)
    assert abs(held.mean() / error) < 3.5 / np.sqrt(held.size)
    assert abs(held.std() / error - 1) < 3.5 / np.sqrt(2 * held.size)


def test_what_is_claimed_is_more_than_what_is_true_and_that_is_more_than_what_came_of_it(
    companies: list[Listening],
) -> None:
    claimed = np.array([c.truth.trials.topline[c.truth.trials.shipped].sum() for c in companies])
    true = np.array([c.truth.programme for c in companies])
    from_tests = [c.truth.launches.source >= 0 for c in companies]
    realised = np.array([c.truth.launches.theta[mine].sum() for c, mine in zip(companies, from_tests, strict=True)])
    assert claimed.mean() > 1.2 * true.mean()
    assert (claimed > true).mean() > 0.9
    scatter = SCATTER * np.sqrt(np.mean([mine.sum() for mine in from_tests]) / len(companies))
    assert abs((realised - KAPPA * true).mean()) < 4 * scatter


def test_the_slope_between_effects_is_not_the_one_between_listeners(companies: list[Listening]) -> None:
    usual = [number for number, idea in enumerate(IDEAS) if idea.key not in (GAMED, BROKEN, PEEKED)]
    effects = np.concatenate([c.truth.trials.true_log_lift[usual][:, [0, 4]] for c in companies])
    estimates = np.concatenate([c.truth.trials.log_lift[usual][:, [0, 4]] for c in companies])
    slope, naive = (spread[0, 1] / spread[1, 1] for spread in (np.cov(effects.T), np.cov(estimates.T)))
    # Tails as fat as these make the error of a slope larger than that of normal effects.
    assert abs(slope - SLOPE) < 0.06
    assert naive > slope + 0.02


def test_launches_fade_as_written_and_the_held_out_missed_the_last_half_year(companies: list[Listening]) -> None:
    for company in companies[:20]:
        launched = company.truth.launches
        share = launched.path[-1] / launched.coverage[-1]
        assert (launched.coverage[-1] == 1).all()
        assert ((share >= 0.5 - 1e-12) & (share <= 1)).all()
        np.testing.assert_array_equal(share[launched.remaining == 1], 1)
        late = launched.first_week >= WEEKS - HOLDOUT_WEEKS
        named = set(company.holdout["launch_keys"])
        assert named == {key for key, is_late in zip(launched.keys, late, strict=True) if is_late}
        last = (launched.path * launched.theta)[WEEKS - 1]
        assert company.truth.holdout.true_log_lift == pytest.approx(last[late].sum())
    faded = np.concatenate([company.truth.launches.remaining < 1 for company in companies])
    assert abs(faded.mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / faded.size)
