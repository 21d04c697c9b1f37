"""`northlift priors` prints the prior, the teams' own ones, and every past effect as measured and as believed."""

import io
from datetime import UTC, datetime

import numpy as np
from rich.console import Console
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.priors import print_prior
from experiments.evidence import learned_prior_result
from experiments.plan import PriorEvidence, PriorPlan


def shown(*teams: tuple[str | None, float]) -> str:
    rng = np.random.default_rng(4)
    effects = [
        PriorEvidence(
            experiment_key=f"exp-{team or 'x'}-{i}",
            variant_key="new",
            stratum=team,
            log_lift=centre + float(rng.normal(0, 0.005)),
            standard_error=0.004,
        )
        for team, centre in teams
        for i in range(10)
    ]
    plan = PriorPlan(metric_key="orders", version=3, effects=effects)
    found = learned_prior_result(plan, analysis_id="a", data_as_of=datetime(2026, 9, 1, tzinfo=UTC), code_version="t")
    written = io.StringIO()
    print_prior(found.model_dump(mode="json"), Console(width=160, file=written))
    return written.getvalue()


def test_the_tables_have_the_prior_and_every_past_effect() -> None:
    text = shown((None, 0.0))
    for part in ("orders", "version 3", "10 experiments", "everybody", "spread", "measured", "believed", "exp-x-9"):
        assert part in text
    assert "teams" not in text


def test_teams_that_differ_have_lines_of_their_own() -> None:
    text = shown(("growth", 0.08), ("billing", -0.08))
    assert "teams differ" in text and "growth" in text and "billing" in text
    assert "one prior serves all teams" in shown(("growth", 0.0), ("billing", 0.0))


def test_an_absent_service_ends_with_a_message() -> None:
    for command in ("learn", "show"):
        absent = CliRunner().invoke(cli, ["priors", command, "orders", "--key", "k", "--url", "http://127.0.0.1:9"])
        assert absent.exit_code == 1 and "No service answers" in absent.output
