"""What is in the store: rows, batches and files of every event and every experiment's exposures."""

from fastapi import Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import erasure
from warehouse.inventory import inventory

PLACE = "/catalogue/data"
ERASURES = 20
"""So many of the newest are shown."""

router = pages()


@router.get("/data")
async def data_page(
    request: Request, browser: Browser, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    found = await inventory(database, settings, at=at)
    async with database.read() as session:
        erasures = (await erasure.page(session, state=None, limit=ERASURES, after=None)).items
    return render(
        request,
        "data.html",
        events=[one for one in found.subjects if one.stream == "events"],
        exposures=[one for one in found.subjects if one.stream == "exposures"],
        found=found,
        erasures=[(row, erasure.effects_of(row)) for row in erasures],
        path=PLACE,
    )
