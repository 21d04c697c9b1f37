"""`northlift reviews`: what moved a North Star in a period."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

reviews_cli = typer.Typer(name="reviews", help="Growth reviews of North Stars", no_args_is_help=True)
out = Console()


class ReportFormat(StrEnum):
    """What a review can be written as."""

    HTML = "html"
    PDF = "pdf"


Review = Annotated[str, typer.Argument(help="Key of the review")]
Monday = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]


@reviews_cli.command("list")
def reviews_list(key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """List all growth reviews with what their launches contributed."""
    from app.cli.client import ApiClient
    from app.cli.launches import every_item
    from app.cli.reviews import reviews_table

    with faults_end_the_command(), ApiClient(url, key) as client:
        reviews = every_item(client, "/v1/growth-reviews")
        lines = every_item(client, "/v1/ledger-lines", component="launches")
        out.print(reviews_table(reviews, lines))


@reviews_cli.command("create")
def reviews_create(
    review: Review,
    north_star: Annotated[str, typer.Option(help="Key of the North Star")],
    begins_on: Monday,
    ends_on: Monday,
    key: Key,
    name: Annotated[str, typer.Option(help="Default: the key")] = "",
    compare_with: Annotated[str, typer.Option(help="year_earlier or previous_period")] = "year_earlier",
    engine: Annotated[str, typer.Option(help="collapsed or sampled")] = "collapsed",
    url: Url = "http://127.0.0.1:8321",
) -> None:
    """Register a review of whole weeks: from a Monday up to, not including, another."""
    from app.cli.client import ApiClient

    body = {
        "key": review,
        "name": name or review,
        "north_star_key": north_star,
        "begins_on": begins_on.date().isoformat(),
        "ends_on": ends_on.date().isoformat(),
        "compare_with": compare_with,
        "engine": engine,
    }
    with faults_end_the_command(), ApiClient(url, key) as client:
        client.post("/v1/growth-reviews", body)
    out.print(f"Registered the growth review {review}.", highlight=False, markup=False)


@reviews_cli.command("show")
def reviews_show(review: Review, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Print a review: its headline, and the ledger's lines with 80 % intervals."""
    from app.cli.client import ApiClient
    from app.cli.reviews import print_review

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_review(client.get(f"/v1/growth-reviews/{review}/result"), out)


@reviews_cli.command("report")
def reviews_report(
    review: Review,
    key: Key,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: the review's key")] = None,
    format: Annotated[ReportFormat, typer.Option(help="html or pdf")] = ReportFormat.PDF,
    url: Url = "http://127.0.0.1:8321",
) -> None:
    """Write a review to a file that can be mailed."""
    from app.cli.client import ApiClient

    target = output or Path(f"{review}.{format.value}")
    with faults_end_the_command(), ApiClient(url, key) as client:
        answer = client.request("GET", f"/v1/growth-reviews/{review}/report", params={"format": format.value})
        target.write_bytes(answer.content)
    out.print(f"Wrote {target}.", highlight=False, markup=False)


@reviews_cli.command("analyze")
def reviews_analyze(review: Review, key: Key, url: Url = "http://127.0.0.1:8321") -> None:
    """Make a review with everything that is on record now, and print it."""
    from app.cli.client import ApiClient
    from app.cli.report import follow
    from app.cli.reviews import print_review

    with faults_end_the_command(), ApiClient(url, key) as client:
        asked = str(client.post(f"/v1/growth-reviews/{review}/analyses")["id"])
        follow(client, asked, out)
        print_review(client.get(f"/v1/analyses/{asked}/result"), out)
