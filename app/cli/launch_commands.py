"""`northlift launches`: what shipped, and what it did."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

launches_cli = typer.Typer(name="launches", help="Launches and what they did", no_args_is_help=True)
out = Console()

Launch = Annotated[str, typer.Argument(help="Key of the launch")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]


@launches_cli.command("list")
def launches_list(key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """List all launches with their effect and how much to believe it."""
    from app.cli.client import ApiClient
    from app.cli.launches import every_item, launches_table

    with faults_end_the_command(), ApiClient(url, key) as client:
        launches = every_item(client, "/v1/launches")
        effects = every_item(client, "/v1/launch-effects", leads="true")
        out.print(launches_table(launches, effects))


@launches_cli.command("show")
def launches_show(launch: Launch, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Print what a launch did: every method, the grade of the evidence, and what would raise it."""
    from app.cli.client import ApiClient
    from app.cli.launches import print_launch

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_launch(client.get(f"/v1/launches/{launch}/results/latest"), out)


@launches_cli.command("analyze")
def launches_analyze(launch: Launch, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Measure a launch on its series as they are known now, and print what it did."""
    from app.cli.client import ApiClient
    from app.cli.launches import print_launch
    from app.cli.report import follow

    with faults_end_the_command(), ApiClient(url, key) as client:
        asked = str(client.post(f"/v1/launches/{launch}/analyses")["id"])
        follow(client, asked, out)
        print_launch(client.get(f"/v1/analyses/{asked}/result"), out)
