"""Intervals hold the truth of many companies as often as they say (`make simulation`)."""

import pytest

from tests.system.company_coverage import BROKEN, LEVEL, Cell, coverage, simulate

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(1800)]


def test_intervals_of_many_companies_hold_the_truth_as_often_as_planned() -> None:
    cells: list[Cell] = []
    verdicts: list[dict[str, str]] = []
    for found, said in simulate(20):
        cells += [cell for cell in found if cell.experiment_key != BROKEN]
        verdicts.append(said)
    share, error = coverage(cells)
    assert error < 0.01
    assert share == pytest.approx(LEVEL, abs=3 * error)
    always = sum(cell.covered_always for cell in cells) / len(cells)
    assert always >= LEVEL - 3 * error
    # Sample ratio: five false alarms in 10,000, and a quarter of one arm's quiet users must not get lost unseen.
    assert sum(said[BROKEN] == "unreliable" for said in verdicts) >= 15
    quiet = (BROKEN, "pipeline_check")  # an A/A test errs in one of twenty
    assert sum(verdict == "unreliable" for said in verdicts for key, verdict in said.items() if key not in quiet) <= 2
    assert all(said["infinite_feed"] != "better" and said["price_badge"] != "better" for said in verdicts)
    assert sum(said["onboarding_checklist"] == "better" for said in verdicts) >= 18
    assert sum(said["quick_quotes"] == "better" for said in verdicts) >= 18
    assert all(said["new_search"] != "worse" for said in verdicts), "as a comparison across stages would say"
