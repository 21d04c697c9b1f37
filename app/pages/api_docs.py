"""/docs: the OpenAPI document in Swagger UI, which comes from here and not from another host. Anybody may read it."""

from fastapi import Request
from fastapi.responses import Response

from app.pages.rendering import render
from app.pages.route import pages

router = pages()


@router.get("/docs")
async def api_docs(request: Request) -> Response:
    return render(request, "api_docs.html", openapi=request.app.openapi_url)
