"""Launches of many synthetic companies, from pushed values to the document: what leads is about the truth."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from experiments.definitions import LaunchSpec, SeriesSpec
from experiments.evidence.launch.draft import LaunchContext, draft_launch
from experiments.plan import LaunchPlan, PlannedMeasurement, PlannedSeries
from experiments.result import MeasuredLaunch
from experiments.series_table import PERIOD, SeriesTable
from stats.company import LaunchRecord, SeriesRecord
from stats.company.deliveries import deliveries
from stats.company.records import Calendar
from stats.company.store import store

pytestmark = pytest.mark.simulation

BEGIN = datetime(2026, 5, 24, 13, 17, tzinfo=UTC)
END = BEGIN + timedelta(days=182)
COMPANIES = 40
DESIGNS = {
    "launch_evening_delivery": ("random_order", "B"),
    "launch_new_dispatch": ("switchback", "B"),
    "launch_sturdy_parcels": ("concurrent", "C"),
    "launch_store_refit": ("donors", "C"),
}


def table(record: SeriesRecord) -> SeriesTable:
    """The values as the database would hand them out: no series has a gap."""
    segments, row = np.unique(record.values["segment"], return_inverse=True)
    moments, column = np.unique(record.values["at"].astype("datetime64[s]").astype(int), return_inverse=True)
    assert set(np.diff(moments)) == {PERIOD[SeriesSpec.model_validate(record.spec).grain].total_seconds()}
    values = np.full((segments.size, moments.size), np.nan)
    values[row, column] = record.values["value"]
    nothing = np.full(values.shape, np.nan)
    periods = tuple(datetime.fromtimestamp(int(at), UTC) for at in moments)
    return SeriesTable(tuple(map(str, segments)), periods, values, nothing, nothing)


def measured(launch: LaunchRecord, series: dict[str, SeriesRecord], seed: int) -> MeasuredLaunch:
    spec = LaunchSpec.model_validate(launch.spec)

    def planned(key: str) -> PlannedSeries:
        return PlannedSeries(version=1, spec=SeriesSpec.model_validate(series[key].spec))

    plan = LaunchPlan(
        launch_key=spec.key,
        rollout=spec.rollout,
        eligible=spec.eligible,
        announced_at=spec.announced_at,
        confounders=spec.confounders,
        measured_since=END,
        measurements=[
            PlannedMeasurement(
                options=item,
                outcome=planned(item.series_key),
                regressors=[planned(key) for key in item.regressors],
                controls=[planned(key) for key in item.controls],
            )
            for item in spec.measurements
        ],
        fact_sources=[],
    )
    context = LaunchContext("coverage", END, seed, "coverage", "0" * 64)
    (found,) = draft_launch(plan, {key: table(record) for key, record in series.items()}, context).finish().measurements
    return found


def test_launches_are_measured_as_they_were_made_and_hold_the_truth() -> None:
    calendar = Calendar.within(BEGIN, END)
    held: Counter[str] = Counter()
    as_made: Counter[str] = Counter()
    for seed in range(COMPANIES):
        of_cities, in_cities = deliveries(calendar, seed)
        of_store, in_store = store(calendar, seed)
        series = {record.spec["key"]: record for record in (*of_cities, *of_store)}
        for launch in (*in_cities, *in_store):
            found = measured(launch, series, seed)
            lead = next(estimate for estimate in found.estimates if estimate.leads)
            assert lead.ci_lower is not None and lead.ci_upper is not None
            truth = float(np.expm1(launch.true_lifts[found.series_key]))
            held[launch.spec["key"]] += lead.ci_lower < truth < lead.ci_upper
            chosen = next(option.design for option in found.designs if option.chosen)
            as_made[launch.spec["key"]] += (chosen, found.grade.grade) == DESIGNS[launch.spec["key"]]
    assert set(held) == set(DESIGNS)
    for key, count in held.items():
        # Three binomial errors below 95 %.
        assert count >= 0.95 * COMPANIES - 3 * np.sqrt(COMPANIES * 0.95 * 0.05), (key, held)
        # Placebos that find something by chance, or regressors that seem to move, cost a comparison its letter.
        assert as_made[key] >= (COMPANIES if DESIGNS[key][1] == "B" else 0.8 * COMPANIES), (key, as_made)
