"""`northlift models`: which models are compiled on this machine, and having them compiled now."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

models_cli = typer.Typer(name="models", help="Compiled models", no_args_is_help=True)
out = Console()


@models_cli.command("list")
def models_list() -> None:
    """Show all models: name, version, size class, and whether their code is on disk."""
    from app.cli.models import table_of_models
    from experiments.settings import settings

    with faults_end_the_command():
        out.print(table_of_models(settings()))


@models_cli.command("compile")
def models_compile(
    every_size: Annotated[bool, typer.Option("--every-size", help="Not only the smallest size of each model")] = False,
) -> None:
    """Compile the models that workers would compile at their first use, so that none has to wait."""
    from app.cli.models import compile_models, models_to_compile
    from experiments.settings import settings

    with faults_end_the_command():
        for line in compile_models(settings(), models_to_compile(every_size=every_size)):
            out.print(line, highlight=False)
