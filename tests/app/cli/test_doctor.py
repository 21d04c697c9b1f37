"""The doctor finds nothing on a healthy set-up, and names every fault with what to do on a broken one."""

import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from app.cli.doctor import Finding, examine
from experiments.settings import Settings
from tests.servers import REPOSITORY

pytestmark = pytest.mark.anyio


def settings_of(database_url: str, redis_url: str, folder: Path) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url, data_dir=folder / "data")


async def found(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in await examine(settings)}


async def test_a_healthy_set_up_has_no_faults(database_url: str, redis_url: str, tmp_path: Path) -> None:
    findings = await found(settings_of(database_url, redis_url, tmp_path))
    bundle = REPOSITORY / "app" / "pages" / "static" / "vega.js"
    faults = [
        finding for finding in findings.values() if not finding.ok and (finding.name != "charts" or bundle.exists())
    ]
    assert faults == []
    assert findings["database"].detail.startswith("PostgreSQL" if database_url.startswith("postgresql") else "SQLite")


async def test_a_database_without_tables_is_a_fault_with_its_remedy(
    empty_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    finding = (await found(settings_of(empty_database_url, redis_url, tmp_path)))["database"]
    assert not finding.ok and finding.detail.endswith("; run `northlift migrate`")


async def test_an_old_schema_is_a_fault_with_its_remedy(database_url: str, redis_url: str, tmp_path: Path) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    await engine.dispose()
    finding = (await found(settings_of(database_url, redis_url, tmp_path)))["database"]
    assert not finding.ok and "is at 0000" in finding.detail and "northlift migrate" in finding.detail


async def test_every_fault_is_found_though_all_parts_are_broken(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the store should be")
    missing = f"sqlite+aiosqlite:///{tmp_path}/nowhere/northlift.sqlite3"
    findings = await found(settings_of(missing, "redis://127.0.0.1:1/0", tmp_path))
    assert {name for name, finding in findings.items() if not finding.ok} >= {"database", "queue", "store"}
    assert "northlift migrate" in findings["database"].detail
    assert not (tmp_path / "nowhere").exists(), "looking changes nothing"


@pytest.mark.parametrize("url", ["no url at all", "mysql://localhost/northlift", "postgresql://localhost/northlift"])
async def test_a_database_url_that_cannot_be_used_is_a_fault(url: str, redis_url: str, tmp_path: Path) -> None:
    assert not (await found(settings_of(url, redis_url, tmp_path)))["database"].ok


async def test_a_database_that_the_server_does_not_have_is_a_fault(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    gone = sa.make_url(postgres_url).set(database="gone").render_as_string(hide_password=False)
    finding = (await found(settings_of(gone, redis_url, tmp_path)))["database"]
    assert not finding.ok and "does not exist" in finding.detail


async def test_a_queue_url_that_cannot_be_used_is_a_fault(sqlite_url: str, tmp_path: Path) -> None:
    assert not (await found(settings_of(sqlite_url, "http://127.0.0.1:1", tmp_path)))["queue"].ok


async def test_a_store_that_cannot_be_written_is_a_fault(sqlite_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = settings_of(sqlite_url, redis_url, tmp_path)
    settings.data_dir.mkdir()
    settings.data_dir.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        probe = settings.data_dir / "probe"
        probe.touch()
    except PermissionError:
        assert not (await found(settings))["store"].ok
    else:
        probe.unlink()
        pytest.skip("this user may write everywhere")
    finally:
        settings.data_dir.chmod(stat.S_IRWXU)
