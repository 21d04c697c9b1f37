"""Every setting of the service, read from the environment (prefix ``NORTHLIFT_``) or an ``.env`` file."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings shared by the API, the workers and the command line."""

    model_config = SettingsConfigDict(env_prefix="NORTHLIFT_", env_file=".env", extra="ignore")

    database_url: str = Field(
        default="sqlite+aiosqlite:///.northlift/northlift.sqlite3",
        description="SQLAlchemy URL with the driver named: sqlite+aiosqlite:// or postgresql+asyncpg://",
    )
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", description="redis:// or unix:// URL of the queue")
    data_dir: Path = Field(default=Path(".northlift/data"), description="Folder of the Parquet store")
    file_source_dir: Path | None = Field(
        default=None,
        description="Only files below this folder may be named by file and DuckDB fact sources; views of a database "
        "read nothing outside it either. Names have no `*`, `?`, `[` or `]`",
    )
    max_upload_bytes: int = Field(default=256 * 1024 * 1024, ge=1024, description="Largest accepted request body")
    ingest_slots: int = Field(default=16, ge=1, description="Uploads that one API process takes at once")
    spool_bytes: int = Field(
        default=1024 * 1024 * 1024, ge=1024, description="Bytes of uploads that one API process holds at once, on disk"
    )
    min_free_disk_bytes: int = Field(
        default=256 * 1024 * 1024, ge=0, description="Uploads are refused when the data folder's disk has less room"
    )
    dead_letter_days: float = Field(
        default=30.0, gt=0, description="How long the refused rows of a batch are kept; they hold identifiers"
    )
    upkeep_minutes: float = Field(
        default=15.0, gt=0, description="How often workers compact the store and remove what nobody reads any more"
    )
    compaction_grace_hours: float = Field(
        default=24.0, gt=0, description="How long files are kept after others replaced them, for analyses that run"
    )
    event_retention_days: float | None = Field(
        default=None, ge=90, description="Events older than this are deleted, once no experiment needs them"
    )
    exposure_retention_days: float | None = Field(
        default=None, ge=90, description="Exposures older than this are deleted, once no experiment needs them"
    )
    allowed_clock_skew_seconds: int = Field(default=300, ge=0, description="How far in the future a timestamp may lie")
    lease_seconds: float = Field(
        default=30.0, gt=0, description="How long a worker owns an analysis between heartbeats"
    )
    analysis_timeout_seconds: float = Field(default=600.0, gt=0, description="Longest time of one analysis")
    max_attempts: int = Field(default=5, ge=1, description="An analysis that kills its worker this often is failed")
    worker_slots: int = Field(default=2, ge=1, description="Analyses one worker process runs at once")
    analysis_threads: int = Field(default=2, ge=1, description="Threads of the data engine in one analysis")
    analysis_memory_mb: int = Field(default=2048, ge=64, description="Memory the data engine may use before it spills")
    keep_state: bool = Field(
        default=True, description="Keep what an analysis of an experiment read, so that the next one reads what is new"
    )
    state_days: float = Field(default=14.0, gt=0, description="What was kept is removed when unused for so long")
    pass_experiments: int = Field(
        default=16,
        ge=1,
        description="Experiments that are due together and read the same facts are measured in one pass",
    )
    warm_models: bool = Field(
        default=True, description="Load compiled models when a worker starts, and compile the segment model if missing"
    )
    model_timeout_seconds: float = Field(default=90.0, gt=0, description="Longest fit of one model")
    model_cache_dir: Path | None = Field(
        default=None, description="Folder of compiled models; without it `northlift/models` in the user's cache folder"
    )
    model_memory_mb: int = Field(
        default=512, ge=160, description="Memory of a worker's sampling process; beyond it the process starts anew"
    )
    metrics_port: int | None = Field(default=None, ge=1, le=65535, description="Port of a worker's Prometheus metrics")
    reconcile_seconds: float = Field(
        default=1.0, gt=0, description="How often workers look for analyses that nobody owns"
    )
    refresh_minutes: float = Field(default=60.0, gt=0, description="How often running experiments are re-analysed")
    secret_keys: SecretStr | None = Field(
        default=None,
        description="Keys for secrets of connections, commas between them; the first encrypts, all decrypt",
    )
    session_hours: float = Field(default=12.0, gt=0, description="Life of a browser session")
    secure_cookies: bool = Field(default=False, description="Set to true behind HTTPS")
    log_json: bool = Field(default=False, description="Log one JSON object per line")
    sqlite_synchronous: str = Field(
        default="FULL", pattern="^(FULL|NORMAL|OFF)$", description="FULL survives a power cut; OFF is for tests"
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process-wide settings, read once."""
    return Settings()
