"""Connections: warehouses whose tables fact sources may name. Secrets are no part of a definition."""

from typing import Annotated, Literal

from pydantic import Field

from experiments.definitions.elements import Definition, Key


class PostgresConnection(Definition):
    """A PostgreSQL database. The password is the connection's secret."""

    kind: Literal["postgres"]
    key: Key
    name: str = Field(default="", max_length=200)
    host: str = Field(min_length=1, max_length=255, description="Host name, address, or folder of a Unix socket")
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = Field(min_length=1, max_length=63)
    user: str = Field(min_length=1, max_length=63)
    tls: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    statement_timeout_seconds: float = Field(default=300, gt=0, le=86_400)
    restatement_days: float = Field(
        default=3, ge=0, le=90, description="How long facts may still arrive late; moments of older units are kept"
    )


class SparkConnection(Definition):
    """A Spark cluster by Spark Connect (`sc://host:port`), or Spark in the worker itself (`local[n]`).

    The token, if the server asks for one, is the connection's secret. `parquet`: names of tables that are folders of
    Parquet files, for clusters without a catalogue.
    """

    kind: Literal["spark"]
    key: Key
    name: str = Field(default="", max_length=200)
    remote: str = Field(min_length=1, max_length=500, pattern=r"^(sc://[^\s]+|local(\[(\d+|\*)\])?)$")
    parquet: dict[str, str] = Field(default_factory=dict, max_length=200)
    statement_timeout_seconds: float = Field(default=900, gt=0, le=86_400)
    restatement_days: float = Field(
        default=3, ge=0, le=90, description="How long facts may still arrive late; moments of older units are kept"
    )


ConnectionSpec = Annotated[PostgresConnection | SparkConnection, Field(discriminator="kind")]
