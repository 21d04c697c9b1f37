"""The synthetic company: reproducible, faithful to its own truth, and telling a believable story (METHODS I2)."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import scipy.special as sc

from experiments.definitions import ExperimentSpec, LaunchSpec, MetricSpec, NorthStarSpec
from stats.company import Company, generate
from stats.company.definitions import COMPONENTS, NORTH_STAR_FORMULA
from stats.formula import parse

START = date(2026, 1, 5)
WINDOW = np.timedelta64(7, "D")
BROKEN = "loyalty_points"  # loses exposures: its observed means are biased on purpose
TINY = "gift_cards"  # too few units for a normal approximation


@pytest.fixture(scope="module")
def company() -> Company:
    return generate(START)


def lift_errors(company: Company, skip: tuple[str, ...]) -> np.ndarray:
    """z of every (experiment x treatment, metric): difference of log means minus the truth, over its standard error."""
    names, who = np.unique(company.events["unit_id"], return_inverse=True)
    at, order = company.events["occurred_at"], company.events["event"] == "order"
    end = np.datetime64(company.ended_at.replace(tzinfo=None), "us")
    rows = []
    for record in company.experiments:
        key = record.spec["key"]
        if key in skip:
            continue
        mine = (company.exposures["experiment_key"] == key) & (company.exposures["exposed_at"] + WINDOW <= end)
        units, exposed = company.exposures["unit_id"][mine], company.exposures["exposed_at"][mine]
        variants = company.exposures["variant_key"][mine]
        place = np.full(names.size + 1, -1)
        slot = np.searchsorted(names, units)
        slot[(slot == names.size) | (names[np.minimum(slot, names.size - 1)] != units)] = names.size
        place[slot[slot < names.size]] = np.flatnonzero(slot < names.size)
        unit = place[who]
        inside = (unit >= 0) & (at >= exposed[unit]) & (at < exposed[unit] + WINDOW)
        count = units.size
        totals = {
            "sessions": np.bincount(unit[inside & ~order], minlength=count),
            "orders": np.bincount(unit[inside & order], minlength=count),
            "revenue": np.bincount(unit[inside & order], company.events["value"][inside & order], minlength=count),
        }
        totals["active"] = (totals["sessions"] > 0).astype(float)
        truth = {(t.variant_key, t.metric_key): t.log_lift for t in company.truth
                 if t.experiment_key == key and not t.dimension}  # fmt: skip
        control, *others = [variant["key"] for variant in record.spec["variants"]]
        for variant in others:
            z = []
            for metric, (top, bottom) in COMPONENTS.items():
                estimates = [log_mean(totals[top][variants == arm], None if bottom is None
                                      else totals[bottom][variants == arm]) for arm in (control, variant)]  # fmt: skip
                (before, noise_before), (after, noise_after) = estimates
                z.append((after - before - truth[variant, metric]) / np.sqrt(noise_before + noise_after))
            rows.append(z)
    return np.array(rows)


def log_mean(top: np.ndarray, bottom: np.ndarray | None) -> tuple[float, float]:
    """Log of a mean or ratio of means, and its delta-method variance."""
    bottom = np.ones(top.size) if bottom is None else bottom
    residual = top / top.mean() - bottom / bottom.mean()
    return float(np.log(top.mean() / bottom.mean())), float(residual.var(ddof=1) / top.size)


def test_the_same_seed_gives_identical_arrays_and_another_seed_does_not() -> None:
    first, again, other = generate(START, users=800), generate(START, users=800), generate(START, users=800, seed=1)
    for table in ("exposures", "events"):
        for column, values in getattr(first, table).items():
            np.testing.assert_array_equal(values, getattr(again, table)[column])
    assert first.truth == again.truth
    assert first.experiments == again.experiments
    assert first.events["unit_id"].size != other.events["unit_id"].size


def test_moving_the_start_moves_every_timestamp_and_nothing_else() -> None:
    first, later = generate(START, users=800), generate(date(2026, 3, 2), users=800)
    shift = np.timedelta64(56, "D")
    np.testing.assert_array_equal(first.events["occurred_at"] + shift, later.events["occurred_at"])
    np.testing.assert_array_equal(first.events["value"], later.events["value"])
    assert first.truth == later.truth


def test_tables_have_the_promised_size_order_and_range(company: Company) -> None:
    rows = company.events["unit_id"].size + company.exposures["unit_id"].size
    assert 500_000 < rows <= 1_500_000
    begin, end = (np.datetime64(t.replace(tzinfo=None), "us") for t in (company.started_at, company.ended_at))
    for table, column in ((company.events, "occurred_at"), (company.exposures, "exposed_at")):
        assert len({values.size for values in table.values()}) == 1
        assert (np.diff(table[column]) >= np.timedelta64(0, "us")).all()
        assert table[column][0] >= begin
        assert table[column][-1] < end
    assert set(np.unique(company.events["event"])) == {"session", "order"}
    assert (company.events["value"][company.events["event"] == "order"] > 0).all()
    assert np.unique(company.exposures["country"]).size == 5
    assert np.unique(company.exposures["platform"]).size == 3


def test_each_user_is_exposed_once_per_experiment_and_never_before_it_starts_or_after_it_ends(company: Company) -> None:
    pairs = np.char.add(company.exposures["experiment_key"], company.exposures["unit_id"])
    assert np.unique(pairs).size == pairs.size
    for record in company.experiments:
        at = company.exposures["exposed_at"][company.exposures["experiment_key"] == record.spec["key"]]
        assert at.min() >= np.datetime64(record.started_at.replace(tzinfo=None), "us")
        if record.ended_at is not None:
            assert at.max() + WINDOW <= np.datetime64(record.ended_at.replace(tzinfo=None), "us")


def test_the_story_has_everything_a_review_needs(company: Company) -> None:
    assert len(company.experiments) == 12
    assert sum(record.ended_at is None for record in company.experiments) == 2
    assert {len(record.spec["variants"]) for record in company.experiments} == {2, 3}
    assert [bool(launch.spec["experiment_key"]) for launch in company.launches] == [True, True, False, False]
    overall = {(t.experiment_key, t.variant_key): t.log_lift for t in company.truth
               if t.metric_key == "orders" and not t.dimension}  # fmt: skip
    assert sum(abs(lift) < 1e-12 for lift in overall.values()) >= 2
    assert sum(lift < -0.03 for lift in overall.values()) >= 2
    for launch in company.launches[:2]:
        assert overall[launch.spec["experiment_key"], launch.spec["shipped_variant"]] > 0.1


def test_every_definition_is_accepted_by_the_registry(company: Company) -> None:
    metrics = {MetricSpec.model_validate(metric).key for metric in company.metrics}
    star = NorthStarSpec.model_validate(company.north_star)
    assert parse(star.formula, metrics).names == tuple(item.metric_key for item in star.input_metrics)
    assert star.formula == NORTH_STAR_FORMULA
    sources = {source["key"] for source in company.fact_sources}
    for metric in company.metrics:
        measures = [metric[part] for part in ("measure", "numerator", "denominator") if part in metric]
        assert {measure["fact_source"] for measure in measures} <= sources
    for record in company.experiments:
        spec = ExperimentSpec.model_validate(record.spec)
        assert {use.metric_key for use in spec.metrics} == metrics
    for launch in company.launches:
        LaunchSpec.model_validate(launch.spec)


def test_the_truth_of_the_tree_is_coherent_and_effects_stay_on_their_input(company: Company) -> None:
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for t in company.truth:
        rows.setdefault((t.experiment_key, t.variant_key, t.dimension, t.level), {})[t.metric_key] = t.log_lift
    for lifts in rows.values():
        product = lifts["active_users"] + lifts["sessions_per_active_user"] + lifts["orders_per_session"]
        assert abs(product - lifts["orders"]) < 1e-10
        assert abs(lifts["orders"] + lifts["order_value"] - lifts["revenue"]) < 1e-10
    assert rows["search_ranking", "treatment", "", ""]["orders_per_session"] == pytest.approx(0.03, abs=1e-3)
    assert rows["price_badge", "treatment", "", ""]["order_value"] == pytest.approx(-0.04, abs=1e-9)
    assert all(abs(lift) < 1e-12 for lift in rows["dark_mode", "treatment", "", ""].values())
    reorder = {level: rows["one_click_reorder", "one_click", "platform", level]["orders"] for level in ("ios", "web")}
    assert reorder == {"ios": pytest.approx(0.234, abs=0.01), "web": pytest.approx(0.09, abs=0.01)}


def srm_p_values(company: Company) -> dict[str, float]:
    found = {}
    for record in company.experiments:
        mine = company.exposures["variant_key"][company.exposures["experiment_key"] == record.spec["key"]]
        observed = np.array([(mine == variant["key"]).sum() for variant in record.spec["variants"]])
        expected = np.array([variant["weight"] for variant in record.spec["variants"]]) * observed.sum()
        found[record.spec["key"]] = float(sc.chdtrc(observed.size - 1, ((observed - expected) ** 2 / expected).sum()))
    return found


def test_only_the_experiment_that_loses_exposures_has_a_sample_ratio_mismatch(company: Company) -> None:
    found = srm_p_values(company)
    assert found.pop(BROKEN) < 1e-6
    assert min(found.values()) > 0.0005


def judge(z: np.ndarray) -> None:
    """Metrics of one arm are correlated, so arms are the independent unit of every tolerance."""
    arms = len(z)
    covered = (np.abs(z) < 1.959964).mean(1)
    assert abs(covered.mean() - 0.95) < 3 * covered.std(ddof=1) / np.sqrt(arms) + 0.005
    assert np.all(np.abs(z.mean(0)) < 3.5 / np.sqrt(arms))
    assert np.all(np.abs(z.std(0) - 1) < 3.5 / np.sqrt(2 * arms))


def test_differences_of_log_means_cover_the_true_lifts() -> None:
    judge(np.concatenate([lift_errors(generate(START, seed=s, users=6000), (BROKEN, TINY)) for s in range(8)]))


@pytest.mark.simulation
def test_differences_of_log_means_cover_the_true_lifts_over_many_companies() -> None:
    judge(np.concatenate([lift_errors(generate(START, seed=s), (BROKEN, TINY)) for s in range(100, 120)]))
