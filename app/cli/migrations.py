"""Bring a database to the newest schema."""

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from app.cli.services import REPOSITORY


def upgrade(database_url: str) -> None:
    """Run the migrations that are missing. SQLite files and their folder are made when absent."""
    from pathlib import Path

    parsed = make_url(database_url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    config = Config(str(REPOSITORY / "alembic.ini"))
    config.attributes["url"] = database_url
    command.upgrade(config, "head")
