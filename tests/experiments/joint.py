"""Experiments that have ended with effects on a North Star and its inputs: what links are learned from."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.plan import JointEvidence
from experiments.result import JointEffects
from experiments.tables import Experiment, Result
from tests.app.documents import result
from tests.experiments.past import ENDED

KEYS = ("orders", "active", "per_active")
"""The North Star of `shop.open_shop`, then its inputs."""


def joint_effects(
    number: int, metrics: int = 3, *, seed: int = 1, link: float = 0.95
) -> tuple[list[list[float]], list[list[float]]]:
    """Log lifts by experiment, the North Star's first, whose true effects go together; and their error covariance."""
    rng = np.random.default_rng(seed)
    spread = (1 - link) * np.eye(metrics) + link
    error = 0.2 * (0.5 * np.eye(metrics) + 0.5)
    effects = rng.multivariate_normal(np.zeros(metrics), 1e-4 * (spread + error), number)
    return effects.tolist(), (1e-4 * error).tolist()


def evidence(
    number: int, metrics: int = 3, *, teams: Sequence[str | None] = (None,), **story: Any
) -> list[JointEvidence]:
    """The same as a plan holds it."""
    lifts, covariance = joint_effects(number, metrics, **story)
    return [
        JointEvidence(
            experiment_key=f"past-{i}",
            name=f"past-{i}",
            team=teams[i % len(teams)],
            variant_key="new",
            analysis_id="a",
            data_as_of=ENDED,
            log_lifts=each,
            covariance=covariance,
        )
        for i, each in enumerate(lifts)
    ]


async def remember_joint(
    session: AsyncSession,
    number: int,
    *,
    keys: Sequence[str] = KEYS,
    north_star_key: str = "guide",
    version: int = 1,
    name: str = "joint",
    team: str = "growth",
    purpose: str = "test",
    verdict: str = "inconclusive",
    stopped: bool = True,
    measured: bool = True,
    seed: int = 1,
) -> None:
    """So many experiments a day after one another, with a result each; `measured` says whether it has joint effects."""
    lifts, covariance = joint_effects(number, len(keys), seed=seed)
    for i, each in enumerate(lifts):
        key, at = f"{name}-{i}", ENDED + timedelta(days=i)
        session.add(
            Experiment(
                key=key,
                name=key.title(),
                team=team,
                status="stopped" if stopped else "running",
                spec={"key": key, "purpose": purpose, "north_star_key": north_star_key},
                stopped_at=at if stopped else None,
                created_at=at,
                updated_at=at,
            )
        )
        wider = (4 * np.array(covariance)).tolist()
        effects = [
            JointEffects(variant_key="noisy", metric_keys=list(keys), log_lifts=[9.0] * len(keys), covariance=wider),
            JointEffects(variant_key="new", metric_keys=list(keys), log_lifts=each, covariance=covariance),
        ]
        await report_joint(
            session,
            key,
            effects if measured else [],
            north_star_key=north_star_key,
            version=version,
            verdict=verdict,
            at=at,
        )


async def report_joint(
    session: AsyncSession,
    key: str,
    effects: Sequence[JointEffects],
    *,
    north_star_key: str = "guide",
    version: int = 1,
    verdict: str = "inconclusive",
    at: datetime = ENDED,
) -> None:
    """A result of an experiment with these joint effects."""
    shown = result()
    about = shown.north_star[0].model_copy(update={"north_star_key": north_star_key, "north_star_version": version})
    body = (
        shown.model_copy(update={"experiment_key": key, "north_star": [about], "joint_effects": list(effects)})
        .model_dump_json()
        .encode()
    )
    session.add(
        Result(
            kind="experiment",
            subject_key=key,
            verdict=verdict,
            data_as_of=at,
            body=body,
            etag=hashlib.sha256(body).hexdigest(),
            created_at=at,
        )
    )
    await session.flush()
