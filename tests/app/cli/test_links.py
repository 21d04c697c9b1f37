"""`northlift links` prints what every input has been worth, and what may not be relied on."""

import io

from rich.console import Console
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.links import print_links
from experiments.evidence import LinksContext, draft_links
from experiments.plan import LinksPlan, MissingEffect, PlannedNorthStar
from tests.experiments.joint import evidence
from tests.experiments.past import ENDED


def shown(experiments: int, link: float) -> str:
    spec = {
        "key": "guide",
        "name": "Orders",
        "metric_key": "orders",
        "formula": "active",
        "input_metrics": [{"metric_key": "active"}],
    }
    plan = LinksPlan(
        north_star=PlannedNorthStar.model_validate({"version": 2, "spec": spec}),
        effects=evidence(experiments, 2, link=link),
        missing=[MissingEffect(experiment_key=f"lost-{i}", name="x", reason="it has no result") for i in range(5)],
    )
    document = draft_links(plan, LinksContext("a", ENDED, 1, "t")).finish([])
    written = io.StringIO()
    print_links(document.model_dump(mode="json"), Console(width=160, file=written))
    return written.getvalue()


def test_the_table_has_every_input_and_the_proxy() -> None:
    text = shown(40, 0.95)
    for part in ("guide", "version 2", "40 experiments", "active", "worth of +1 %", "yes", "proxy: 0.", "× active"):
        assert part in text
    assert "missing: lost-4, it has no result" in text and "warn: 40 of 45 experiments" in text


def test_what_may_not_be_relied_on_is_said() -> None:
    assert "no: correlation uncertain" in shown(12, 0.0)
    text = shown(3, 0.5)
    assert "no: too few experiments" in text and "no input may stand for the North Star" in text


def test_an_absent_service_ends_with_a_message() -> None:
    for command in ("learn", "show"):
        absent = CliRunner().invoke(cli, ["links", command, "guide", "--key", "k", "--url", "http://127.0.0.1:9"])
        assert absent.exit_code == 1 and "No service answers" in absent.output
