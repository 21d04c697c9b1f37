"""What a person can do something about ends a command with a message and exit code 1, not with a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console


@contextmanager
def faults_end_the_command() -> Iterator[None]:
    """Translate the faults that commands know; every other exception is a defect and keeps its traceback."""
    from sqlalchemy.exc import SQLAlchemyError

    from app.cli.client import ApiFailure
    from app.cli.definitions import DefinitionsUnreadable
    from app.cli.importing import ImportRefused
    from app.cli.services import StartupFailed
    from experiments.errors import DomainError
    from workers.embedded import EmbeddedServerError

    try:
        yield
    except (
        ApiFailure, DefinitionsUnreadable, EmbeddedServerError, ImportRefused, StartupFailed, TimeoutError
    ) as fault:  # fmt: skip
        raise _ended(str(fault)) from fault
    except DomainError as fault:
        raise _ended("\n".join(filter(None, (fault.detail, fault.remedy)))) from fault
    except (SQLAlchemyError, OSError) as fault:
        raise _ended(f"{str(fault).splitlines()[0]}\n`northlift doctor` looks for the cause.") from fault


def _ended(message: str) -> typer.Exit:
    Console(stderr=True).print(message, style="red", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(1)
