"""What Northlift says about many synthetic companies against what is true of them, without a service.

    python -m tests.system.company_coverage            # 40 companies, writes docs/validation/company.md

Each company goes the whole way from data to document: Parquet files, moments from the data engine, evidence. Only the
registry, the queue and the segment models are left out; `test_company.py` has them all, for one company.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from experiments.definitions import ExperimentSpec, FactSourceSpec, MetricSpec, NorthStarSpec
from experiments.evidence import Block, EvidenceContext, build
from experiments.plan import AnalysisPlan, PlannedMetric, PlannedNorthStar
from experiments.result import ExperimentResult
from stats.company import Company, ExperimentRecord, generate
from tests.servers import REPOSITORY
from warehouse.extract import DataSlice, extract_experiment

START = datetime(2026, 5, 4, tzinfo=UTC)
LEVEL = 0.95
BROKEN = "loyalty_points"
"""Loses exposures of quiet users in one arm: biased by construction, and reported as `unreliable`."""
COMPANIES, USERS = 40, 20_000
PAGE = REPOSITORY / "docs" / "validation" / "company.md"


@dataclass(frozen=True, slots=True)
class Cell:
    """One interval and the truth it should hold."""

    company: int
    experiment_key: str
    variant_key: str
    metric_key: str
    truth: float
    lift: float
    lower: float
    upper: float
    always_valid: tuple[float, float] | None = None

    @property
    def covered(self) -> bool:
        return self.lower <= self.truth <= self.upper

    @property
    def covered_always(self) -> bool:
        return self.always_valid is None or self.always_valid[0] <= self.truth <= self.always_valid[1]


def true_lifts(company: Company) -> dict[tuple[str, str, str], float]:
    """Relative lifts over everybody, by experiment, variant and metric."""
    return {
        (item.experiment_key, item.variant_key, item.metric_key): float(np.expm1(item.log_lift))
        for item in (*company.truth, *company.business.truth)
        if not item.dimension
    }


def cells_of(company: Company, results: Iterable[Mapping[str, Any]], *, number: int = 0) -> list[Cell]:
    """All estimable rows over everybody of the results, with their truth."""
    truth = true_lifts(company)
    cells = []
    for result in results:
        for row in result["rows"]:
            if row["segment"] is not None or row["ci_lower"] is None:
                continue
            lower, upper = row["always_valid_lower"], row["always_valid_upper"]
            cells.append(
                Cell(
                    company=number,
                    experiment_key=result["experiment_key"],
                    variant_key=row["variant_key"],
                    metric_key=row["metric_key"],
                    truth=truth[result["experiment_key"], row["variant_key"], row["metric_key"]],
                    lift=row["lift"],
                    lower=row["ci_lower"],
                    upper=row["ci_upper"],
                    always_valid=None if lower is None or upper is None else (lower, upper),
                )
            )
    return cells


def coverage(cells: Sequence[Cell]) -> tuple[float, float]:
    """The share of intervals that hold the truth, and its standard error.

    Cells of one experiment share their units, so each experiment of each company is one cluster: the error is that of
    the sum of misses over clusters, which no correlation inside an experiment can make too small.
    """
    misses: dict[tuple[int, str], list[float]] = defaultdict(list)
    for cell in cells:
        misses[cell.company, cell.experiment_key].append(0.0 if cell.covered else 1.0)
    share = sum(map(sum, misses.values())) / len(cells)
    residuals = [sum(found) - share * len(found) for found in misses.values()]
    return 1 - share, float(np.sqrt(np.sum(np.square(residuals)))) / len(cells)


def experiments_of(company: Company) -> tuple[ExperimentRecord, ...]:
    """Of both businesses."""
    return (*company.experiments, *company.business.experiments)


def documents(company: Company, records: Sequence[ExperimentRecord]) -> list[dict[str, Any]]:
    """The result documents of these experiments of the company."""
    with tempfile.TemporaryDirectory() as folder:
        exposures, events = _written(company, Path(folder))
        return [
            _result(company, record, exposures[record.spec["key"]], events).model_dump(mode="json")
            for record in records
        ]


def _written(company: Company, folder: Path) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    exposures: dict[str, Path] = {}
    events: dict[str, tuple[Path, ...]] = {}
    for part in (company, company.business):
        segments = {name: f"segment_{name}" for name in ("country", "platform", "account")}
        table = _table({segments.get(name, name): values for name, values in part.exposures.items()})
        for record in part.experiments:
            key = record.spec["key"]
            exposures[key] = folder / f"{key}.parquet"
            mine = pa.array(part.exposures["experiment_key"] == key)
            pq.write_table(table.filter(mine).drop_columns("experiment_key"), exposures[key])
        facts = _table(part.events)
        for source in part.fact_sources:
            event = source["event"]
            path = folder / f"event-{event}.parquet"
            pq.write_table(facts.filter(pa.array(part.events["event"] == event)), path)
            events[event] = (path,)
    return exposures, events


def _table(columns: Mapping[str, Any]) -> pa.Table:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    utc = pa.timestamp("us", tz="UTC")
    kinds = [field.with_type(utc) if pa.types.is_timestamp(field.type) else field for field in table.schema]
    return table.cast(pa.schema(kinds))


def _plan(company: Company, record: ExperimentRecord) -> AnalysisPlan:
    """The plan that freezing would make of the record, at the end of its ramp; without segments."""
    spec = ExperimentSpec.model_validate(record.spec)
    part = company.business if spec.unit_type == "member" else company
    metrics = {metric["key"]: MetricSpec.model_validate(metric) for metric in part.metrics}
    weights = record.ramp[-1][1] if record.ramp else [variant.weight for variant in spec.variants]
    star = None if spec.north_star_key is None else NorthStarSpec.model_validate(company.north_star)
    return AnalysisPlan(
        experiment_key=spec.key,
        unit_type=spec.unit_type,
        data="events",
        variants=[
            variant.model_copy(update={"weight": weight})
            for variant, weight in zip(spec.variants, weights, strict=True)
        ],
        metrics=[
            PlannedMetric(
                version=1,
                direction=metrics[use.metric_key].direction,
                spec=metrics[use.metric_key],
                **use.model_dump(exclude={"direction"}),
            )
            for use in spec.metrics
        ],
        fact_sources=[TypeAdapter(FactSourceSpec).validate_python(source) for source in part.fact_sources],
        north_star=None if star is None else PlannedNorthStar(version=1, spec=star),
        segments=[],
        purpose=spec.purpose,
        cluster=spec.cluster,
        trigger=spec.trigger,
        planned_units=spec.planned_units,
        planned_end_at=spec.planned_end_at,
        estimation=spec.estimation.model_copy(update={"ci_level": LEVEL}),
    )


def _result(
    company: Company, record: ExperimentRecord, exposures: Path, events: Mapping[str, tuple[Path, ...]]
) -> ExperimentResult:
    plan = _plan(company, record)
    first = tuple(float(variant["weight"]) for variant in record.spec["variants"])
    allocation = ((record.started_at, first), *record.ramp)
    data = DataSlice(
        exposure_files=(exposures,),
        event_files=events,
        started_at=record.started_at,
        ended_at=record.ended_at,
        data_as_of=company.ended_at,
        allocation=allocation,
    )
    moments = extract_experiment(plan, data, threads=2, memory_limit="1GB", progress=lambda stage, fraction: None)
    context = EvidenceContext(
        analysis_id="coverage",
        data_as_of=company.ended_at,
        seed=1,
        code_version="coverage",
        plan_hash="0" * 64,
        started_at=record.started_at,
        stopped_at=record.ended_at,
        allocation=allocation,
    )
    return build(plan, [Block(tuple(metric.metric_key for metric in plan.metrics), moments)], context).finish()


def simulate(companies: int, *, users: int = USERS) -> Iterator[tuple[list[Cell], dict[str, str]]]:
    """For every company its cells and its verdicts by experiment."""
    for number in range(companies):
        company = generate(START.date(), seed=1000 + number, users=users)
        results = documents(company, experiments_of(company))
        yield cells_of(company, results, number=number), {r["experiment_key"]: r["verdict"] for r in results}


def page(cells: Sequence[Cell], verdicts: Sequence[Mapping[str, str]], *, users: int) -> str:
    """The table of docs/validation/company.md."""
    sound = [cell for cell in cells if cell.experiment_key != BROKEN]
    share, error = coverage(sound)
    always = np.mean([cell.covered_always for cell in sound])
    lines = [
        "# What Northlift says about companies whose truth is known",
        "",
        f"{len(verdicts)} synthetic companies of {users:,} users, each with {len(verdicts[0])} experiments whose true "
        "lifts are written down, not estimated (`stats/company`). Every number below is made by",
        "",
        "```sh",
        "python -m tests.system.company_coverage",
        "```",
        "",
        f"**{share:.2%} of {len(sound):,} intervals of {LEVEL:.0%} hold the true lift** (standard error {error:.2%}, "
        "each experiment being one cluster, because its metrics and variants share users). Of the always-valid "
        f"intervals, at the last look, {always:.2%} do: they pay for every look that might have been taken.",
        "",
        f"`{BROKEN}` is left out of these shares: one of its arms loses the exposures of quiet users, so its numbers "
        "are biased whatever the method. Northlift has to notice; the last column says how often it did.",
        "",
        "The experiments from `pipeline_check` on are of members of business customers, each with an option of its "
        "own: an A/A test, a quantile of page views, a survey with different response rates, a capped heavy tail, "
        "accounts as clusters (`team_baskets`), a trigger (`trust_marks`), a ramp in which comparing everybody has "
        "the wrong sign (`new_search`), a group-sequential plan that was stopped early (`quick_quotes`), a launch that "
        "must do no harm (`new_editor`) and two experiments on the same members that get in each other's way.",
        "",
        "Truth is what the enrolled users were expected to do. Intervals are for the population they come from, which "
        "is a little wider. An effect that is there can be too small to be seen: `inconclusive` is then the right "
        "answer, and `better` for `dark_mode` (no effect) or `infinite_feed` (fewer orders) would be a wrong one.",
        "",
        "| experiment | intervals | coverage | better | worse | equivalent | inconclusive | unreliable |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key in verdicts[0]:
        mine = [cell for cell in cells if cell.experiment_key == key]
        held = f"{coverage(mine)[0]:.1%}" if mine else "–"
        counts = [
            sum(found[key] == verdict for found in verdicts)
            for verdict in ("better", "worse", "equivalent", "inconclusive", "unreliable")
        ]
        lines.append(f"| `{key}` | {len(mine):,} | {held} | {' | '.join(map(str, counts))} |")
    lines += ["", "| metric | intervals | coverage |", "|---|--:|--:|"]
    for metric in dict.fromkeys(cell.metric_key for cell in sound):
        mine = [cell for cell in sound if cell.metric_key == metric]
        lines.append(f"| `{metric}` | {len(mine):,} | {coverage(mine)[0]:.1%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Check intervals against many synthetic companies; write the page.")
    parser.add_argument("--companies", type=int, default=COMPANIES)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    begun = time.monotonic()
    cells: list[Cell] = []
    verdicts: list[dict[str, str]] = []
    for found, said in simulate(options.companies, users=options.users):
        cells += found
        verdicts.append(said)
        sound = [cell for cell in cells if cell.experiment_key != BROKEN]
        share, error = coverage(sound)
        seconds = time.monotonic() - begun
        sys.stdout.write(f"{len(verdicts):4} companies, {seconds:4.0f} s: {share:.2%} ± {error:.2%}\n")
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(cells, verdicts, users=options.users))


if __name__ == "__main__":
    main()
