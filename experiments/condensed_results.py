"""Results of many experiments, each without what only its own page shows: densities, looks, segments, models."""

import asyncio
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa
from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.result import ExperimentResult
from experiments.tables import Result

_AT_ONCE: Final = 20
"""So many bodies are in memory together: one may have half a megabyte."""
_KEPT: Final = frozenset(ExperimentResult.model_fields) - {
    "looks", "densities", "segment_models", "north_star", "projected", "heterogeneity", "interactions", "age_curves",
    "priors", "prior_sensitivity", "best_variants", "models", "waiting", "decisions", "agreement",
}  # fmt: skip
_ABOUT_METRICS: Final = ("rows", "topline", "persistence", "sequential")
_REQUIRED: Final[dict[str, list[Any]]] = {"looks": [], "densities": [], "segment_models": [], "north_star": []}


async def condensed(
    session: AsyncSession, *, result_ids: Sequence[uuid.UUID], metric_keys: Collection[str]
) -> dict[uuid.UUID, ExperimentResult]:
    """By result, what it says of these metrics for everybody: rows, topline, persistence, checks, exposures."""
    found: dict[uuid.UUID, ExperimentResult] = {}
    for start in range(0, len(result_ids), _AT_ONCE):
        some = list(result_ids[start : start + _AT_ONCE])
        statement = sa.select(col(Result.id), col(Result.body)).where(col(Result.id).in_(some))
        bodies = [(key, body) for key, body in (await session.execute(statement)).all()]
        found |= await asyncio.to_thread(_read_all, bodies, metric_keys)
    return found


def _read_all(
    bodies: Sequence[tuple[uuid.UUID, bytes]], metric_keys: Collection[str]
) -> dict[uuid.UUID, ExperimentResult]:
    return {key: _read(body, metric_keys) for key, body in bodies}


def _read(body: bytes, metric_keys: Collection[str]) -> ExperimentResult:
    whole = from_json(body)
    kept = {name: value for name, value in whole.items() if name in _KEPT}
    for name in _ABOUT_METRICS:
        kept[name] = [each for each in kept.get(name, ()) if each["metric_key"] in metric_keys]
    kept["rows"] = [row for row in kept["rows"] if row["segment_dimension"] is None]
    kept["exposures"] = kept["exposures"] | {"daily": []}
    return ExperimentResult.model_validate(_REQUIRED | kept)
