"""An experiment whose rows came through ingest in many batches: what compaction, sweeping and retention work on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlmodel import col

from experiments import plan
from experiments.database import Database
from experiments.definitions import EventSource, ExperimentSpec
from experiments.plan import AnalysisPlan
from experiments.settings import Settings
from experiments.tables import Experiment, IngestBatch, StoreSegment
from stats.moment_set import MomentSet
from tests.warehouse.cases import START, Exposure, Fact, plan_of
from tests.warehouse.deliveries import Row, random_rows
from tests.warehouse.small_world import metric
from warehouse.catalog import slice_for
from warehouse.extract import extract_experiment
from warehouse.ingest import ingest

PLAN = plan_of(
    [metric("revenue"), metric("orders", aggregation="count")],
    sources=[EventSource(key="orders", event="orders")],
    segments=["country"],
)


@dataclass
class Recorded:
    """A database, a data folder, and the experiment `checkout`, started at `START`."""

    database: Database
    settings: Settings
    folder: Path
    sent: int = 0

    async def begin(self) -> None:
        spec = ExperimentSpec.model_validate(
            {
                "key": "checkout",
                "name": "Checkout",
                "variants": [
                    {"key": "control", "weight": 0.5, "is_control": True},
                    {"key": "treatment", "weight": 0.5},
                ],
            }
        )
        async with self.database.write() as session:
            session.add(
                Experiment(
                    key="checkout", name="Checkout", spec=spec.model_dump(mode="json"), started_at=START,
                    status="running", created_at=START, updated_at=START, plan=plan.document(PLAN),
                )
            )  # fmt: skip

    async def send(self, stream: Any, rows: Sequence[Mapping[str, Any]], at: datetime) -> None:
        """A batch of rows, recorded at a time."""
        self.sent += 1
        body = self.folder / "body.ndjson"
        body.write_text("\n".join(map(json.dumps, rows)))
        await ingest(
            self.database,
            self.settings.model_copy(update={"allowed_clock_skew_seconds": 10**6}),
            stream=stream,
            batch_id=f"batch {self.sent}",
            body=body,
            content_type="application/x-ndjson",
            on_error="keep_good",  # units that cross within a batch are refused
            actor="tests",
            at=at,
        )

    async def send_in_batches(self, rows: Sequence[Row], batches: int) -> None:
        """Rows as they arrive, in about so many batches of each stream."""
        for i in range(batches):
            part = rows[i * len(rows) // batches : (i + 1) * len(rows) // batches]
            exposures = [_exposure(one.row) for one in part if isinstance(one.row, Exposure)]
            events = [_event(one.row, one.source) for one in part if isinstance(one.row, Fact)]
            for stream, some in (("exposures", exposures), ("events", events)):
                if some:
                    await self.send(stream, some, max(one.at for one in part))

    async def moments(self, as_of: datetime, planned: AnalysisPlan = PLAN) -> MomentSet:
        """What an analysis as of a time computes from all that was recorded by then."""
        async with self.database.read() as session:
            row = (await session.scalars(sa.select(Experiment).where(col(Experiment.key) == "checkout"))).one()
            data = await slice_for(session, self.settings, planned, row, as_of)
        return extract_experiment(planned, replace(data, data_dir=None), threads=1)

    async def batches(self) -> list[IngestBatch]:
        async with self.database.read() as session:
            return list(await session.scalars(sa.select(IngestBatch).order_by(col(IngestBatch.created_at))))

    async def segments(self, *, live: bool = True) -> list[StoreSegment]:
        async with self.database.read() as session:
            found = list(await session.scalars(sa.select(StoreSegment).order_by(col(StoreSegment.created_at))))
        return [segment for segment in found if segment.retired_at is None] if live else found

    def files(self) -> list[Path]:
        return sorted(path for path in self.settings.data_dir.rglob("*.parquet"))


def rows_of(seed: int, **options: Any) -> list[Row]:
    """Random rows; visits are left out."""
    return [one for one in random_rows(seed, **options) if one.source != "visits"]


def _exposure(row: Exposure) -> dict[str, Any]:
    return {
        "experiment_key": "checkout",
        "unit_id": row.unit,
        "variant_key": row.variant,
        "exposed_at": row.at.isoformat(),
        "segments": row.segments,
    }


def _event(row: Fact, source: str) -> dict[str, Any]:
    return {
        "event": source,
        "unit_id": row.unit,
        "occurred_at": row.at.isoformat(),
        "value": row.value,
        "properties": row.properties,
    }


def assert_identical(found: Any, wanted: Any, where: str = "moments") -> None:
    """Equal to the last bit, in every field."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, np.ndarray):
        assert found.shape == wanted.shape and found.tobytes() == wanted.tobytes(), where
    elif is_dataclass(wanted):
        for item in fields(wanted):
            assert_identical(getattr(found, item.name), getattr(wanted, item.name), f"{where}.{item.name}")
    elif isinstance(wanted, Mapping):
        assert list(found) == list(wanted), where
        for key in wanted:
            assert_identical(found[key], wanted[key], f"{where}[{key}]")
    elif isinstance(wanted, tuple | list):
        assert len(found) == len(wanted), where
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_identical(one, other, f"{where}[{i}]")
    else:
        assert found == wanted or found != found, where
