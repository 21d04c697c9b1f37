"""Summary input: teams that only have n, mean and variance per variant and day send those."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import ingest_batch, plan
from experiments.errors import BatchMismatch, BatchRejected, NotReady, UnsupportedMediaType
from experiments.settings import Settings
from experiments.tables import Experiment, Summary
from experiments.types import canonical_json
from warehouse.ingest import rejected_batch
from warehouse.report import IngestReport, Refusals, reasons_of
from warehouse.rows import RowFault, read_time

STREAM = "summaries"
FIELDS = ("metric_key", "variant_key", "as_of", "n", "mean", "variance")


def parse_summaries(body: bytes, content_type: str) -> list[dict[str, Any]]:
    """The rows of a JSON array or a CSV. Raises `UnsupportedMediaType` or `BatchRejected`."""
    kind = content_type.split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            rows = json.loads(body)
        elif kind == "text/csv":
            rows = [
                {name: value or None for name, value in row.items()}
                for row in csv.DictReader(io.StringIO(body.decode("utf-8-sig")), strict=True)
            ]
        else:
            raise UnsupportedMediaType(
                f"summaries cannot be sent as {kind!r}", remedy="send application/json or text/csv"
            )
    except (ValueError, csv.Error, RecursionError) as error:
        raise BatchRejected(f"the body cannot be read: {str(error)[:200]}", remedy=f"send valid {kind}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BatchRejected("the body is not a list of rows", remedy="send [ {…}, {…} ]")
    return rows


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
    """Store summaries {metric_key, variant_key, as_of, n, mean, variance}: cumulative counts as of a time.

    All rows or none: any fault raises `BatchRejected`. n, mean and variance (unbiased, of the units' values) may be of
    any metric of the experiment's plan but formulas. The same batch again is `replayed`; a cell that is already there
    is a fault, because an old result must not change. Runs in the caller's unit of work.
    """
    digest = _digest(experiment.key, rows)
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
    found = await session.execute(
        sa.select(col(Summary.metric_key), col(Summary.variant_key), col(Summary.as_of)).where(
            col(Summary.experiment_id) == experiment.id
        )
    )
    seen = {tuple(cell) for cell in found}
    refusals, cells = Refusals(), []
    for number, row in enumerate(rows, start=1):
        try:
            cells.append(_checked(row, analysis, latest, seen))
        except RowFault as fault:
            refusals.add(fault.at(number))
    if refusals.rejected:
        raise rejected_batch(refusals)
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
    for name in row:
        if name not in FIELDS:
            raise RowFault(str(name)[:100], "unknown_field", f"{str(name)[:100]!r} is not a field of summaries")
    specs = {metric.metric_key: metric.spec for metric in analysis.metrics}
    metric, variant = row.get("metric_key"), row.get("variant_key")
    if metric not in specs or specs[metric].kind == "formula":
        raise RowFault("metric_key", "unknown_metric", f"the plan has no metric {str(metric)[:80]!r} with a mean")
    if variant not in {item.key for item in analysis.variants}:
        raise RowFault("variant_key", "unknown_variant", f"the plan has no variant {str(variant)[:80]!r}")
    as_of = read_time(row.get("as_of"), "as_of", latest)
    n = _finite(row, "n")
    if n is None or n < 0 or n != int(n):
        raise RowFault("n", "invalid_count", f"{row.get('n')!r} is not a number of units")
    mean, variance = _finite(row, "mean"), _finite(row, "variance")
    if (mean is None and n > 0) or (variance is None and n > 1):
        raise RowFault("mean" if mean is None else "variance", "missing_moment", "the number is missing")
    if variance is not None and variance < 0:
        raise RowFault("variance", "negative_variance", f"{variance} is below 0")
    cell = (metric, variant, as_of.astimezone(UTC))
    if cell in seen:
        raise RowFault("as_of", "duplicate_summary", f"{metric}, {variant}, {as_of.isoformat()} is there already")
    seen.add(cell)
    return {
        "metric_key": metric,
        "variant_key": variant,
        "as_of": as_of,
        "n": int(n),
        "mean": mean if mean is not None else 0.0,
        "variance": variance if variance is not None else 0.0,
    }


def _finite(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RowFault(name, "non_numeric_value", f"{str(value)[:60]!r} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise RowFault(name, "non_numeric_value", f"{str(value)[:60]!r} is not a number") from None
    if not math.isfinite(number):
        raise RowFault(name, "non_finite_value", f"{str(value)[:60]} is not a finite number")
    return number


def _digest(experiment_key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    # NaN cannot be in canonical JSON, but its text can: the row is refused later with a reason.
    plain = [{str(k): v if isinstance(v, str) else repr(v) for k, v in row.items()} for row in rows]
    return hashlib.sha256(canonical_json([experiment_key, plain])).hexdigest()
