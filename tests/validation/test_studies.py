"""The validation tables with fewer replications: the same cells, with the tolerance that fewer replications leave.

`make validation` runs them in full and writes docs/validation.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.servers import REPOSITORY
from tests.validation import (
    clusters,
    cuped,
    decisions,
    funnel_steps,
    impact_ahead,
    impact_effects,
    impact_engines,
    impact_ledger,
    impact_links,
    impact_programme,
    impact_screens,
    launches_before_after,
    launches_by_lot,
    launches_donors,
    launches_grades,
    launches_staggered,
    launches_synthetic,
    learned_priors,
    metric_kinds,
    multiplicity,
    null_experiments,
    power,
    quantiles,
    ranks,
    sample_ratio,
    sequential,
    sequential_methods,
    size_and_coverage,
)
from tests.validation.cells import Cell
from tests.validation.report import markdown, read_cells, write_cells
from tests.validation.studies import REPORTS, Report


def outside(cells: Sequence[Cell]) -> list[str]:
    """Cells beyond their tolerance of which the engine does not warn."""
    assert cells
    return [f"{c.name} is {c.observed:.4f}, not {c.nominal:g} ({c.tolerance:.4f})" for c in cells if c.status == "FAIL"]


@pytest.mark.parametrize(
    "estimator",
    [
        size_and_coverage.means,
        size_and_coverage.ratios,
        size_and_coverage.adjusted_means,
        size_and_coverage.stratified_means,
    ],
)
def test_estimators_keep_size_and_coverage_or_warn(estimator: Callable[..., list[Cell]]) -> None:
    cells = estimator(0.08, (200, 2_000))
    assert outside(cells) == []
    assert Counter(cell.status for cell in cells)["warn"] > 0


def test_proportions_keep_size_at_small_counts() -> None:
    assert outside(size_and_coverage.proportions(0.05, (200, 2_000))) == []


def test_unequal_clusters_keep_the_size() -> None:
    assert outside(clusters.type_one_error(0.03)) == []


def test_quantiles_of_clustered_events_keep_the_size() -> None:
    assert outside(quantiles.sizes(0.03, (200, 2_000))) == []


def test_covariates_take_away_the_variance_that_theory_says() -> None:
    assert outside(cuped.variance_ratios(0.06)) == []


def test_the_sample_ratio_may_be_watched_every_day() -> None:
    assert outside([*sample_ratio.false_alarms(0.03), *sample_ratio.detection(0.1)]) == []


def test_looks_keep_the_type_one_error() -> None:
    assert outside([*sequential.type_one_error(0.02), *sequential.open_ended(0.1)]) == []


def test_a_clock_that_counts_users_of_an_open_ended_metric_would_not() -> None:
    cells = [cell for cell in sequential.open_ended(0.1) if "counts users" in cell.quantity]
    assert all(cell.observed > 0.1 for cell in cells) and cells


def test_methods_have_the_errors_power_and_duration_they_are_chosen_for() -> None:
    assert outside(sequential_methods.methods(0.2)) == []


def test_designs_have_the_power_they_promise() -> None:
    assert outside(power.designs(0.15)) == []


def test_a_margin_is_kept_where_not_significantly_worse_is_not() -> None:
    assert outside(power.margins(0.1)) == []


def test_the_decision_rule_ships_what_is_good_and_hardly_anything_else() -> None:
    assert outside(decisions.decision_rule(0.25)) == []


def test_corrections_control_false_claims_under_dependence() -> None:
    assert outside(multiplicity.false_claims(0.3)) == []


@pytest.mark.simulation
def test_experiments_without_effect_are_not_shipped_nor_rolled_back() -> None:
    assert outside(null_experiments.decisions(0.015)) == []


@pytest.mark.simulation
@pytest.mark.parametrize("study", [metric_kinds.kinds, metric_kinds.two_looks, funnel_steps.shares])
def test_every_kind_of_metric_keeps_size_and_coverage(study: Callable[[float], list[Cell]]) -> None:
    assert outside(study(0.1)) == []


@pytest.mark.simulation
def test_a_learned_prior_serves_the_next_experiment_whatever_the_population() -> None:
    assert outside(learned_priors.next_experiments(0.03)) == []


def test_truths_rank_uniformly_in_their_closed_posteriors() -> None:
    assert outside(ranks.closed_forms(0.1)) == []


@pytest.mark.simulation
def test_truths_rank_uniformly_in_their_sampled_posteriors() -> None:
    assert outside(ranks.sampled(0.3, ("beta_binomial",))) == []


def test_what_is_printed_of_a_launch_for_everybody_holds_where_least_squares_fails() -> None:
    cells = launches_before_after.no_effect(0.01)
    assert outside(cells) == []
    drift = [c for c in cells if c.case == {"noise": "drift"} and c.quantity.startswith("least squares")]
    assert len(drift) == 2
    assert all(cell.observed < 0.8 for cell in drift)


def test_rollouts_in_waves_are_measured_right_where_two_way_regression_is_not() -> None:
    found = {cell.case["method"]: cell for cell in launches_staggered.growing_effects()}
    assert outside(list(found.values())) == []
    assert found["two-way regression"].nominal == pytest.approx(1.257, abs=1e-3)
    assert found["two-way regression"].observed == pytest.approx(0.839, abs=1e-3)
    assert outside([*launches_staggered.waves(0.01), *launches_staggered.anticipation(0.01)]) == []


def test_trends_that_part_are_allowed_for_and_orders_by_lot_ranked() -> None:
    assert outside([*launches_staggered.parting_trends(0.01), *launches_staggered.order_by_lot(0.01)]) == []


def test_synthetic_controls_hold_and_name_donors_that_were_reached() -> None:
    cells = launches_synthetic.panels(0.01, ("synthetic_control", "synthetic_did"))
    assert outside([*cells, *launches_synthetic.spill_over(0.01)]) == []


def test_forecasts_from_donors_hold() -> None:
    assert outside(launches_donors.forecasts(0.01)) == []


def test_launches_by_lot_hold_with_enough_burn_in() -> None:
    assert outside([*launches_by_lot.blocks_of_time(0.01), *launches_by_lot.stages(0.01)]) == []


def test_the_whole_chain_gives_designs_their_grade_and_sees_what_spoils_them() -> None:
    expected = {"everybody at once, drift": "D", "switched on and off by lot": "B", "in stages by lot": "A"}
    seen = {"its trend parts by 0.3 % a day": "D", "in stages, 15 % of units with it are lost": "U"}
    cells = [*launches_grades.sound(0.01, tuple(expected)), *launches_grades.spoiled(0.01, tuple(seen))]
    assert outside(cells) == []
    given = {cell.case["launch"]: cell.quantity for cell in cells if cell.table == launches_grades.GRADES}
    assert given == {launch: f"grade {letter}" for launch, letter in (expected | seen).items()}


def test_screens_of_a_programme_hold_the_truth_where_the_naive_sum_does_not() -> None:
    cells = impact_screens.measured(0.05)
    assert outside(cells) == []
    held = {cell.case["screen"]: cell.observed for cell in cells if cell.quantity == "coverage"}
    assert held["programme total, naive sum"] < 0.5 < held["programme total"]


def test_people_who_are_not_average_are_the_share_of_the_metric_that_they_are() -> None:
    assert outside(impact_effects.toplines(0.02)) == []


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("study", "part"),
    [
        (impact_screens.reconciled, 0.1),
        (impact_screens.ahead, 0.1),
        (impact_screens.sums, 0.1),
        (impact_effects.lasting, 0.2),
        (impact_effects.projections, 0.2),
        (impact_effects.blends, 0.2),
        (impact_programme.totals, 0.2),
        (impact_ledger.matched, 0.1),
        (impact_ledger.stress, 0.2),
        (impact_ahead.stagnation, 0.2),
        (impact_ahead.forecasts, 0.3),
        (impact_engines.engines, 0.25),
        (impact_links.slopes, 0.1),
        (impact_links.companies, 0.2),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_company_level_keeps_what_it_promises(study: Callable[[float], list[Cell]], part: float) -> None:
    assert outside(study(part)) == []


@pytest.mark.parametrize("report", REPORTS, ids=[report.name for report in REPORTS])
def test_the_published_tables_hold_every_study_and_no_failure(report: Report, tmp_path: Path) -> None:
    published = REPOSITORY / "docs" / "validation" / f"{report.name}.csv"
    cells = read_cells(published)
    assert list(cells) == [study.name for study in report.studies]
    assert outside([cell for found in cells.values() for cell in found]) == []
    again = tmp_path / "again.csv"
    write_cells(again, cells)
    assert read_cells(again).keys() == cells.keys()
    text = (REPOSITORY / "docs" / "validation" / f"{report.name}.md").read_text()
    headline = next(line for line in markdown(report, cells, {}).splitlines() if "cells pass" in line)
    assert headline in text
