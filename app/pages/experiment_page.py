"""One experiment: the verdict first, then why, then everything behind it."""

from typing import Any

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now
from app.pages.access import Browser
from app.pages.advice import next_look
from app.pages.computation_page import place_of
from app.pages.evidence_view import evidence_view
from app.pages.plan_words import option_lines
from app.pages.rendering import render
from app.pages.route import pages
from experiments import amendment, decision, erasure, experiment, launch_overview, lifecycle, lineage, metric, overview
from experiments.definitions import ExperimentSpec
from experiments.plan import AnalysisPlan
from experiments.tables import Experiment

HISTORY = 20

router = pages()


@router.get("/experiments/{key}")
async def experiment_page(key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    async with database.read() as session:
        row = await experiment.get(session, key=key)
        values = await page_values(session, row)
    return render(request, "experiment.html", **values, now=at)


@router.get("/experiments/{key}/progress")
async def progress_fragment(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """The state of the analysis that is under way; when none is left, the page is loaded again with its result."""
    async with database.read() as session:
        row = await experiment.get(session, key=key)
        active = await overview.active_analysis(session, kind="experiment", subject_key=key)
    headers = {} if active else {"HX-Refresh": "true"}
    return render(request, "_progress.html", headers=headers, address=f"/experiments/{row.key}", active=active)


async def page_values(session: AsyncSession, row: Experiment) -> dict[str, Any]:
    """Everything that the page's template needs, from the stored experiment."""
    spec: ExperimentSpec = experiment.spec_of(row)
    plan = AnalysisPlan.model_validate(row.plan) if row.plan else None
    result = await overview.latest_result(session, kind="experiment", subject_key=row.key)
    arms = sorted(spec.variants, key=lambda variant: not variant.is_control)
    names = tuple((variant.key, variant.name or variant.key) for variant in arms)
    history = await overview.analyses_of(session, kind="experiment", subject_key=row.key, limit=HISTORY)
    known = await metric.all_known(session, archived=True)
    found = await lineage.of(session, experiment=row)
    phases = await lifecycle.phases_of(session, experiment=row)
    # Units of a cluster come together, so chance alone moves their split further than that of single units.
    comparable = spec.cluster is None and len({tuple(sorted(phase.weights.items())) for phase in phases}) < 2
    rope = plan.estimation.rope if plan else 0.0
    evidence = evidence_view(str(result.id), result.body, names, comparable, rope) if result else None
    return {
        "experiment": row,
        "spec": spec,
        "arms": arms,
        "plan": plan,
        "place": await place_of(session, plan),
        "metric_names": {key: item.spec.name for key, item in known.items()},
        "share_metrics": frozenset(item.metric_key for item in plan.metrics if item.spec.is_share) if plan else (),
        "metric_units": {key: item.spec.unit for key, item in known.items()},
        "variant_names": dict(names),
        "result": result,
        "evidence": evidence,
        "erased_since": sum((await erasure.lost_since_result(session, result=result)).values()) if result else 0,
        "moves": lifecycle.legal_moves(row),
        "active": next((analysis for analysis, _ in history if analysis.state in overview.ACTIVE), None),
        "history": history,
        "amendments": await amendment.of(session, experiment=row),
        "next_look": next_look(plan, row.started_at, evidence.document) if plan and evidence else None,
        "options": option_lines(spec),
        "phases": phases,
        "decisions": await decision.of(session, experiment=row),
        "lineage": found,
        "launch_grades": await launch_overview.grades(session, launch_keys=[item.key for item in found.launches]),
        "problem": None,
        "given": {},
    }
