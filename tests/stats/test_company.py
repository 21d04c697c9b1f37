"""The synthetic company: reproducible, faithful to its own truth, and telling a believable story (METHODS I2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pytest
import scipy.special as sc

from experiments.definitions import ExperimentSpec, LaunchSpec, MetricSpec, NorthStarSpec
from stats.company import Company, generate
from stats.company.business import Business
from stats.company.definitions import COMPONENTS, NORTH_STAR_FORMULA
from stats.company.listening import generate as listening
from stats.company.member_story import MEMBER_TRIALS
from stats.company.members import Cohort, cohorts, facts, ignoring_stages, member_lifts
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
        for column, values in getattr(first.business, table).items():
            np.testing.assert_array_equal(values, getattr(again.business, table)[column])
    assert first.truth == again.truth
    assert first.business.truth == again.business.truth
    assert first.experiments == again.experiments
    assert first.launches == again.launches
    for mine, same in zip(first.series, again.series, strict=True):
        for column, values in mine.values.items():
            np.testing.assert_array_equal(values, same.values[column])
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
    assert [bool(launch.spec.get("experiment_key")) for launch in company.launches] == [True, True, *[False] * 7]
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
    sources = {source["key"] for source in company.business.fact_sources}
    known = {MetricSpec.model_validate(metric).key for metric in company.business.metrics}
    assert {metric["measure"]["fact_source"] for metric in company.business.metrics} <= sources
    for record in company.business.experiments:
        spec = ExperimentSpec.model_validate(record.spec)
        assert {use.metric_key for use in spec.metrics} <= known
        assert spec.trigger is None or spec.trigger.fact_source in sources


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


def test_the_listening_service_is_of_the_same_seed_and_ends_with_the_company(company: Company) -> None:
    told = company.listening
    assert timedelta(0) <= company.ended_at - told.ended_at < timedelta(weeks=1)
    same = listening(company.ended_at)
    np.testing.assert_array_equal(told.truth.weeks.hours, same.truth.weeks.hours)
    mine = {record.spec["key"] for record in told.experiments}
    assert not mine & {record.spec["key"] for record in (*company.experiments, *company.business.experiments)}
    sources = (*company.fact_sources, *company.business.fact_sources)
    assert not {source["key"] for source in told.fact_sources} & {source["key"] for source in sources}
    metrics = (*company.metrics, *company.business.metrics)
    assert not {metric["key"] for metric in told.metrics} & {metric["key"] for metric in metrics}
    assert not {each.spec["key"] for each in told.series} & {each.spec["key"] for each in company.series}
    assert not {each.spec["key"] for each in told.launches} & {each.spec["key"] for each in company.launches}


@pytest.fixture(scope="module")
def members(company: Company) -> Business:
    return company.business


@pytest.fixture(scope="module")
def lives() -> dict[str, Cohort]:
    return {cohort.trial.key: cohort for cohort in cohorts(20260101, 20_000)}


def test_the_business_has_an_experiment_for_every_option_of_a_plan(members: Business) -> None:
    specs = {record.spec["key"]: ExperimentSpec.model_validate(record.spec) for record in members.experiments}
    assert len(specs) == len(MEMBER_TRIALS) == 11
    assert specs["pipeline_check"].purpose == "aa"
    assert specs["team_baskets"].cluster == "account"
    assert specs["trust_marks"].trigger is not None
    assert specs["free_delivery"].two_way_segments == [("country", "platform")]
    assert specs["quick_quotes"].estimation.sequential.method == "group_sequential"
    assert specs["new_editor"].estimation.decision_rule == "do_no_harm"
    assert [record.spec["key"] for record in members.experiments if record.ramp] == ["new_search"]
    early = [r.spec["key"] for r in members.experiments if r.ended_at != specs[r.spec["key"]].planned_end_at]
    assert early == ["quick_quotes"]
    assert {metric["kind"] for metric in members.metrics} == {"proportion", "mean", "quantile", "survey"}


def test_members_are_exposed_and_act_within_the_data(company: Company, members: Business) -> None:
    begin, end = (np.datetime64(t.replace(tzinfo=None), "us") for t in (company.started_at, company.ended_at))
    for at in (members.exposures["exposed_at"], members.events["occurred_at"]):
        assert (np.diff(at) >= np.timedelta64(0, "us")).all()
        assert at[0] >= begin and at[-1] < end
    pairs = np.char.add(members.exposures["experiment_key"], members.exposures["unit_id"])
    assert np.unique(pairs).size == pairs.size
    assert not set(np.unique(members.events["unit_id"])) & set(np.unique(company.events["unit_id"]))


def test_an_account_has_one_variant(members: Business) -> None:
    mine = members.exposures["experiment_key"] == "team_baskets"
    accounts, variants = members.exposures["account"][mine], members.exposures["variant_key"][mine]
    assert all(np.unique(variants[accounts == account]).size == 1 for account in np.unique(accounts))


def test_ignoring_the_stages_of_the_ramp_turns_a_gain_into_a_loss(lives: dict[str, Cohort]) -> None:
    assert member_lifts(lives["new_search"])["buyers"] == pytest.approx(0.12, abs=1e-9)
    assert ignoring_stages(lives["new_search"]) < -0.02


def test_two_experiments_on_the_same_members_get_in_each_other_s_way(lives: dict[str, Cohort]) -> None:
    lists, reminders = lives["saved_lists"], lives["reminders"]
    np.testing.assert_array_equal(lists.buying, reminders.buying)
    np.testing.assert_array_equal(lists.chance(lists.arm), reminders.chance(reminders.arm))
    alone = np.log(lists.chance(1)[lists.other == 0].mean() / lists.chance(0)[lists.other == 0].mean())
    beside = np.log(lists.chance(1)[lists.other == 1].mean() / lists.chance(0)[lists.other == 1].mean())
    assert (alone, beside) == (pytest.approx(0.25), pytest.approx(-0.1))
    assert 0 < member_lifts(lists)["buyers"] < 0.1


def test_members_buy_and_wait_as_their_truth_says() -> None:
    """Plain estimates over companies: z of every lift in buyers, of the latency and of the score."""
    z: dict[str, list[float]] = {"buyers": [], "page_latency": [], "nps": []}
    for seed in range(8):
        for cohort, seen in lived(seed):
            for key, found in seen.items():
                if key in member_lifts(cohort) and len(cohort.trial.ramp) == 1 and not cohort.trial.by_account:
                    z[key].append((found[0] - member_lifts(cohort)[key]) / found[1])
    for key, values in z.items():
        assert abs(np.mean(values)) < 3.5 / np.sqrt(len(values)), key
        assert 0.6 < np.std(values) < 1.4, key


def lived(seed: int) -> Iterator[tuple[Cohort, dict[str, tuple[float, float]]]]:
    """Cohorts with the log lifts that a plain comparison of their facts shows, and standard errors of these."""
    for number, cohort in enumerate(cohorts(seed, 8000)):
        if cohort.trial.beside is not None:
            continue
        done = facts(cohort, np.random.default_rng([seed, number]))
        inside = done.seconds >= cohort.counts_from[done.member]
        arms = [(cohort.arm == arm) & np.isfinite(cohort.counts_from) for arm in (0, 1)]
        bought = np.bincount(done.member[inside & (done.event == "purchase")], minlength=cohort.arm.size)
        assert bought.max() == 1
        logs = [log_mean(bought[arm].astype(float), None) for arm in arms]
        seen = {"buyers": (logs[1][0] - logs[0][0], float(np.sqrt(logs[0][1] + logs[1][1])))}
        pages, answers = done.event == "page_view", done.event == "survey_answer"
        if pages.any():
            latency = np.log(done.value[pages])
            of = cohort.arm[done.member[pages]]
            q = [np.quantile(latency[of == arm], 0.9) for arm in (0, 1)]
            # Pages of one member are alike: three of them tell about as much as one of as many members.
            effective = [(of == arm).sum() / 3 for arm in (0, 1)]
            density = 0.175 / latency.std()
            seen["page_latency"] = (q[1] - q[0], float(np.sqrt(sum(0.09 / n for n in effective)) / density))
        if answers.any():
            net = np.where(done.value >= 9, 1.0, np.where(done.value <= 6, -1.0, 0.0))
            of = cohort.arm[done.member]
            scores = [log_mean(net[answers & (of == arm)], None) for arm in (0, 1)]
            seen["nps"] = (scores[1][0] - scores[0][0], float(np.sqrt(scores[0][1] + scores[1][1])))
        yield cohort, seen


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
    judge(np.concatenate([lift_errors(generate(START, seed=s, users=6000), (BROKEN, TINY)) for s in range(2)]))


@pytest.mark.simulation
def test_differences_of_log_means_cover_the_true_lifts_over_many_companies() -> None:
    judge(np.concatenate([lift_errors(generate(START, seed=s), (BROKEN, TINY)) for s in range(100, 120)]))
