"""A real, small computation to run through workers, and the ways in which one can go wrong. Runs in their children."""

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.errors import PlanIncomplete
from experiments.lease import StoredResult
from experiments.settings import Settings
from experiments.tables import Analysis
from experiments.types import canonical_json
from tests.workers.hard_questions import long_segments, segments
from workers.child import Channel
from workers.kinds import JobKind
from workers.models.messages import ModelQuestion


async def prepare(session: AsyncSession, settings: Settings, analysis: Analysis) -> dict[str, Any]:
    return {"seed": analysis.seed, **analysis.plan}


def expected(plan: dict[str, Any], seed: int) -> bytes:
    """The document that `compute` must give."""
    draws = np.random.default_rng(seed).standard_normal(int(plan.get("draws", 1000)))
    return canonical_json({"name": plan["name"], "sum": float(draws.sum()), "seed": seed})


def compute(payload: dict[str, Any], channel: Channel) -> StoredResult:
    """Draw, sleep as long as the plan says, and misbehave if it says so."""
    seed = int(payload["seed"])
    channel.progress("drawing", 0.25)
    steps = 10
    for step in range(steps):
        time.sleep(float(payload.get("seconds", 0.0)) / steps)
        channel.progress("sleeping", 0.25 + 0.7 * step / steps)
    while (until := payload.get("until")) and not Path(until).exists():
        time.sleep(0.02)
    match payload.get("fault"):
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            raise MemoryError("cannot allocate 1 TB")
        case "domain":
            raise PlanIncomplete("the plan has no primary metric", remedy="add one")
        case "statistics":
            raise ValueError("the matrix is singular")
        case "native":
            np.linalg.svd(np.random.default_rng(seed).standard_normal((3000, 3000)))  # no Python for many seconds
        case "ask":
            channel.ask("anything", stage="asking", begin=0.9, end=1.0)
        case "long models":
            asked = ModelQuestion((segments(1), long_segments(2)), seed)
            channel.ask(asked, stage="models", begin=0.9, end=1.0)
    body = expected(payload, seed)
    return StoredResult(body=body, etag=hashlib.sha256(body).hexdigest())


KINDS = {"tiny": JobKind("tests.workers.tiny:compute", prepare)}
