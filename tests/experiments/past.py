"""Experiments that have ended, with stored results: what priors are learned from."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.tables import Experiment, Result, ResultRow

ENDED = datetime(2026, 8, 1, tzinfo=UTC)
BLANK: dict[str, Any] = dict.fromkeys(set(ResultRow.model_fields) - {"id"})
KNOWN: dict[str, Any] = {
    "metric_version": 1,
    "role": "primary",
    "method": "A1+A3",
    "interval_kind": "log_delta",
    "n_control": 10,
    "n_treatment": 10,
    "ci_level": 0.95,
    "estimable": True,
}


def lifts(number: int, *, seed: int = 1, tau: float = 0.01) -> list[float]:
    """True lifts of a t4 population, measured with an error of 1 %."""
    rng = np.random.default_rng(seed)
    return [float(x) for x in np.expm1(tau * rng.standard_t(4, number) + 0.01 * rng.standard_normal(number))]


async def remember(
    session: AsyncSession,
    found: Iterable[float],
    *,
    metric_key: str = "revenue",
    name: str = "past",
    team: str = "",
    verdict: str = "inconclusive",
    purpose: str = "test",
    stopped: bool = True,
) -> list[Experiment]:
    """One ended experiment for each lift, its standard error 1 % on the log scale, a day after one another."""
    rows = []
    for i, lift in enumerate(found):
        key, at = f"{name}-{i}", ENDED + timedelta(days=i)
        experiment = Experiment(
            key=key,
            name=key,
            team=team,
            status="stopped" if stopped else "running",
            spec={"key": key, "purpose": purpose},
            stopped_at=at if stopped else None,
            created_at=at,
            updated_at=at,
        )
        session.add(experiment)
        await report(session, key, lift, metric_key=metric_key, verdict=verdict, at=at)
        rows.append(experiment)
    await session.flush()
    return rows


async def report(
    session: AsyncSession,
    key: str,
    lift: float,
    *,
    metric_key: str = "revenue",
    verdict: str = "inconclusive",
    at: datetime = ENDED,
) -> None:
    """A result of an experiment: the effect, a worse measured variant, a segment, and a variant without a number."""
    body = f"{key} {lift} {at}".encode()
    result = Result(
        kind="experiment",
        subject_key=key,
        verdict=verdict,
        data_as_of=at,
        body=body,
        etag=hashlib.sha256(body).hexdigest(),
        created_at=at,
    )
    session.add(result)
    await session.flush()
    for variant, segment, value, error in (
        ("new", None, lift, 0.01 * (1 + lift)),
        ("other", None, 0.9, 0.5),
        ("new", "DE", 0.9, 0.001),
        ("third", None, None, None),
    ):
        fields = {
            "result_id": result.id,
            "experiment_key": key,
            "metric_key": metric_key,
            "variant_key": variant,
            "segment": segment,
            "segment_dimension": segment and "country",
            "lift": value,
            "standard_error": error,
        }
        session.add(ResultRow(**BLANK | KNOWN | fields))
