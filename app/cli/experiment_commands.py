"""`northlift experiments`: what comes after an experiment."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

experiments_cli = typer.Typer(name="experiments", help="What follows from experiments", no_args_is_help=True)
out = Console()


class Relation(StrEnum):
    """What an experiment may be to the one that it follows."""

    ITERATES = "iterates"
    REPLICATES = "replicates"


@experiments_cli.callback()
def experiments_group() -> None:
    """What follows from experiments."""


@experiments_cli.command("follow-up")
def experiments_follow_up(
    experiment: Annotated[str, typer.Argument(help="Key of the experiment to follow")],
    key: Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)],
    relation: Annotated[Relation, typer.Option(help="A launch is retested by replicating")] = Relation.ITERATES,
    register: Annotated[bool, typer.Option(help="Register the draft as it is")] = False,
    url: Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")] = "http://127.0.0.1:8321",
) -> None:
    """Print the draft of an experiment that follows another one, or register it."""
    import yaml

    from app.cli.client import ApiClient

    with faults_end_the_command(), ApiClient(url, key) as client:
        draft = client.get(f"/v1/experiments/{experiment}/follow-up", relation=relation.value)
        if register:
            client.post("/v1/experiments", draft)
            out.print(f"Registered the draft {draft['key']}.", highlight=False)
        else:
            text = yaml.safe_dump(draft, sort_keys=False, allow_unicode=True)
            out.print(text, end="", highlight=False, markup=False, soft_wrap=True)
