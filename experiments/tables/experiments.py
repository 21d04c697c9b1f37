"""Experiments and their lives."""

import uuid
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from experiments.tables.fields import document, identifier, moment


class Experiment(SQLModel, table=True):
    """An experiment: its definition, where it is in its life, and what came out."""

    __tablename__: ClassVar[Any] = "experiments"
    id: uuid.UUID = identifier()
    key: str = Field(max_length=63, unique=True)
    version: int = 1
    name: str = Field(max_length=200)
    owner: str = Field(default="", max_length=200, index=True)
    team: str = Field(default="", max_length=200, index=True)
    status: str = Field(default="draft", max_length=16, index=True)
    conclusion: str | None = Field(default=None, max_length=16)
    spec: dict[str, Any] = document()
    plan: dict[str, Any] | None = document(nullable=True)
    plan_hash: str | None = Field(default=None, max_length=64)
    parent_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    relation: str | None = Field(default=None, max_length=16)
    started_at: datetime | None = moment(nullable=True)
    stopped_at: datetime | None = moment(nullable=True)
    created_at: datetime = moment()
    updated_at: datetime = moment()


class Phase(SQLModel, table=True):
    """A period of an experiment with constant coverage and weights (METHODS E5, A8)."""

    __tablename__: ClassVar[Any] = "phases"
    id: uuid.UUID = identifier()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    started_at: datetime = moment()
    ended_at: datetime | None = moment(nullable=True)
    coverage: float
    weights: dict[str, float] = document()


class Amendment(SQLModel, table=True):
    """A change to a frozen plan: what was planned, what is planned now, and why. Every later result shows it."""

    __tablename__: ClassVar[Any] = "amendments"
    id: uuid.UUID = identifier()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    at: datetime = moment()
    actor: str = Field(max_length=200)
    reason: str = Field(sa_type=sa.Text)
    changes: list[dict[str, Any]] = document()
    plan_hash_before: str = Field(max_length=64)
    plan_hash_after: str = Field(max_length=64)


class Decision(SQLModel, table=True):
    """A decision and its learnings; the newest one counts."""

    __tablename__: ClassVar[Any] = "decisions"
    id: uuid.UUID = identifier()
    experiment_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="experiments.id", index=True)
    outcome: str = Field(max_length=16)
    shipped_variant: str | None = Field(default=None, max_length=63)
    reason: str = Field(sa_type=sa.Text)
    learnings: str = Field(sa_type=sa.Text)
    verdict: str | None = Field(default=None, max_length=16)
    recommendation: str | None = Field(default=None, max_length=16)
    against_recommendation: bool | None = None
    override_reason: str | None = Field(default=None, sa_type=sa.Text)
    analysis_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="analyses.id")
    launch_id: uuid.UUID | None = Field(default=None, sa_type=sa.Uuid, foreign_key="launches.id")
    decided_by: str = Field(max_length=200)
    decided_at: datetime = moment()
