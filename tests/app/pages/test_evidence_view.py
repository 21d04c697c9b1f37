"""How a result document becomes what the page says."""

import pytest

from app.pages.evidence_view import evidence_view
from experiments.result import ExperimentResult
from tests.app.documents import NOT_ESTIMABLE, result, row

BETTER = "One page is better than Three steps: Orders per user +3.0 %"
ARMS = (("control", "Three steps"), ("treatment", "One page"), ("other", "Two pages"))


def sentence(document: ExperimentResult, name: str) -> str:
    return evidence_view(name, document.model_dump_json().encode(), ARMS).sentence.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {},
            f"{BETTER} (always-valid 95 % interval +0.1 % to +5.9 %).",
        ),
        (
            {"decision_interval": "fixed"},
            f"{BETTER} (fixed-horizon 95 % interval +1.1 % to +5.0 %).",
        ),
        ({"verdict": "unreliable"}, "These numbers cannot be trusted: a check failed."),
        ({"verdict": "equivalent", "rows": []}, "There is no difference that matters."),
        (
            {
                "verdict": "inconclusive",
                "verdict_variant": None,
                "rows": [row("orders", "Orders", estimable=False, reason="zero_variance", **NOT_ESTIMABLE)],
            },
            "Nothing is decided yet: the lift of Orders could not be estimated.",
        ),
    ],
)
def test_the_verdict_is_one_sentence_with_the_interval_that_decided(changes: dict[str, object], says: str) -> None:
    assert sentence(result(**changes), f"{says}") == says


def test_the_headline_is_the_primary_that_decided_not_the_first_one() -> None:
    rows = [
        row("visits", "Visits", lift=0.001, ci_lower=-0.01, ci_upper=0.012, always_valid_lower=-0.02),
        row("orders", "Orders", variant_key="other", lift=0.2, ci_lower=0.1, ci_upper=0.3, always_valid_lower=0.05),
        row("orders", "Orders", lift=0.03),
    ]
    view = evidence_view("h", result(rows=rows).model_dump_json().encode(), ARMS)
    assert view.headline is not None
    assert (view.headline.metric_key, view.headline.variant_key) == ("orders", "treatment")


HARM = {"lift": -0.04, "ci_lower": -0.06, "ci_upper": -0.02, "always_valid_lower": -0.07, "always_valid_upper": -0.01}


@pytest.mark.parametrize("role", ["primary", "guardrail"])
def test_the_headline_of_a_worse_verdict_is_what_was_harmed(role: str) -> None:
    rows = [row("visits", "Visits"), row("orders", "Orders", role=role, non_inferiority_margin=0.01, **HARM)]
    document = result(verdict="worse", rows=rows)
    assert "One page is worse than Three steps: Orders −4.0 %" in sentence(document, f"worse {role}")


def test_an_unreliable_segment_model_has_no_chart() -> None:
    model = (
        result()
        .segment_models[0]
        .model_copy(
            update={"status": "unreliable", "reason": "diverged", "effects": [], "mean_lift": None, "tau": None}
        )
    )
    view = evidence_view("s", result(segment_models=[model]).model_dump_json().encode(), ARMS)
    assert view.segments[0].chart is None
