"""What `northlift store` shows and does."""

from rich.markup import escape
from rich.table import Table

from experiments.database import Database
from experiments.settings import Settings
from experiments.types import utc_now
from warehouse.inventory import inventory
from workers.upkeep import Order, run


async def table_of_store(settings: Settings) -> tuple[Table, str]:
    """A row per subject, and a line about retention and refused rows."""
    database = Database(settings.database_url)
    try:
        found = await inventory(database, settings, at=utc_now())
    finally:
        await database.dispose()
    table = Table(title=escape(f"Store in {settings.data_dir}"))
    for name in ("Stream", "Subject"):
        table.add_column(name)
    for name in ("Rows", "Batches", "Loose files", "Segments", "MB", "Latest batch"):
        table.add_column(name, justify="right")
    for one in found.subjects:
        table.add_row(
            one.stream,
            escape(one.subject),
            f"{one.rows:,}",
            f"{one.batches:,}",
            f"{one.loose_files:,}",
            str(one.segments),
            f"{one.size_bytes / 1e6:,.1f}",
            f"{one.latest_batch_at:%Y-%m-%d %H:%M}",
        )
    kept = [f"{stream} since {since:%Y-%m-%d}" for stream, since in found.kept_since.items() if since is not None]
    line = f"Kept: {', '.join(kept) if kept else 'everything, for ever'}."
    if found.refused_rows:
        line += f" Refused rows: {found.refused_rows:,}, in so many batches: {found.batches_with_refused_rows:,}."
    return table, line


async def compact_now(settings: Settings, *, everything: bool) -> list[str]:
    """A round of upkeep in this process; what it did, in words."""
    report = await run(Order(settings, everything=everything))
    if report is None:
        return ["A worker is compacting at this moment; there is nothing to do."]
    done = [f"{name.replace('_', ' ')}: {count:,}" for name, count in report.items() if count]
    return done or ["The store was in order."]
