"""`northlift links`: what moves in inputs have been worth in a North Star."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

links_cli = typer.Typer(name="links", help="What moves in inputs have been worth", no_args_is_help=True)
out = Console()

NorthStar = Annotated[str, typer.Argument(help="Key of the North Star")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]


@links_cli.command("learn")
def links_learn(north_star: NorthStar, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Learn the links of a North Star from all experiments that have ended and print them."""
    from app.cli.client import ApiClient
    from app.cli.links import print_links
    from app.cli.report import follow

    with faults_end_the_command(), ApiClient(url, key) as client:
        follow(client, str(client.post(f"/v1/north-stars/{north_star}/links/analyses")["id"]), out)
        print_links(client.get(f"/v1/north-stars/{north_star}/links"), out)


@links_cli.command("show")
def links_show(north_star: NorthStar, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Print what was learned last, and which experiments it leaves out."""
    from app.cli.client import ApiClient
    from app.cli.links import print_links

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_links(client.get(f"/v1/north-stars/{north_star}/links"), out)
