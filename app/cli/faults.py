"""What a person can do something about ends a command with a message and exit code 1, not with a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def faults_end_the_command() -> Iterator[None]:
    """Translate the faults that commands know; every other exception is a defect and keeps its traceback."""
    try:
        yield
    except Exception as fault:
        message = _message(fault)
        if message is None:
            raise
        from rich.console import Console

        Console(stderr=True).print(message, style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from fault


def _message(fault: Exception) -> str | None:
    """What to say; None for what is not a person's fault. Imported only now: most commands end well, and soon."""
    from sqlalchemy.exc import SQLAlchemyError

    from app.cli.client import ApiFailure
    from app.cli.definitions import DefinitionsUnreadable
    from app.cli.importing import ImportRefused
    from app.cli.services import StartupFailed
    from experiments.errors import DomainError
    from workers.embedded import EmbeddedServerError

    match fault:
        case ApiFailure() | DefinitionsUnreadable() | EmbeddedServerError() | ImportRefused() | StartupFailed():
            return str(fault)
        case TimeoutError() if fault.args and isinstance(fault.args[0], str):
            return str(fault)
        case DomainError():
            return "\n".join(filter(None, (fault.detail, fault.remedy)))
        case SQLAlchemyError() | OSError():
            return f"{str(fault).splitlines()[0]}\n`northlift doctor` looks for the cause."
    return None
