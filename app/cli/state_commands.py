"""`northlift state`: what analyses of experiments keep on this machine for the next one."""

from typing import Annotated

import typer
from rich.console import Console

state_cli = typer.Typer(name="state", help="What analyses keep for the next one", no_args_is_help=True)
out = Console()


@state_cli.callback()
def about_state() -> None:
    """What analyses keep for the next one."""


@state_cli.command("rebuild")
def state_rebuild(
    experiment: Annotated[str, typer.Argument(help="Key of the experiment")],
) -> None:
    """Forget what is kept of an experiment; its next analysis reads all its data and keeps it anew."""
    from experiments.settings import settings
    from warehouse.state.lane import forget_lanes

    forgotten = forget_lanes(settings().data_dir, experiment)
    kept = "Nothing was kept" if not forgotten else f"Forgot {forgotten} state{'s' * (forgotten > 1)}"
    out.print(f"{kept} of {experiment}; the next analysis reads everything.", highlight=False)
