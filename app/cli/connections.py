"""What the terminal shows of connections, and the rotation of keys, which happens where the database is."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments import connection
from experiments.database import Database
from experiments.secret_keys import SecretKeys
from experiments.settings import Settings
from experiments.types import utc_now

ACTOR = "command line"


def connections_table(connections: Iterable[Mapping[str, Any]]) -> Table:
    """One line per connection."""
    table = Table("connection", "kind", "leads to", "secret", "last check", box=SIMPLE_HEAD, show_edge=False)
    for each in connections:
        spec, check = each["definition"], each["check"]
        place = spec["remote"] if spec["kind"] == "spark" else f"{spec['user']}@{spec['host']}/{spec['database']}"
        said = "not checked" if check is None else "ok" if check["ok"] else "failed"
        if check is not None and check["warnings"]:
            said += f", {len(check['warnings'])} warnings"
        table.add_row(each["key"], spec["kind"], place, "kept" if each["has_secret"] else "none", said)
    return table


def check_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What a check found, in words."""
    if not found["ok"]:
        yield f"Failed: {found['problem']}"
        if found["remedy"]:
            yield f"What to do: {found['remedy']}"
        return
    yield f"{found['server']} answers in {found['latency_ms']:g} ms."
    if found["read_only"]:
        yield "The role can only read."
    yield from (f"Warning: {text}" for text in found["warnings"])


async def encrypt_again(settings: Settings) -> int:
    """Encrypt every stored secret with the first key; how many there are."""
    database = Database(settings.database_url)
    try:
        async with database.write() as session:
            keys = SecretKeys.of(settings)
            return await connection.seal_all_again(session, keys=keys, actor=ACTOR, at=utc_now())
    finally:
        await database.dispose()
