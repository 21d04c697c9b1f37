"""The bell: tells workers that an analysis waits. The only module that the API needs of arq.

The `analyses` row is the truth and was committed before; ringing is best effort. A bell that was not heard costs at
most one round of the reconciler. The job id is "<analysis id>:<attempt>": while an attempt waits, arq drops duplicates
itself; the next attempt has another id, so that no key a dead worker left behind can block it.
"""

import asyncio
import json
import uuid
from typing import Any, Final

import structlog
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

QUEUE: Final = "northlift:analyses"
FUNCTION: Final = "run_analysis"
# How long a waiting job lives in Redis; the reconciler rings again for what is forgotten.
JOB_LIFE_MS: Final = 24 * 3600 * 1000
QUEUE_ERRORS: Final = (RedisError, OSError, asyncio.TimeoutError)
_RETRIES: Final = 8

log = structlog.get_logger(__name__)


def job_id(analysis_id: uuid.UUID, attempt: int) -> str:
    """The arq id of the next attempt; `attempt` is the number of attempts so far."""
    return f"{analysis_id}:{attempt}"


def serialize(value: dict[str, Any]) -> bytes:
    """Jobs are JSON, never pickle: whoever can write to Redis must not be able to run code here."""
    return json.dumps(value, default=str).encode()


def deserialize(value: bytes) -> dict[str, Any]:
    return dict(json.loads(value))


def redis_settings(url: str, *, retries: int = _RETRIES) -> RedisSettings:
    """arq's settings for a redis://, rediss:// or unix:// URL; commands survive a server that restarts."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 5
    settings.conn_retries = 0  # the caller decides how often to come back
    settings.retry = Retry(ExponentialBackoff(cap=1, base=0.05), retries)
    settings.retry_on_error = [RedisConnectionError, RedisTimeoutError]
    return settings


async def connect(url: str, *, retries: int = _RETRIES) -> ArqRedis:
    """A pool that speaks arq with our serializer and queue. Raises one of QUEUE_ERRORS when nobody answers."""
    return await create_pool(
        redis_settings(url, retries=retries),
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=QUEUE,
        expires_extra_ms=JOB_LIFE_MS,
    )


class Bell:
    """Rings for analyses. Connects when first rung; never raises because of the queue.

    A web request must not wait for a dead Redis, so a ring gives up after `timeout` seconds.
    """

    def __init__(self, url: str, *, timeout: float = 1.0) -> None:
        self._url = url
        self._timeout = timeout
        self._pool: ArqRedis | None = None
        self._connecting = asyncio.Lock()

    async def ring(self, analysis_id: uuid.UUID, attempt: int = 0) -> bool:
        """Tell the workers; whether the queue knows of it now. Call it after the commit."""
        return await self.ring_all([(analysis_id, attempt)]) == 1

    async def ring_all(self, waiting: list[tuple[uuid.UUID, int]]) -> int:
        """Ring for several; how many the queue has taken or had already."""
        heard = 0
        try:
            async with asyncio.timeout(self._timeout + 0.01 * len(waiting)):
                pool = await self._connected()
                for analysis_id, attempt in waiting:
                    await pool.enqueue_job(FUNCTION, str(analysis_id), _job_id=job_id(analysis_id, attempt))
                    heard += 1
        except QUEUE_ERRORS as error:
            log.warning("bell_not_heard", analyses=len(waiting) - heard, error=type(error).__name__, detail=str(error))
        return heard

    async def reachable(self) -> bool:
        """Whether the queue answers: for readiness checks."""
        try:
            async with asyncio.timeout(self._timeout):
                return bool(await (await self._connected()).ping())
        except QUEUE_ERRORS:
            return False

    async def close(self) -> None:
        """Let go of the connections."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    async def _connected(self) -> ArqRedis:
        async with self._connecting:
            if self._pool is None:
                self._pool = await connect(self._url, retries=2)
            return self._pool
