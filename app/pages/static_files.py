"""The files in `static/` and those of Swagger UI: read and compressed once, named by their content so that browsers may

keep them for ever.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from experiments.errors import NotFound

FOLDER: Final = Path(__file__).parent / "static"
OWN: Final = ("app.css", "app.js", "theme.js", "api_docs.js", "htmx.min.js", "vega.js", "icon.svg")
SWAGGER: Final = ("swagger-ui.css", "swagger-ui-bundle.js")
"""Of the package fastapi-offline, which has them from the project's own release."""
SERVED: Final = {name: FOLDER / name for name in OWN} | {
    name: Path(str(files("fastapi_offline") / "static" / name)) for name in SWAGGER
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent."""

    body: bytes
    compressed: bytes
    digest: str
    media_type: str


@cache
def load(name: str, changed_at: int) -> StaticFile:
    """The file; `changed_at` (ns) makes an edited file a new one."""
    body = SERVED[name].read_bytes()
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if media_type.startswith("text/") or media_type.endswith(("javascript", "svg+xml")):
        media_type += "; charset=utf-8"
    return StaticFile(body, gzip.compress(body, 6, mtime=0), hashlib.sha256(body).hexdigest()[:16], media_type)


def current(name: str) -> StaticFile:
    """The file as it is on disk now. Raises `NotFound`, with what to do when a generated one is missing."""
    path = SERVED.get(name)
    if path is None or not path.exists():
        raise NotFound(
            f"There is no file {name}", remedy="Run `make setup`, which builds what is not in the repository."
        )
    return load(name, path.stat().st_mtime_ns)


def static_url(name: str) -> str:
    """The address of a file, which changes with its content."""
    try:
        return f"/static/{name}?v={current(name).digest}"
    except NotFound:
        return f"/static/{name}"


@router.get("/static/{name}")
async def static_file(name: str, request: Request) -> Response:
    file = current(name)
    etag = f'"{file.digest}"'
    named_by_content = request.query_params.get("v") == file.digest
    headers = {
        "ETag": etag,
        "Cache-Control": "public, max-age=31536000, immutable" if named_by_content else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.body, media_type=file.media_type, headers=headers)
