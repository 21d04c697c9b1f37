"""`northlift reviews` prints what moved a North Star: every line of the ledger with its interval, and the headline."""

import io
from typing import Any

from rich.console import Console
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.reviews import print_review, reviews_table
from experiments.ledger_lines import flat
from experiments.result import GrowthReviewResult
from tests.app.review_documents import review_result, too_short


def printed(document: GrowthReviewResult) -> str:
    written = io.StringIO()
    print_review(document.model_dump(mode="json"), Console(width=200, file=written))
    return written.getvalue()


def test_every_line_is_printed_with_its_interval_and_what_was_claimed() -> None:
    text = printed(review_result(units=250.0))
    launches = next(line for line in text.splitlines() if line.strip().startswith("Launches  "))
    assert "+250" in launches and "+200 to +300" in launches and "+500" in launches
    part = next(line for line in text.splitlines() if "One-page checkout" in line)
    assert "+125" in part and "+75 to +175" in part
    observed = next(line for line in text.splitlines() if line.strip().startswith("Observed"))
    assert "+340" in observed and " to " not in observed, "what was observed has no interval"
    assert "Launches account for 250 orders." in text and "All ships together, corrected: +" in text


def test_a_review_that_cannot_be_reconciled_says_so_and_shows_no_line() -> None:
    text = printed(too_short())
    assert "too few to be reconciled" in text and "fail: 70 weeks" in text and "80 %  " not in text


def test_reviews_are_listed_with_what_launches_contributed() -> None:
    reviews: list[dict[str, Any]] = [
        {"key": key, "name": key, "north_star_key": "weekly_orders", "begins_on": "2026-01-05", "ends_on": ends}
        for key, ends in (("older", "2026-04-06"), ("newer", "2026-07-06"))
    ]
    lines = [{**row, "review_key": "newer"} for row in flat(review_result(units=250.0))]
    written = io.StringIO()
    Console(width=200, file=written).print(reviews_table(reviews, lines))
    newer, older = written.getvalue().splitlines()[-2:]
    assert newer.strip().startswith("newer") and "+250" in newer and "+200 to +300" in newer
    assert older.strip().startswith("older") and older.rstrip().endswith("–")


def test_a_day_that_is_no_day_is_refused_before_anything_is_sent() -> None:
    asked = ["reviews", "create", "q", "--north-star", "n", "--begins-on", "soon", "--ends-on", "2026-04-06"]
    answer = CliRunner().invoke(cli, [*asked, "--key", "k"])
    assert answer.exit_code == 2 and "soon" in answer.output
