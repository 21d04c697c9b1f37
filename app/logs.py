"""Log format of the web process: JSON where machines read it, with the id of the request that an event belongs to."""

import structlog

from app.api.observe import request_id


def _add_request_id(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if identity := request_id.get():
        event["request_id"] = identity
    return event


def configure(*, json: bool) -> None:
    """Set up structlog for this process."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )
