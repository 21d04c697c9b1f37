"""Summary input: teams that only have n, mean and variance per variant and day send those."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import ingest_batch, plan
from experiments.errors import BatchMismatch, NotReady
from experiments.settings import Settings
from experiments.tables import Experiment, Summary
from warehouse.ingest import rejected_batch
from warehouse.joint_summaries import FIELD, Cell, check_joint, read_covariances
from warehouse.report import IngestReport, Refusals, reasons_of
from warehouse.row_lists import digest_of, finite_number, refuse_unknown_fields
from warehouse.rows import RowFault, read_time

STREAM = "summaries"
FIELDS = ("metric_key", "variant_key", "as_of", "n", "mean", "variance", FIELD)


async def ingest_summaries(
    session: AsyncSession,
    settings: Settings,
    *,
    experiment: Experiment,
    rows: Sequence[Mapping[str, Any]],
    batch_id: str,
    actor: str,
    at: datetime,
) -> IngestReport:
    """Store summaries {metric_key, variant_key, as_of, n, mean, variance, covariances}: cumulative as of a time.

    All rows or none: any fault raises `BatchRejected`. n, mean and variance (unbiased, of the units' values) may be of
    any metric of the experiment's plan but formulas. A ratio's are the ratio and the variance of its influence values.
    `covariances` with other metrics, by key, make the moments joint (`warehouse.joint_summaries`). The same batch again
    is `replayed`; a cell that is already there is a fault, because an old result must not change. Runs in the caller's
    unit of work.
    """
    digest = digest_of(experiment.key, rows)
    known = await ingest_batch.find(session, stream=STREAM, batch_id=batch_id)
    if known is not None:
        if known.digest != digest:
            raise BatchMismatch(
                f"batch {batch_id!r} was sent with other rows", remedy="send new rows under a new batch id"
            )
        return IngestReport(
            STREAM, batch_id, known.accepted, known.rejected, tuple(known.errors), reasons_of(known.errors), True
        )
    if experiment.plan is None or experiment.started_at is None:
        raise NotReady(
            f"experiment {experiment.key!r} has not been started", remedy="start it, then send its summaries"
        )
    analysis = plan.AnalysisPlan.model_validate(experiment.plan)
    if analysis.data != "summary":
        raise NotReady(
            f"experiment {experiment.key!r} takes exposures and events, not summaries",
            remedy="register experiments that send summaries with data = summary",
        )
    latest = at + timedelta(seconds=settings.allowed_clock_skew_seconds)
    statement = sa.select(
        col(Summary.metric_key), col(Summary.variant_key), col(Summary.as_of), col(Summary.n), col(Summary.variance),
        col(Summary.covariances),
    ).where(col(Summary.experiment_id) == experiment.id)  # fmt: skip
    stored = [Cell(*row[:-1], row[-1] or {}) for row in await session.execute(statement)]
    seen: set[tuple[Any, ...]] = {cell[:3] for cell in stored}
    refusals, cells, sent = Refusals(), [], list[Cell]()
    for number, row in enumerate(rows, start=1):
        try:
            cells.append(_checked(row, analysis, latest, seen))
        except RowFault as fault:
            refusals.add(fault.at(number))
            continue
        sent.append(_joined(cells[-1], number))
    if any(cell.covariances for cell in sent):
        for cell, found in check_joint([*stored, *sent]):
            refusals.add(found.at(cell.number))
    if refusals.rejected:
        raise rejected_batch(refusals, keepable=False)
    times = [cell["as_of"] for cell in cells]
    batch = await ingest_batch.record(
        session,
        stream=STREAM,
        batch_id=batch_id,
        digest=digest,
        path="",
        accepted=len(cells),
        rejected=0,
        errors=[],
        subjects=[experiment.key],
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        actor=actor,
        at=at,
    )
    session.add_all([Summary(experiment_id=experiment.id, batch_id=batch.id, **cell) for cell in cells])
    await session.flush()
    return IngestReport(STREAM, batch_id, len(cells), 0, (), {})


def _checked(
    row: Mapping[str, Any], analysis: plan.AnalysisPlan, latest: datetime, seen: set[tuple[Any, ...]]
) -> dict[str, Any]:
    refuse_unknown_fields(row, FIELDS, noun=STREAM)
    specs = {metric.metric_key: metric.spec for metric in analysis.metrics}
    metric, variant = row.get("metric_key"), row.get("variant_key")
    if metric not in specs or specs[metric].kind == "formula":
        raise RowFault("metric_key", "unknown_metric", f"the plan has no metric {str(metric)[:80]!r} with a mean")
    if variant not in {item.key for item in analysis.variants}:
        raise RowFault("variant_key", "unknown_variant", f"the plan has no variant {str(variant)[:80]!r}")
    as_of = read_time(row.get("as_of"), "as_of", latest)
    n = finite_number(row, "n")
    if n is None or n < 0 or n != int(n):
        raise RowFault("n", "invalid_count", f"{row.get('n')!r} is not a number of units")
    mean, variance = finite_number(row, "mean"), finite_number(row, "variance")
    if (mean is None and n > 0) or (variance is None and n > 1):
        raise RowFault("mean" if mean is None else "variance", "missing_moment", "the number is missing")
    if variance is not None and variance < 0:
        raise RowFault("variance", "negative_variance", f"{variance} is below 0")
    cell = (metric, variant, as_of.astimezone(UTC))
    if cell in seen:
        raise RowFault("as_of", "duplicate_summary", f"{metric}, {variant}, {as_of.isoformat()} is there already")
    covariances = read_covariances(row, (key for key, spec in specs.items() if spec.kind != "formula"))
    seen.add(cell)
    return {
        "metric_key": metric,
        "variant_key": variant,
        "as_of": as_of,
        "n": int(n),
        "mean": mean if mean is not None else 0.0,
        "variance": variance if variance is not None else 0.0,
        "covariances": covariances,
    }


def _joined(cell: Mapping[str, Any], number: int) -> Cell:
    at = cell["as_of"].astimezone(UTC)
    about = (cell["metric_key"], cell["variant_key"], at, cell["n"], cell["variance"])
    return Cell(*about, cell["covariances"] or {}, number)
