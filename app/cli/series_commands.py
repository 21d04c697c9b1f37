"""`northlift series`: what launches are measured on, and values for it."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

series_cli = typer.Typer(name="series", help="Series that launches are measured on", no_args_is_help=True)
out = Console()

Series = Annotated[str, typer.Argument(help="Key of the series")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]


@series_cli.command("push")
def series_push(
    series: Series,
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="CSV or JSON; - reads standard input")],
    key: Key,
    url: Url = "http://127.0.0.1:8321",
    batch_id: Annotated[
        str | None, typer.Option(help="Your id of the batch, to repeat it safely; default: a new one")
    ] = None,
) -> None:
    """Send values {segment, at, value, n, variance}: new ones, other ones than before, or empty ones to withdraw."""
    from app.cli.client import ApiClient
    from app.cli.series import push, said_of

    with faults_end_the_command(), ApiClient(url, key) as client:
        report = push(client, series, file.read(), batch_id=batch_id)
        out.print(said_of(series, report), highlight=False, soft_wrap=True)


@series_cli.command("list")
def series_list(key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """List all series."""
    from app.cli.client import ApiClient
    from app.cli.launches import every_item
    from app.cli.series import series_table

    with faults_end_the_command(), ApiClient(url, key) as client:
        out.print(series_table(every_item(client, "/v1/series")))


@series_cli.command("show")
def series_show(
    series: Series,
    key: Key,
    url: Url = "http://127.0.0.1:8321",
    periods: Annotated[int, typer.Option(min=1, max=500, help="How many of the newest periods")] = 10,
) -> None:
    """Print a series: what it is, its newest values by segment, and what was restated."""
    from app.cli.client import ApiClient
    from app.cli.series import print_series

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_series(client, series, out, periods=periods)


@series_cli.command("design")
def series_design(
    series: Series,
    key: Key,
    url: Url = "http://127.0.0.1:8321",
    days: Annotated[
        list[int] | None, typer.Option(help="How long it would be measured; several are compared; default: 14")
    ] = None,
    segments: Annotated[
        list[str] | None, typer.Option(help="Segments to launch in, as a,b; again for another set; default: a search")
    ] = None,
    exclude: Annotated[str, typer.Option(help="Segments to leave out altogether, as a,b")] = "",
    history: Annotated[int, typer.Option(help="How many of the newest periods to judge by")] = 180,
) -> None:
    """Before a launch: which segments to begin with, and for how long, so that an effect would show."""
    from app.cli.client import ApiClient
    from app.cli.series import ask_design, print_design

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_design(ask_design(client, series, days or [14], segments or [], exclude, history), out)
