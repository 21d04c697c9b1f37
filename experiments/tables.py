"""The tables. They never parse input (see `definitions`); documents are canonical JSON, states are plain strings."""

import uuid
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from experiments.types import FiniteJSON, UTCDateTime, new_id

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = SQLModel.metadata


def _id() -> Any:
    return Field(default_factory=new_id, primary_key=True, sa_type=sa.Uuid)


def _time(*, nullable: bool = False, index: bool = False) -> Any:
    return Field(default=None, sa_type=UTCDateTime, nullable=nullable, index=index)


def _document(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_type=FiniteJSON, nullable=nullable)


class ApiKey(SQLModel, table=True):
    """A key; only its digest is kept."""

    __tablename__: ClassVar[Any] = "api_keys"
    id: uuid.UUID = _id()
    name: str = Field(max_length=200)
    prefix: str = Field(max_length=16)
    digest: str = Field(max_length=64, unique=True)
    scopes: list[str] = _document()
    created_at: datetime = _time()
    created_by: str = Field(default="", max_length=200)
    expires_at: datetime | None = _time(nullable=True)
    revoked_at: datetime | None = _time(nullable=True)


class BrowserSession(SQLModel, table=True):
    """A signed-in browser: the cookie's digest, the key behind it and the CSRF token of its forms."""

    __tablename__: ClassVar[Any] = "browser_sessions"
    id: uuid.UUID = _id()
    digest: str = Field(max_length=64, unique=True)
    api_key_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="api_keys.id", index=True)
    csrf_token: str = Field(max_length=64)
    created_at: datetime = _time()
    expires_at: datetime = _time()


class IdempotentRequest(SQLModel, table=True):
    """The stored answer to a POST with an Idempotency-Key, in the same transaction as its effect."""

    __tablename__: ClassVar[Any] = "idempotent_requests"
    __table_args__ = (sa.UniqueConstraint("principal", "idempotency_key"),)
    id: uuid.UUID = _id()
    principal: str = Field(max_length=64)
    idempotency_key: str = Field(max_length=200)
    fingerprint: str = Field(max_length=64)
    status: int
    headers: dict[str, str] = _document()
    body: bytes = Field(sa_type=sa.LargeBinary)
    created_at: datetime = _time(index=True)


class AuditEvent(SQLModel, table=True):
    """Who changed what, with the state before and after."""

    __tablename__: ClassVar[Any] = "audit_events"
    id: uuid.UUID = _id()
    at: datetime = _time(index=True)
    actor: str = Field(max_length=200)
    action: str = Field(max_length=100)
    subject_type: str = Field(max_length=32)
    subject_key: str = Field(max_length=100)
    before: dict[str, Any] | None = _document(nullable=True)
    after: dict[str, Any] | None = _document(nullable=True)
    __table_args__ = (sa.Index("ix_audit_events_subject", "subject_type", "subject_key"),)


class FactSource(SQLModel, table=True):
    """Where facts are read."""

    __tablename__: ClassVar[Any] = "fact_sources"
    id: uuid.UUID = _id()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = _document()
    created_at: datetime = _time()
    updated_at: datetime = _time()


class Metric(SQLModel, table=True):
    """The current version of a metric; every version is kept in `metric_versions`."""

    __tablename__: ClassVar[Any] = "metrics"
    id: uuid.UUID = _id()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = _document()
    created_at: datetime = _time()
    updated_at: datetime = _time()
    archived_at: datetime | None = _time(nullable=True)


class MetricVersion(SQLModel, table=True):
    """One immutable version of a metric's definition."""

    __tablename__: ClassVar[Any] = "metric_versions"
    __table_args__ = (sa.UniqueConstraint("metric_id", "version"),)
    id: uuid.UUID = _id()
    metric_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="metrics.id")
    version: int
    spec: dict[str, Any] = _document()
    created_at: datetime = _time()
    created_by: str = Field(max_length=200)


class NorthStar(SQLModel, table=True):
    """The current version of a North Star."""

    __tablename__: ClassVar[Any] = "north_stars"
    id: uuid.UUID = _id()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = _document()
    created_at: datetime = _time()
    updated_at: datetime = _time()


class NorthStarVersion(SQLModel, table=True):
    """One immutable version of a North Star and its tree."""

    __tablename__: ClassVar[Any] = "north_star_versions"
    __table_args__ = (sa.UniqueConstraint("north_star_id", "version"),)
    id: uuid.UUID = _id()
    north_star_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="north_stars.id")
    version: int
    spec: dict[str, Any] = _document()
    created_at: datetime = _time()
    created_by: str = Field(max_length=200)


class Experiment(SQLModel, table=True):
    """An experiment: its definition, where it is in its life, and what came out."""

    __tablename__: ClassVar[Any] = "experiments"
    id: uuid.UUID = _id()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    name: str = Field(max_length=200)
    owner: str = Field(default="", max_length=200, index=True)
    team: str = Field(default="", max_length=200, index=True)
    status: str = Field(default="draft", max_length=16, index=True)
    conclusion: str | None = Field(default=None, max_length=16)
    spec: dict[str, Any] = _document()
    plan: dict[str, Any] | None = _document(nullable=True)
    plan_hash: str | None = Field(default=None, max_length=64)
    parent_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    relation: str | None = Field(default=None, max_length=16)
    started_at: datetime | None = _time(nullable=True)
    stopped_at: datetime | None = _time(nullable=True)
    created_at: datetime = _time()
    updated_at: datetime = _time()


class Phase(SQLModel, table=True):
    """A period of an experiment with constant coverage and weights (METHODS E5, A8)."""

    __tablename__: ClassVar[Any] = "phases"
    id: uuid.UUID = _id()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    started_at: datetime = _time()
    ended_at: datetime | None = _time(nullable=True)
    coverage: float
    weights: dict[str, float] = _document()


class Amendment(SQLModel, table=True):
    """A change to a frozen plan: what was planned, what is planned now, and why. Every later result shows it."""

    __tablename__: ClassVar[Any] = "amendments"
    id: uuid.UUID = _id()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    at: datetime = _time()
    actor: str = Field(max_length=200)
    reason: str = Field(sa_type=sa.Text)
    changes: list[dict[str, Any]] = _document()
    plan_hash_before: str = Field(max_length=64)
    plan_hash_after: str = Field(max_length=64)


class Decision(SQLModel, table=True):
    """A decision and its learnings; the newest one counts."""

    __tablename__: ClassVar[Any] = "decisions"
    id: uuid.UUID = _id()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    outcome: str = Field(max_length=16)
    shipped_variant: str | None = Field(default=None, max_length=63)
    reason: str = Field(sa_type=sa.Text)
    learnings: str = Field(sa_type=sa.Text)
    verdict: str | None = Field(default=None, max_length=16)
    analysis_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="analyses.id")
    launch_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="launches.id")
    decided_by: str = Field(max_length=200)
    decided_at: datetime = _time()


class Launch(SQLModel, table=True):
    """Something that shipped."""

    __tablename__: ClassVar[Any] = "launches"
    id: uuid.UUID = _id()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    name: str = Field(max_length=200)
    experiment_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    spec: dict[str, Any] = _document()
    first_at: datetime = _time(index=True)
    created_at: datetime = _time()
    updated_at: datetime = _time()


class RolloutStepRow(SQLModel, table=True):
    """One step of a launch's coverage path c(t)."""

    __tablename__: ClassVar[Any] = "rollout_steps"
    __table_args__ = (sa.UniqueConstraint("launch_id", "at"),)
    id: uuid.UUID = _id()
    launch_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="launches.id")
    at: datetime = _time()
    coverage: float
    mechanism: str = Field(max_length=16)


class IngestBatch(SQLModel, table=True):
    """A batch that is in the store: the client's id, the file, and what was kept and refused."""

    __tablename__: ClassVar[Any] = "ingest_batches"
    __table_args__ = (sa.UniqueConstraint("stream", "batch_id"),)
    id: uuid.UUID = _id()
    stream: str = Field(max_length=16)
    batch_id: str = Field(max_length=200)
    digest: str = Field(max_length=64)
    path: str = Field(default="", max_length=1000)
    accepted: int
    rejected: int
    errors: list[dict[str, Any]] = _document()
    subjects: list[str] = _document()
    first_at: datetime | None = _time(nullable=True)
    last_at: datetime | None = _time(nullable=True)
    created_at: datetime = _time(index=True)
    created_by: str = Field(max_length=200)


class Summary(SQLModel, table=True):
    """Summary input: cumulative n, mean and variance of one metric in one variant, as of a time."""

    __tablename__: ClassVar[Any] = "summaries"
    __table_args__ = (sa.UniqueConstraint("experiment_id", "metric_key", "variant_key", "as_of"),)
    id: uuid.UUID = _id()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id")
    metric_key: str = Field(max_length=63)
    variant_key: str = Field(max_length=63)
    as_of: datetime = _time()
    n: int = Field(sa_type=sa.BigInteger)
    mean: float = Field(sa_type=sa.Double)
    variance: float = Field(sa_type=sa.Double)
    batch_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="ingest_batches.id", index=True)


class Analysis(SQLModel, table=True):
    """A run: the row is the truth, the queue entry a hint. `attempt` is the fencing token of the lease."""

    __tablename__: ClassVar[Any] = "analyses"
    id: uuid.UUID = _id()
    kind: str = Field(max_length=16)
    subject_key: str = Field(max_length=100, index=True)
    experiment_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    identity: str = Field(max_length=64, unique=True)
    plan: dict[str, Any] = _document()
    plan_hash: str = Field(max_length=64)
    data_as_of: datetime = _time()
    seed: int = Field(sa_type=sa.BigInteger)
    code_version: str = Field(max_length=64)
    state: str = Field(default="queued", max_length=16, index=True)
    attempt: int = 0
    max_attempts: int = 5
    lease_owner: str | None = Field(default=None, max_length=100)
    lease_until: datetime | None = _time(nullable=True)
    heartbeat_at: datetime | None = _time(nullable=True)
    cancel_requested_at: datetime | None = _time(nullable=True)
    stage: str | None = Field(default=None, max_length=64)
    fraction: float = 0.0
    error: dict[str, Any] | None = _document(nullable=True)
    result_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="results.id")
    requested_by: str = Field(max_length=200)
    created_at: datetime = _time(index=True)
    started_at: datetime | None = _time(nullable=True)
    finished_at: datetime | None = _time(nullable=True)


class Result(SQLModel, table=True):
    """An immutable result document as the bytes that are served, with their ETag."""

    __tablename__: ClassVar[Any] = "results"
    id: uuid.UUID = _id()
    kind: str = Field(max_length=16)
    subject_key: str = Field(max_length=100, index=True)
    verdict: str | None = Field(default=None, max_length=16)
    data_as_of: datetime = _time()
    body: bytes = Field(sa_type=sa.LargeBinary)
    etag: str = Field(max_length=64)
    created_at: datetime = _time()


class ResultRow(SQLModel, table=True):
    """One number with its uncertainty: metric x variant x segment x method. Null numbers carry a reason."""

    __tablename__: ClassVar[Any] = "result_rows"
    __table_args__ = (sa.Index("ix_result_rows_metric", "metric_key", "experiment_key"),)
    id: uuid.UUID = _id()
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
