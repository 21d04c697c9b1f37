"""Planning: how many units and days an experiment would need, before anybody writes it down. Reads, changes nothing."""

from fastapi import Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep
from app.pages.access import Browser
from app.pages.experiment_form import ExperimentForm
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.sizing_view import sizing
from experiments import metric

MOST_VARIANTS = 20
METRIC_ROWS = 4

router = pages()


@router.get("/planning")
async def planning_page(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """Everything that was typed is in the address, so that a plan can be sent to a colleague."""
    asked = bool(request.query_params)
    typed = ExperimentForm.read(request.query_params) if asked else ExperimentForm.blank()
    arms = _arms(request.query_params.get("arms", ""))
    typed.variants = _equal(arms)
    typed.fields["unit_type"] = typed.fields.get("unit_type") or "user"
    while len(typed.metrics) < METRIC_ROWS:
        typed.add("metric")
    del typed.metrics[max(METRIC_ROWS, len(typed.metrics)) if asked else METRIC_ROWS :]
    document = typed.document()
    async with database.read() as session:
        known = await metric.all_known(session)
        answer = await sizing(session, typed, document) if asked else None
    return render(
        request,
        "planning.html",
        form=typed,
        arms=arms,
        sizing=answer,
        metric_choices=[(key, item.spec.name) for key, item in sorted(known.items())],
    )


def _arms(text: str) -> int:
    """The number of variants, control included; two where the text says nothing sensible."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else 2
    return min(max(number, 2), MOST_VARIANTS)


def _equal(arms: int) -> list[dict[str, str]]:
    """Variants of equal weight, control first; the last one takes what rounding left."""
    share = round(100 / arms, 6)
    weights = [share] * (arms - 1) + [100 - share * (arms - 1)]
    return [
        {
            "key": "control" if i == 0 else "treatment" if arms == 2 else f"treatment-{i}",
            "name": "",
            "weight": f"{weight:.10g}",
            "control": "on" if i == 0 else "",
        }
        for i, weight in enumerate(weights)
    ]
