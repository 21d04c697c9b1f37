"""What the listening service would have planned, made without a database, is what the ledger is told."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from experiments.evidence.review.data import told as ledger_data
from stats.company.listening import Listening, generate
from stats.company.listening.definitions import HOURS, SAVES
from stats.company.listening.story import BROKEN, IDEAS, PEEKED, RUNNING, WEEKS
from tests.listening_plans import links_plan, programme_plan, review_plan


@pytest.fixture(scope="module")
def service() -> Listening:
    return generate(date(2026, 5, 27), seed=1)


def test_the_programme_counts_every_ended_experiment_that_can_be_trusted(service: Listening) -> None:
    plan = programme_plan(service)
    keys = {effect.experiment_key for effect in plan.effects}
    assert keys == {idea.key for idea in IDEAS} - {BROKEN, *RUNNING}
    assert [missing.experiment_key for missing in plan.missing] == [BROKEN]
    assert sum(effect.shipped for effect in plan.effects) == service.truth.trials.shipped.sum()
    assert {effect.experiment_key for effect in plan.effects if effect.evidence_grade != "A"} == {PEEKED}
    assert all((effect.launch_key is not None) == effect.shipped for effect in plan.effects)


def test_links_can_be_asked_of_the_inputs_and_of_what_only_moves_along(service: Listening) -> None:
    plan = links_plan(service)
    assert {len(effect.log_lifts) for effect in plan.effects} == {4}
    for effect in plan.effects:
        assert effect.log_lifts[0] == pytest.approx(sum(effect.log_lifts[1:]), abs=1e-12)
    for effect in links_plan(service, (SAVES,)).effects:
        covariance = np.array(effect.covariance)
        assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) == pytest.approx(0.8, abs=0.01)


def test_the_ledger_is_told_of_the_weeks_the_launches_and_the_holdout(service: Listening) -> None:
    earlier, last = (ledger_data(review_plan(service, number)) for number in (0, 1))
    truth = service.truth
    assert len(earlier.effects) < len(last.effects) and not earlier.holdouts
    assert (earlier.data.log_values.size, last.data.log_values.size) == (WEEKS - 13, WEEKS)
    np.testing.assert_allclose(last.data.log_values, np.log(truth.weeks.hours[:WEEKS]), rtol=1e-14)
    np.testing.assert_array_equal(last.data.coverage, truth.launches.coverage[:WEEKS])
    assert last.data.holdout_estimate == pytest.approx([truth.holdout.log_lift])
    np.testing.assert_array_equal(last.data.held_out[0], truth.launches.held_out)
    measured = last.data.source >= 0
    np.testing.assert_array_equal(measured, truth.launches.source >= 0)
    toplines = truth.trials.topline[truth.launches.source[measured]]
    np.testing.assert_allclose(last.data.estimate[last.data.source[measured]], toplines)
    assert len(last.influences) == 3 and not last.unused
    assert review_plan(service).inputs.keys() == {"active_listeners", "sessions_per_listener", "hours_per_session"}
    assert review_plan(service).programme.metric_key == HOURS
