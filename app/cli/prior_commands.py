"""`northlift priors`: what a metric's past experiments say about the next one."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

priors_cli = typer.Typer(name="priors", help="Priors learned from past experiments", no_args_is_help=True)
out = Console()

Metric = Annotated[str, typer.Argument(help="Key of the metric")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]


@priors_cli.command("learn")
def priors_learn(metric: Metric, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Learn the prior of a metric from all its past experiments and print it."""
    from app.cli.client import ApiClient
    from app.cli.priors import print_prior
    from app.cli.report import follow

    with faults_end_the_command(), ApiClient(url, key) as client:
        follow(client, str(client.post(f"/v1/metrics/{metric}/prior")["id"]), out)
        print_prior(client.get(f"/v1/metrics/{metric}/prior"), out)


@priors_cli.command("show")
def priors_show(metric: Metric, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Print the prior that new experiments take, and the effects it was learned from."""
    from app.cli.client import ApiClient
    from app.cli.priors import print_prior

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_prior(client.get(f"/v1/metrics/{metric}/prior"), out)
