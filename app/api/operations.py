"""For those who run the service: is it alive, is it ready, what does it count. No keys, no data."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.api.deps import BellDep, DatabaseDep
from app.api.observe import Metrics
from experiments import analysis_request

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """`queue: unreachable` is a warning: analyses are kept and found again by the workers' reconciler."""

    status: str
    database: str = "not asked"
    queue: str = "not asked"


@router.get("/healthz", summary="Is the process alive")
async def get_health() -> Health:
    return Health(status="ok")


@router.get("/readyz", summary="Can it serve requests", responses={503: {"model": Health}})
async def get_readiness(database: DatabaseDep, bell: BellDep, response: Response) -> Health:
    queue = "ok" if await bell.reachable() else "unreachable"
    try:
        async with database.read() as session:
            await analysis_request.count_by_state(session)
    except (SQLAlchemyError, OSError):
        response.status_code = 503
        return Health(status="unavailable", database="unreachable or not migrated", queue=queue)
    return Health(status="ok", database="ok", queue=queue)


@router.get("/metrics", summary="Counters in the Prometheus text format", response_class=Response)
async def get_prometheus(request: Request, database: DatabaseDep) -> Response:
    metrics: Metrics = request.app.state.metrics
    registry = CollectorRegistry()
    gauge = Gauge("northlift_analyses", "Analyses by state", ["state"], registry=registry)
    async with database.read() as session:
        for state, count in (await analysis_request.count_by_state(session)).items():
            gauge.labels(state).set(count)
    return Response(generate_latest(metrics.registry) + generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
