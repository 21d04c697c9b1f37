"""What things are: fact sources, metrics, North Stars, launches, series, holdouts, growth reviews."""

import uuid
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from experiments.tables.fields import document, identifier, moment


class FactSource(SQLModel, table=True):
    """Where facts are read."""

    __tablename__: ClassVar[Any] = "fact_sources"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    updated_at: datetime = moment()


class Connection(SQLModel, table=True):
    """A warehouse. `secret` is encrypted, and never leaves the service; `check` is what the last test found."""

    __tablename__: ClassVar[Any] = "connections"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = document()
    secret: bytes | None = Field(default=None, sa_type=sa.LargeBinary, nullable=True)
    check: dict[str, Any] | None = document(nullable=True)
    checked_at: datetime | None = moment(nullable=True)
    created_at: datetime = moment()
    updated_at: datetime = moment()


class Metric(SQLModel, table=True):
    """The current version of a metric; every version is kept in `metric_versions`."""

    __tablename__: ClassVar[Any] = "metrics"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    updated_at: datetime = moment()
    archived_at: datetime | None = moment(nullable=True)


class MetricVersion(SQLModel, table=True):
    """One immutable version of a metric's definition."""

    __tablename__: ClassVar[Any] = "metric_versions"
    __table_args__ = (sa.UniqueConstraint("metric_id", "version"),)
    id: uuid.UUID = identifier()
    metric_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="metrics.id")
    version: int
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    created_by: str = Field(max_length=200)


class NorthStar(SQLModel, table=True):
    """The current version of a North Star."""

    __tablename__: ClassVar[Any] = "north_stars"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    updated_at: datetime = moment()


class NorthStarVersion(SQLModel, table=True):
    """One immutable version of a North Star and its tree."""

    __tablename__: ClassVar[Any] = "north_star_versions"
    __table_args__ = (sa.UniqueConstraint("north_star_id", "version"),)
    id: uuid.UUID = identifier()
    north_star_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="north_stars.id")
    version: int
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    created_by: str = Field(max_length=200)


class Launch(SQLModel, table=True):
    """Something that shipped."""

    __tablename__: ClassVar[Any] = "launches"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    name: str = Field(max_length=200)
    experiment_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    spec: dict[str, Any] = document()
    first_at: datetime = moment(index=True)
    measured_since: datetime = moment()
    created_at: datetime = moment()
    updated_at: datetime = moment()


class RolloutStepRow(SQLModel, table=True):
    """One step of a launch's coverage path c(t)."""

    __tablename__: ClassVar[Any] = "rollout_steps"
    __table_args__ = (sa.UniqueConstraint("launch_id", "at"),)
    id: uuid.UUID = identifier()
    launch_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="launches.id")
    at: datetime = moment()
    coverage: float
    mechanism: str = Field(max_length=16)
    segments: list[str] = document()


class Series(SQLModel, table=True):
    """The current version of a series; every version is kept in `series_versions`."""

    __tablename__: ClassVar[Any] = "series"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    updated_at: datetime = moment()
    archived_at: datetime | None = moment(nullable=True)


class SeriesVersion(SQLModel, table=True):
    """One immutable version of a series' definition."""

    __tablename__: ClassVar[Any] = "series_versions"
    __table_args__ = (sa.UniqueConstraint("series_id", "version"),)
    id: uuid.UUID = identifier()
    series_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="series.id")
    version: int
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    created_by: str = Field(max_length=200)


class Holdout(SQLModel, table=True):
    """People who are kept from launches; `experiment_id` is the experiment that measures them."""

    __tablename__: ClassVar[Any] = "holdouts"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    spec: dict[str, Any] = document()
    created_at: datetime = moment()
    updated_at: datetime = moment()


class GrowthReview(SQLModel, table=True):
    """A review of a North Star for a period; its results are analyses of the kind `growth_review` about its key."""

    __tablename__: ClassVar[Any] = "growth_reviews"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    north_star_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="north_stars.id", index=True)
    spec: dict[str, Any] = document()
    ends_at: datetime = moment(index=True)
    created_at: datetime = moment()
    updated_at: datetime = moment()
