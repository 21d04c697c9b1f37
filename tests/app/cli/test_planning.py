"""`northlift plan` asks what its options say and shows units, days, metrics and the curve."""

import io
from typing import Any

import numpy as np
from rich.console import Console
from typer.testing import CliRunner

from app.api.sample_size import SampleSizeIn
from app.cli.commands import cli
from app.cli.planning import PlanQuestion, print_plan
from experiments.definitions import PlanMetric
from experiments.effect_history import PastEffect
from experiments.planning import sample_size
from tests.experiments.evidence_cases import variants
from tests.experiments.test_planning import ORDERS, baselines


def question(**changes: Any) -> PlanQuestion:
    fields: dict[str, Any] = {
        "unit_type": "user",
        "primary": {"orders": 0.1},
        "guardrail": {"refunds": 0.05},
        "equivalence": [],
        "treatments": 2,
        "weights": {},
        "options": {"power": 0.9, "clusters": None},
    }
    return PlanQuestion(**fields | changes)


def shown(**options: Any) -> str:
    metrics = [
        PlanMetric.model_validate({"metric_key": "orders", "role": "primary", "mde": 0.1}),
        PlanMetric.model_validate({"metric_key": "refunds", "role": "guardrail", "non_inferiority_margin": 0.1}),
    ]
    history = baselines(refunds=ORDERS)
    answer = sample_size(**{"variants": variants(), "metrics": metrics, "baselines": history} | options)
    written = io.StringIO()
    print_plan(answer.model_dump(mode="json"), "user", Console(width=160, file=written))
    return written.getvalue()


def test_the_question_is_one_that_the_service_takes() -> None:
    wanted = SampleSizeIn.model_validate(question().body())
    assert [(v.key, v.is_control) for v in wanted.variants] == [
        ("control", True), ("treatment_1", False), ("treatment_2", False),
    ]  # fmt: skip
    assert sum(v.weight for v in wanted.variants) == 1 and wanted.power == 0.9 and wanted.clusters is None
    assert [(m.metric_key, m.mde, m.non_inferiority_margin) for m in wanted.metrics] == [
        ("orders", 0.1, None), ("refunds", None, 0.05),
    ]  # fmt: skip
    weighted = SampleSizeIn.model_validate(question(weights={"old": 0.8, "new": 0.2}).body())
    assert [(v.key, v.weight, v.is_control) for v in weighted.variants] == [("old", 0.8, True), ("new", 0.2, False)]


def test_the_answer_has_units_days_every_metric_and_the_curve() -> None:
    rng = np.random.default_rng(2)
    past = {"orders": [PastEffect(f"e{i}", "b", float(rng.normal(0, 0.01)), 0.005) for i in range(30)]}
    text = shown(past=past, monitoring="group_sequential", triggered_share=0.5)
    for part in (
        "users",
        "about",
        "to enrol",
        "superiority",
        "non-inferiority",
        "looks",
        "hardly ever",
        "30 experiments",
    ):
        assert part in text
    assert "orders: smallest" in text and "refunds: smallest" in text


def test_what_cannot_be_planned_says_why() -> None:
    assert "orders: no_baseline" in shown(baselines=None)
    without_traffic = shown(baselines=baselines(curve=[], refunds=ORDERS))
    assert "days: no_history" in without_traffic and "smallest" not in without_traffic


def test_faulty_options_and_an_absent_service_end_with_a_message() -> None:
    runner = CliRunner()
    wrong = runner.invoke(cli, ["plan", "--key", "k", "--primary", "orders=much"])
    assert wrong.exit_code == 2 and "number" in wrong.output
    absent = runner.invoke(cli, ["plan", "--key", "k", "--primary", "orders=0.1", "--url", "http://127.0.0.1:9"])
    assert absent.exit_code == 1 and "No service answers" in absent.output
