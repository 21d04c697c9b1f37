"""`northlift programme` and `northlift holdouts`: what all experiments on a metric did together."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

programme_cli = typer.Typer(name="programme", help="What all experiments on a metric did", no_args_is_help=True)
holdouts_cli = typer.Typer(name="holdouts", help="People kept from what ships", no_args_is_help=True)
out = Console()

Metric = Annotated[str, typer.Argument(help="Key of the metric")]
Holdout = Annotated[str, typer.Argument(help="Key of the holdout")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]
WinnersOnly = Annotated[
    bool, typer.Option("--winners-only", help="The history was imported without its losers: correct by assumption")
]


@programme_cli.command("show")
def programme_show(metric: Metric, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Print the newest programme of a metric: totals, experiments claimed and believed, holdouts."""
    from app.cli.client import ApiClient
    from app.cli.programme import print_programme

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_programme(client.get(f"/v1/metrics/{metric}/programme"), out)


@programme_cli.command("compute")
def programme_compute(
    metric: Metric, key: Key, winners_only: WinnersOnly = False, url: Url = "http://127.0.0.1:8321"
) -> None:
    """Compute the programme of a metric from all experiments that have ended, and print it."""
    from app.cli.client import ApiClient
    from app.cli.programme import print_programme
    from app.cli.report import follow

    with faults_end_the_command(), ApiClient(url, key) as client:
        asked = str(client.post(f"/v1/metrics/{metric}/programme", {"winners_only": winners_only})["id"])
        follow(client, asked, out)
        print_programme(client.get(f"/v1/analyses/{asked}/result"), out)


@holdouts_cli.command("list")
def holdouts_list(key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """List all holdouts: since when people are kept back, and what measures them."""
    from app.cli.client import ApiClient
    from app.cli.launches import every_item
    from app.cli.programme import holdouts_table

    with faults_end_the_command(), ApiClient(url, key) as client:
        out.print(holdouts_table(every_item(client, "/v1/holdouts")))


@holdouts_cli.command("show")
def holdouts_show(holdout: Holdout, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Print what a holdout realised of what its launches had claimed, from the newest programme of its metric."""
    from app.cli.client import ApiClient
    from app.cli.programme import print_holdout

    with faults_end_the_command(), ApiClient(url, key) as client:
        metric = client.get(f"/v1/holdouts/{holdout}")["metric_key"]
        found = client.get(f"/v1/metrics/{metric}/programme")["holdouts"]
        for each in found:
            if each["holdout_key"] == holdout:
                print_holdout(each, out)
                return
        out.print(f"The newest programme of {metric} does not know `{holdout}` yet: compute it again.")
