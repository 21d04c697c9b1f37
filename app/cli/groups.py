"""Groups of subcommands that have a module each."""

from typing import Final

import typer

from app.cli.computation_commands import computation_cli
from app.cli.connection_commands import connections_cli, secrets_cli
from app.cli.erasure_commands import erasure_cli
from app.cli.experiment_commands import experiments_cli
from app.cli.launch_commands import launches_cli
from app.cli.link_commands import links_cli
from app.cli.model_commands import models_cli
from app.cli.prior_commands import priors_cli
from app.cli.programme_commands import holdouts_cli, programme_cli
from app.cli.review_commands import reviews_cli
from app.cli.series_commands import series_cli
from app.cli.state_commands import state_cli
from app.cli.store_commands import store_cli

GROUPS: Final[tuple[typer.Typer, ...]] = (
    computation_cli,
    experiments_cli,
    launches_cli,
    series_cli,
    priors_cli,
    links_cli,
    programme_cli,
    holdouts_cli,
    reviews_cli,
    connections_cli,
    secrets_cli,
    models_cli,
    store_cli,
    state_cli,
    erasure_cli,
)
