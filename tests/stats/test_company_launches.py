"""Launches of the synthetic company: what is told of them is well formed, and what is true of them shows (I2)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from experiments.definitions import LaunchSpec, SeriesSpec
from experiments.series_table import PERIOD, start_of_period
from stats.company import Company, SeriesRecord, generate
from stats.company.deliveries import CITIES, DISPATCH, EVENING, PACKAGING, deliveries
from stats.company.records import Calendar
from stats.company.store import REFIT, store

START = datetime(2026, 1, 5, 13, 17, tzinfo=UTC)
USERS = 3000
CALENDAR = Calendar.within(START, START + timedelta(days=182))
SEEDS = range(12)


@pytest.fixture(scope="module")
def company() -> Company:
    return generate(START, users=USERS)


def of_key(series: tuple[SeriesRecord, ...], key: str) -> SeriesRecord:
    return next(record for record in series if record.spec["key"] == key)


def logs_of_cities(record: SeriesRecord) -> np.ndarray:
    """(cities, days) logs of the counts."""
    assert record.values["segment"].reshape(len(CITIES), -1)[:, 0].tolist() == list(CITIES)
    return np.log(record.values["value"].reshape(len(CITIES), -1))


def test_series_and_launches_are_accepted_by_the_registry(company: Company) -> None:
    series = {record.spec["key"]: SeriesSpec.model_validate(record.spec) for record in company.series}
    metrics = {metric["key"] for metric in company.metrics}
    for record in company.series:
        spec = series[record.spec["key"]]
        assert (spec.source == "facts") == (not record.values)
        assert spec.metric_key is None or spec.metric_key in metrics
    for launch in company.launches:
        assert {item.series_key for item in LaunchSpec.model_validate(launch.spec).measurements} == set(
            launch.true_lifts
        )
        for item in LaunchSpec.model_validate(launch.spec).measurements:
            assert {series[key].role for key in item.regressors} <= {"regressor"}
            assert {series[key].role for key in (item.series_key, *item.controls)} == {"outcome"}


def test_every_kind_of_rollout_is_there_and_one_launch_is_blind(company: Company) -> None:
    specs = [LaunchSpec.model_validate(launch.spec) for launch in company.launches]
    kinds = {(spec.rollout[0].mechanism, bool(spec.rollout[0].segments), len(spec.rollout) > 1) for spec in specs}
    assert kinds == {
        ("random", False, True),
        ("random", True, True),
        ("ordered", True, False),
        ("all_at_once", False, False),
    }
    assert [spec.key for spec in specs if not spec.measurements] == ["launch_new_logo"]
    assert sum(spec.experiment_key is not None for spec in specs) == 2


def test_pushed_values_are_of_whole_periods_within_the_data_each_once(company: Company) -> None:
    for record in company.series:
        if not record.values:
            continue
        grain = SeriesSpec.model_validate(record.spec).grain
        assert len({column.size for column in record.values.values()}) == 1
        cells = list(zip(record.values["segment"], record.values["at"], strict=True))
        assert len(set(cells)) == len(cells)
        moments = [at.astype("datetime64[s]").item().replace(tzinfo=UTC) for at in np.unique(record.values["at"])]
        assert all(start_of_period(at, grain) == at for at in moments)
        assert company.started_at <= moments[0] and moments[-1] + PERIOD[grain] <= company.ended_at
        assert np.isfinite(record.values["value"]).all() and (record.values["value"][:1] > 0).all()


def test_the_same_seed_tells_the_same_story_at_any_time() -> None:
    later = Calendar(CALENDAR.first + timedelta(days=14), CALENDAR.days)
    for tell in (deliveries, store):
        (first, launches), (again, others), (moved, _), (strange, _) = (
            tell(calendar, seed) for calendar, seed in ((CALENDAR, 1), (CALENDAR, 1), (later, 1), (CALENDAR, 2))
        )
        assert launches == others
        for mine, same, shifted, other in zip(first, again, moved, strange, strict=True):
            for name, column in mine.values.items():
                np.testing.assert_array_equal(column, same.values[name])
            np.testing.assert_array_equal(mine.values["at"] + np.timedelta64(14, "D"), shifted.values["at"])
            np.testing.assert_array_equal(mine.values["value"], shifted.values["value"])
            assert not np.array_equal(mine.values["value"], other.values["value"])


def test_a_company_that_begins_at_midnight_has_all_its_days() -> None:
    midnight = Calendar.within(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 7, 6, tzinfo=UTC))
    assert (midnight.days, CALENDAR.days) == (182, 181)
    assert CALENDAR.first.date() == date(2026, 1, 6)


def test_truths_on_series_are_those_of_the_behaviours_and_of_the_experiments(company: Company) -> None:
    truth = {launch.spec["key"]: next(iter(launch.true_lifts.values()), None) for launch in company.launches}
    assert truth["launch_new_logo"] is None
    assert truth["launch_new_home"] == pytest.approx(-0.03, abs=1e-9)
    assert truth["launch_faster_app"] == pytest.approx(0.03, abs=0.001)
    # Who is busy cannot be on more days than there are.
    assert 0.155 < truth["launch_onboarding_checklist"] < 0.16 + 1e-9
    assert truth["launch_evening_delivery"] == EVENING
    tried = {(t.experiment_key, t.variant_key): t.log_lift for t in company.truth
             if t.metric_key == "orders" and not t.dimension}  # fmt: skip
    for launch in company.launches[:2]:
        expected = tried[launch.spec["experiment_key"], launch.spec["shipped_variant"]]
        assert truth[launch.spec["key"]] == pytest.approx(expected, abs=0.03)


def test_events_know_the_country_of_their_user(company: Company) -> None:
    users, first = np.unique(company.events["unit_id"], return_index=True)
    place = np.searchsorted(users, company.exposures["unit_id"])
    inside = (place < users.size) & (users[np.minimum(place, users.size - 1)] == company.exposures["unit_id"])
    np.testing.assert_array_equal(company.events["country"][first][place[inside]], company.exposures["country"][inside])


def error_of_the_staged_rollout(told: Company) -> float:
    """How far the arms' difference is from its truth, in standard errors."""
    truth = next(launch for launch in told.launches if launch.spec["key"] == "launch_faster_app").true_lifts
    (on, off), (n_on, n_off), (v_on, v_off) = (
        of_key(told.series, "sessions_by_arm").values[name] for name in ("value", "n", "variance")
    )
    assert abs(n_on - n_off) < 4 * np.sqrt(n_on + n_off)
    error = np.sqrt(v_on / n_on / on**2 + v_off / n_off / off**2)
    return float((np.log(on / off) - truth["sessions_by_arm"]) / error)


def test_arms_of_the_staged_rollout_differ_by_its_effect(company: Company) -> None:
    assert abs(error_of_the_staged_rollout(company)) < 3.5


@pytest.mark.simulation
def test_arms_of_staged_rollouts_differ_by_their_effect_over_many_companies() -> None:
    z = [error_of_the_staged_rollout(generate(START, seed=seed, users=USERS)) for seed in range(40)]
    assert abs(np.mean(z)) < 3.5 / np.sqrt(len(z))
    assert abs(np.std(z) - 1) < 3.5 / np.sqrt(2 * len(z))


def test_cities_with_a_launch_part_from_the_others_by_its_effect() -> None:
    evening, packaging, lots = [], [], set()
    for seed in SEEDS:
        series, launches = deliveries(CALENDAR, seed)
        waves = [step["segments"] for step in launches[0].spec["rollout"]]
        assert [len(wave) for wave in waves] == [7, 8, 7] and len({city for wave in waves for city in wave}) == 22
        lots.add(tuple(waves[0]))
        never = np.array([city not in {name for wave in waves for name in wave} for city in CITIES])
        first = np.isin(CITIES, waves[0])
        change = logs_of_cities(series[0])[:, 98:119].mean(1) - logs_of_cities(series[0])[:, :98].mean(1)
        evening.append(change[first].mean() - change[never].mean())
        chosen = np.isin(CITIES, launches[1].spec["rollout"][0]["segments"])
        change = logs_of_cities(series[1])[:, 133:].mean(1) - logs_of_cities(series[1])[:, :133].mean(1)
        packaging.append(change[chosen].mean() - change[~chosen].mean())
    assert len(lots) == len(SEEDS)
    for found, truth in ((evening, EVENING), (packaging, PACKAGING)):
        assert abs(np.mean(found) - truth) < 3.5 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_the_dispatch_is_on_for_half_of_the_blocks_and_faster_then() -> None:
    found = []
    for seed in SEEDS:
        series, launches = deliveries(CALENDAR, seed)
        *blocks, last = launches[2].spec["rollout"]
        state = np.array([step["coverage"] for step in blocks])
        assert state.mean() == 0.5 and last["mechanism"] == "all_at_once"
        logs = np.log(series[2].values["value"])[24 * 14 :][: 12 * state.size].reshape(-1, 14, 12)
        on = np.broadcast_to(state.reshape(-1, 14)[:, :, None], logs.shape)
        logs, on = logs - logs.mean(0), on - on.mean(0)
        found.append(float((logs * on).sum() / (on**2).sum()))
    # Every other block begins with an hour of the other state, which counts once where it is and once where it is not.
    assert abs(np.mean(found) - DISPATCH * 11 / 12) < 3.5 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_the_shop_parts_from_the_partner_by_the_effect_once_the_weather_is_known() -> None:
    found = []
    for seed in SEEDS:
        (revenue, partner, weather), _ = store(CALENDAR, seed)
        days = np.arange(CALENDAR.days)
        columns = [weather.values["value"], days >= 133, *((days % 7 == day) for day in range(7))]
        gap = np.log(revenue.values["value"]) - np.log(partner.values["value"])
        found.append(np.linalg.lstsq(np.column_stack(columns).astype(float), gap)[0][1])
    assert abs(np.mean(found) - REFIT) < 3.5 * np.std(found, ddof=1) / np.sqrt(len(found))
