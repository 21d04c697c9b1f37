"""From a stored growth review to the file that one mails."""

import asyncio
from typing import Final, Literal

from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.pages.reports.blocks import Report
from app.pages.reports.growth_review import growth_review_report
from app.pages.reports.html import CONTENT_SECURITY_POLICY, html
from app.pages.reports.pdf import pdf
from app.pages.review_view import stored_review_view
from experiments import growth_review, north_star, review_overview, stored_result
from experiments.ledger_lines import KIND

type Format = Literal["html", "pdf"]

_TYPES: Final = {"html": "text/html; charset=utf-8", "pdf": "application/pdf"}


async def report_of(session: AsyncSession, *, key: str) -> Report:
    """The newest result of a review with what people added. Raises `NotFound`, also where there is no result yet."""
    row = await growth_review.get(session, key=key)
    spec = growth_review.spec_of(row)
    result = await stored_result.latest(session, kind=KIND, subject_key=key)
    star = north_star.spec_of(await north_star.get(session, key=spec.north_star_key))
    names = await review_overview.names(session)
    view = stored_review_view(str(result.id), result.body, star.name, tuple(sorted(names.items())))
    return growth_review_report(view, spec)


async def answer(report: Report, *, key: str, format: Format) -> Response:
    """The file, made in a thread of its own: drawing and typesetting take a second or two."""
    body: str | bytes = await asyncio.to_thread(pdf if format == "pdf" else html, report)
    headers = {
        "Content-Disposition": f'attachment; filename="growth-review-{key}.{format}"',
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(body, media_type=_TYPES[format], headers=headers)
