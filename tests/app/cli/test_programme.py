"""`northlift programme` and `northlift holdouts` print totals, claims and beliefs, and realised rates."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.programme import holdouts_table, print_programme
from experiments.evidence import programme_result
from experiments.plan import HoldoutEvidence, MissingEffect
from tests.experiments.test_programme_evidence import AT, effect, history, plan_of


def shown(document: Any) -> str:
    written = io.StringIO()
    print_programme(document.model_dump(mode="json"), Console(width=220, file=written))
    return written.getvalue()


def test_a_programme_is_printed_with_everything_that_was_doubted() -> None:
    effects = history()
    held = HoldoutEvidence(
        holdout_key="h", name="Held", experiment_key="held", share=0.05, started_at=AT - timedelta(days=30),
        released_at=None, launch_keys=[each.launch_key for each in effects if each.launch_key], analysis_id="a",
        log_lift=0.03, standard_error=0.005, contaminated_share=0.0, failed_checks=[],
    )  # fmt: skip
    missing = [MissingEffect(experiment_key=f"m{i}", name="m", reason="never_analysed") for i in range(5)]
    plan = plan_of(effects, holdouts=[held], missing=missing, started=29)
    text = shown(programme_result(plan, analysis_id="a", data_as_of=AT, code_version="t"))
    for part in (
        "full bayes (leads)", "naive sum", "winners only", "make 80 %", "are expected to harm", "e0", "Held",
        "of the claim realised", "24 of 29 experiments", "missing: m0, never analysed",
    ):  # fmt: skip
        assert part in text
    nothing = programme_result(plan_of([effect("a", 0.0)]), analysis_id="a", data_as_of=AT, code_version="t")
    assert "no total: nothing shipped" in shown(nothing)


def test_holdouts_are_listed() -> None:
    row = {
        "key": "h", "name": "Held", "metric_key": "orders", "experiment_key": "held", "released_at": None,
        "started_at": datetime(2026, 5, 1, tzinfo=UTC).isoformat(),
    }  # fmt: skip
    written = io.StringIO()
    Console(width=120, file=written).print(holdouts_table([row]))
    assert "2026-05-01" in written.getvalue() and "Held" in written.getvalue()


def test_an_absent_service_ends_with_a_message() -> None:
    away = ["--key", "k", "--url", "http://127.0.0.1:9"]
    for words in (["programme", "show", "orders"], ["programme", "compute", "orders"], ["holdouts", "list"]):
        absent = CliRunner().invoke(cli, [*words, *away])
        assert absent.exit_code == 1 and "No service answers" in absent.output
