"""The server-rendered pages. `router` is included by `app.main.create_app`."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
