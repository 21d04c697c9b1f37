"""Data that arrived, analyses that run, results that stay."""

import uuid
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from experiments.tables.fields import document, identifier, moment


class IngestBatch(SQLModel, table=True):
    """A batch that is in the store: the client's id, the file, and what was kept and refused.

    `dead_letters` names the file of its refused rows. `swept_at`: its loose files were removed because segments hold
    its rows, or because they were older than what is retained.
    """

    __tablename__: ClassVar[Any] = "ingest_batches"
    __table_args__ = (sa.UniqueConstraint("stream", "batch_id"),)
    id: uuid.UUID = identifier()
    stream: str = Field(max_length=16)
    batch_id: str = Field(max_length=200)
    digest: str = Field(max_length=64)
    path: str = Field(default="", max_length=1000)
    accepted: int
    rejected: int
    errors: list[dict[str, Any]] = document()
    subjects: list[str] = document()
    dead_letters: str | None = Field(default=None, max_length=200)
    swept_at: datetime | None = moment(nullable=True)
    first_at: datetime | None = moment(nullable=True)
    last_at: datetime | None = moment(nullable=True)
    created_at: datetime = moment(index=True)
    created_by: str = Field(max_length=200)


class StoreSegment(SQLModel, table=True):
    """Batches of one subject that were compacted into files by hash bucket. Readers go by these rows.

    `batches` are the names (`IngestBatch.path`) whose rows are in it; `name` is its folder. `newest_batch_at` is when
    the newest of them was recorded. A retired segment was replaced; its files go after a while.
    """

    __tablename__: ClassVar[Any] = "store_segments"
    __table_args__ = (sa.Index("ix_store_segments_subject", "stream", "subject"),)
    id: uuid.UUID = identifier()
    stream: str = Field(max_length=16)
    subject: str = Field(max_length=200)
    name: str = Field(max_length=64, unique=True)
    level: int
    batches: list[str] = document()
    rows: int = Field(sa_type=sa.BigInteger)
    size_bytes: int = Field(sa_type=sa.BigInteger)
    newest_batch_at: datetime = moment()
    created_at: datetime = moment()
    retired_at: datetime | None = moment(nullable=True)


class Erasure(SQLModel, table=True):
    """A request to erase a unit's rows. `unit_id` is there until it is done, and then only its keyed digest.

    `effects` (`experiments.erasure.Effects`) says what went. Since `rewritten_at` no new reader finds the rows; the
    files that held them go a while later, when nobody can be reading them any more. `refuse_future`: new rows of the
    unit are refused.
    """

    __tablename__: ClassVar[Any] = "erasures"
    id: uuid.UUID = identifier()
    unit_type: str = Field(max_length=64)
    unit_digest: str = Field(max_length=64, index=True)
    unit_id: str | None = Field(default=None, max_length=200)
    reason: str = Field(default="", max_length=1000)
    state: str = Field(default="queued", max_length=16, index=True)
    effects: dict[str, Any] | None = document(nullable=True)
    refuse_future: bool = False
    requested_by: str = Field(max_length=200)
    requested_at: datetime = moment(index=True)
    rewritten_at: datetime | None = moment(nullable=True)
    finished_at: datetime | None = moment(nullable=True)


class Summary(SQLModel, table=True):
    """Summary input: cumulative n, mean and variance of one metric in one variant, as of a time.

    `covariances` are those of the units' values with other metrics, by metric key: they make the moments joint.
    """

    __tablename__: ClassVar[Any] = "summaries"
    __table_args__ = (sa.UniqueConstraint("experiment_id", "metric_key", "variant_key", "as_of"),)
    id: uuid.UUID = identifier()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id")
    metric_key: str = Field(max_length=63)
    variant_key: str = Field(max_length=63)
    as_of: datetime = moment()
    n: int = Field(sa_type=sa.BigInteger)
    mean: float = Field(sa_type=sa.Double)
    variance: float = Field(sa_type=sa.Double)
    covariances: dict[str, float] | None = document(nullable=True)
    batch_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="ingest_batches.id", index=True)


class SeriesValue(SQLModel, table=True):
    """A value of a series as it became known at `known_at`. Restating adds a row; null withdraws what was there."""

    __tablename__: ClassVar[Any] = "series_values"
    __table_args__ = (sa.UniqueConstraint("series_id", "segment", "at", "known_at"),)
    id: uuid.UUID = identifier()
    series_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="series.id")
    segment: str = Field(max_length=200)
    at: datetime = moment()
    value: float | None = Field(sa_type=sa.Double, nullable=True)
    n: int | None = Field(default=None, sa_type=sa.BigInteger)
    variance: float | None = Field(default=None, sa_type=sa.Double)
    known_at: datetime = moment()
    batch_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="ingest_batches.id", index=True)


class Analysis(SQLModel, table=True):
    """A run: the row is the truth, the queue entry a hint. `attempt` is the fencing token of the lease."""

    __tablename__: ClassVar[Any] = "analyses"
    id: uuid.UUID = identifier()
    kind: str = Field(max_length=16)
    subject_key: str = Field(max_length=100, index=True)
    experiment_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    identity: str = Field(max_length=64, unique=True)
    plan: dict[str, Any] = document()
    plan_hash: str = Field(max_length=64)
    data_as_of: datetime = moment()
    seed: int = Field(sa_type=sa.BigInteger)
    code_version: str = Field(max_length=64)
    state: str = Field(default="queued", max_length=16, index=True)
    attempt: int = 0
    max_attempts: int = 5
    lease_owner: str | None = Field(default=None, max_length=100)
    lease_until: datetime | None = moment(nullable=True)
    heartbeat_at: datetime | None = moment(nullable=True)
    cancel_requested_at: datetime | None = moment(nullable=True)
    stage: str | None = Field(default=None, max_length=64)
    fraction: float = 0.0
    error: dict[str, Any] | None = document(nullable=True)
    result_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="results.id")
    requested_by: str = Field(max_length=200)
    created_at: datetime = moment(index=True)
    started_at: datetime | None = moment(nullable=True)
    finished_at: datetime | None = moment(nullable=True)


class Result(SQLModel, table=True):
    """An immutable result document as the bytes that are served, with their ETag."""

    __tablename__: ClassVar[Any] = "results"
    id: uuid.UUID = identifier()
    kind: str = Field(max_length=16)
    subject_key: str = Field(max_length=100, index=True)
    verdict: str | None = Field(default=None, max_length=16)
    data_as_of: datetime = moment()
    body: bytes = Field(sa_type=sa.LargeBinary)
    etag: str = Field(max_length=64)
    created_at: datetime = moment()


class ResultRow(SQLModel, table=True):
    """One number with its uncertainty: metric x variant x segment x method. Null numbers carry a reason."""

    __tablename__: ClassVar[Any] = "result_rows"
    __table_args__ = (sa.Index("ix_result_rows_metric", "metric_key", "experiment_key"),)
    id: uuid.UUID = identifier()
    result_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="results.id", index=True)
    experiment_key: str = Field(max_length=63)
    metric_key: str = Field(max_length=63)
    metric_version: int
    variant_key: str = Field(max_length=63)
    segment_dimension: str | None = Field(default=None, max_length=64)
    segment: str | None = Field(default=None, max_length=200)
    role: str = Field(max_length=16)
    method: str = Field(max_length=32)
    interval_kind: str = Field(max_length=16)
    n_control: int = Field(sa_type=sa.BigInteger)
    n_treatment: int = Field(sa_type=sa.BigInteger)
    mean_control: float | None = Field(sa_type=sa.Double)
    mean_treatment: float | None = Field(sa_type=sa.Double)
    difference: float | None = Field(sa_type=sa.Double)
    difference_standard_error: float | None = Field(sa_type=sa.Double)
    lift: float | None = Field(sa_type=sa.Double)
    standard_error: float | None = Field(sa_type=sa.Double)
    ci_lower: float | None = Field(sa_type=sa.Double)
    ci_upper: float | None = Field(sa_type=sa.Double)
    ci_level: float = Field(sa_type=sa.Double)
    p_value: float | None = Field(sa_type=sa.Double)
    chance_to_win: float | None = Field(sa_type=sa.Double)
    expected_loss: float | None = Field(sa_type=sa.Double)
    estimable: bool
    reason: str | None = Field(default=None, max_length=64)
    non_inferior: bool | None = None
    equivalent: bool | None = None
    family: str | None = Field(default=None, max_length=16)
    correction: str | None = Field(default=None, max_length=64)
    p_value_adjusted: float | None = Field(default=None, sa_type=sa.Double)
    ci_lower_adjusted: float | None = Field(default=None, sa_type=sa.Double)
    ci_upper_adjusted: float | None = Field(default=None, sa_type=sa.Double)
    difference_ci_lower_adjusted: float | None = Field(default=None, sa_type=sa.Double)
    difference_ci_upper_adjusted: float | None = Field(default=None, sa_type=sa.Double)
    always_valid_lower: float | None = Field(default=None, sa_type=sa.Double)
    always_valid_upper: float | None = Field(default=None, sa_type=sa.Double)
    always_valid_p_value: float | None = Field(default=None, sa_type=sa.Double)
    log_e_value: float | None = Field(default=None, sa_type=sa.Double)
    non_inferiority_p_value: float | None = Field(default=None, sa_type=sa.Double)
    harm_p_value: float | None = Field(default=None, sa_type=sa.Double)
    decision_lower: float | None = Field(default=None, sa_type=sa.Double)
    decision_upper: float | None = Field(default=None, sa_type=sa.Double)
    decision_p_value: float | None = Field(default=None, sa_type=sa.Double)
    significant: bool | None = None
    posterior_lift: float | None = Field(default=None, sa_type=sa.Double)
    hdi_lower: float | None = Field(default=None, sa_type=sa.Double)
    hdi_upper: float | None = Field(default=None, sa_type=sa.Double)
    expected_loss_of_not_shipping: float | None = Field(default=None, sa_type=sa.Double)
    rope_probability: float | None = Field(default=None, sa_type=sa.Double)
    prior_source: str | None = Field(default=None, max_length=200)


class LaunchEffect(SQLModel, table=True):
    """What one method said of a launch on one series: the flat row of `LaunchEstimate`, with the grade of its day."""

    __tablename__: ClassVar[Any] = "launch_effects"
    __table_args__ = (sa.Index("ix_launch_effects_launch", "launch_key", "series_key"),)
    id: uuid.UUID = identifier()
    result_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="results.id", index=True)
    launch_key: str = Field(max_length=63)
    series_key: str = Field(max_length=63)
    metric_key: str | None = Field(default=None, max_length=63, index=True)
    method: str = Field(max_length=32)
    leads: bool
    evidence_grade: str = Field(max_length=1)
    estimable: bool
    reason: str | None = Field(default=None, max_length=64)
    log_effect: float | None = Field(sa_type=sa.Double)
    standard_error: float | None = Field(sa_type=sa.Double)
    bias_sd: float | None = Field(sa_type=sa.Double)
    lift: float | None = Field(sa_type=sa.Double)
    ci_lower: float | None = Field(sa_type=sa.Double)
    ci_upper: float | None = Field(sa_type=sa.Double)
    ci_level: float = Field(sa_type=sa.Double)
    interval_kind: str = Field(max_length=16)
    p_value: float | None = Field(sa_type=sa.Double)
    difference: float | None = Field(sa_type=sa.Double)
    cumulative: float | None = Field(sa_type=sa.Double)
    cumulative_lower: float | None = Field(sa_type=sa.Double)
    cumulative_upper: float | None = Field(sa_type=sa.Double)
    periods_before: int
    periods_after: int


class LedgerRow(SQLModel, table=True):
    """One line of the ledger of a growth review: the flat row of `result.LedgerLine`."""

    __tablename__: ClassVar[Any] = "ledger_lines"
    __table_args__ = (sa.Index("ix_ledger_lines_north_star", "north_star_key", "review_key"),)
    id: uuid.UUID = identifier()
    result_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="results.id", index=True)
    review_key: str = Field(max_length=63)
    north_star_key: str = Field(max_length=63)
    begins_at: datetime = moment()
    ends_at: datetime = moment()
    component: str = Field(max_length=16)
    key: str | None = Field(default=None, max_length=100)
    name: str = Field(max_length=200)
    evidence_grade: str | None = Field(default=None, max_length=1)
    unit: str = Field(max_length=64)
    units: float = Field(sa_type=sa.Double)
    lower_80: float = Field(sa_type=sa.Double)
    upper_80: float = Field(sa_type=sa.Double)
    lower_95: float = Field(sa_type=sa.Double)
    upper_95: float = Field(sa_type=sa.Double)
    log_mean: float = Field(sa_type=sa.Double)
    log_lower_80: float = Field(sa_type=sa.Double)
    log_upper_80: float = Field(sa_type=sa.Double)
    chance_positive: float = Field(sa_type=sa.Double)
    claimed_units: float | None = Field(default=None, sa_type=sa.Double)


class ProgrammeRow(SQLModel, table=True):
    """One experiment in a programme: the flat row of `result.ShrunkEffect`."""

    __tablename__: ClassVar[Any] = "programme_effects"
    __table_args__ = (sa.Index("ix_programme_effects_metric", "metric_key", "experiment_key"),)
    id: uuid.UUID = identifier()
    result_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="results.id", index=True)
    metric_key: str = Field(max_length=63)
    experiment_key: str = Field(max_length=63)
    variant_key: str = Field(max_length=63)
    team: str | None = Field(default=None, max_length=200)
    shipped: bool
    evidence_grade: str = Field(max_length=1)
    topline_source: str = Field(max_length=16)
    claimed: float = Field(sa_type=sa.Double)
    claimed_standard_error: float = Field(sa_type=sa.Double)
    shrunk: float = Field(sa_type=sa.Double)
    shrunk_sd: float = Field(sa_type=sa.Double)
    shrunk_lower_80: float = Field(sa_type=sa.Double)
    shrunk_upper_80: float = Field(sa_type=sa.Double)
    shrunk_lower_95: float = Field(sa_type=sa.Double)
    shrunk_upper_95: float = Field(sa_type=sa.Double)
    chance_positive: float = Field(sa_type=sa.Double)
    share_of_total: float | None = Field(default=None, sa_type=sa.Double)
