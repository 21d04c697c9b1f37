"""How a result document becomes what the page says."""

import json
from typing import get_args

import pytest

from app.pages import words
from app.pages.evidence_view import EvidenceView, evidence_view
from app.pages.health_view import group_of, health
from app.pages.over_time_view import course_sentence
from experiments.decision import AGREES
from experiments.result import Check, DecisionInterval, ExperimentResult
from experiments.result.findings import Action
from tests.app.complete_document import complete, heterogeneity, judged, monitor
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
    assert view.segments.models[0].chart is None


STOPPED = "Allowing for the stop, the lift is +2.9 % (+0.7 % to +4.9 %)."


def view_of(document: ExperimentResult, name: str) -> EvidenceView:
    return evidence_view(name, document.model_dump_json().encode(), ARMS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, f"{BETTER} (repeated 95 % interval +0.5 % to +5.5 %). {STOPPED}"),
        ({"sequential": []}, f"{BETTER} (repeated 95 % interval +0.5 % to +5.5 %)."),
        (
            {"decision_errors": complete().decision_errors.model_copy(update={"success_tests": 4})},  # type: ignore[union-attr]
            f"{BETTER} (repeated 95 % interval +0.5 % to +5.5 %, corrected). {STOPPED}",
        ),
        (
            {
                "verdict": "inconclusive",
                "verdict_variant": None,
                "rows": [judged("orders", "Orders", significant=None, decision_lower=None, decision_p_value=None)],
            },
            "Nothing is decided yet: Orders +3.0 % so far, not yet judged.",
        ),
        (
            {
                "verdict": "inconclusive",
                "verdict_variant": None,
                "rows": [judged("orders", "Orders", lift=None, ci_lower=None, ci_upper=None, decision_lower=None)],
            },
            "Nothing is decided yet: Orders differs by +0.06 (95 % interval +0.021 to +0.099); it has no relative "
            "lift.",
        ),
    ],
)
def test_the_sentence_of_a_corrected_result_has_the_numbers_that_decide(changes: dict[str, object], says: str) -> None:
    assert view_of(complete(**changes), says).sentence.replace("\u00a0", " ") == says


def test_the_recommendation_repeats_no_reason_that_the_verdict_has_given() -> None:
    found = view_of(complete(), "advice").advice
    assert found is not None
    assert (found.title, found.agrees) == ("Ship One page", ["ship"])
    assert found.reasons == ["Orders per user is a driver of the North Star whose pass-through is not proven."]
    assert found.tags == ["Its link to the North Star is not proven"]
    assert view_of(result(), "old").advice is None


def test_every_action_outcome_and_interval_has_words() -> None:
    assert set(words.ACTIONS) == set(get_args(Action.__value__)) == set(AGREES)
    assert set(words.INTERVALS) == set(get_args(DecisionInterval.__value__))


def test_a_breakdown_by_two_attributes_is_a_table_of_both_with_shades_by_direction() -> None:
    table = view_of(complete(), "heat").segments.two_way[0]
    assert (table.first, table.second, list(table.columns)) == ("country", "platform", ["android", "ios"])
    shades = {name: [cell.shade for cell in cells] for name, cells in table.lines}
    assert shades["DE"] == ["heat-good-3", "heat-good-2"]
    assert shades["FR"] == ["heat-good-1", "heat-bad-2"]
    assert [cell.clear for _, cells in table.lines for cell in cells] == [True, True, False, True, True, False]
    assert [effect.segment for effect in table.others] == ["(other)"]
    rows = [judged("orders", "Orders", direction="decrease")]
    turned = view_of(complete(rows=rows), "heat turned").segments.two_way[0]
    assert turned.lines[0][1][0].shade == "heat-bad-3"


def test_differing_segments_are_said_with_their_corrected_test_and_simpson_warns() -> None:
    alike = heterogeneity(p_value=0.01, p_value_adjusted=0.2, effects=[])
    document = complete(
        heterogeneity=[heterogeneity(reversed=True), alike, heterogeneity(q=None, reason="too_few_segments")]
    )
    found = view_of(document, "simpson").segments
    assert [test.differs for test in found.tests] == [True, False, True]
    assert "The effect differs between segments" in found.two_way[0].sentence
    assert "p = 0.0016, 0.0064 corrected" in found.two_way[0].sentence
    assert "cannot be tested" in found.two_way[1].sentence
    assert len(found.warnings) == 1
    assert "Simpson" in found.warnings[0]


def test_interactions_that_are_reported_come_first() -> None:
    found = view_of(complete(), "interactions").segments
    assert ([item.experiment_key for item in found.interactions], found.interfering) == (
        ["wallet", "search-ranking"],
        1,
    )


def test_checks_are_grouped_and_the_worst_come_first() -> None:
    found = view_of(complete(), "health").health
    assert [(group.key, group.worst) for group in found.groups] == [
        ("traffic", "pass"),
        ("data", "warn"),
        ("statistics", "warn"),
    ]
    assert (found.worst, found.counts) == ("warn", {"fail": 0, "warn": 2, "pass": 4})
    assert group_of(Check(name="sample_ratio_new_population", status="pass", detail="")) == "traffic"
    assert group_of(Check(name="something_new", status="pass", detail="")) == "statistics"
    assert health(complete(), {}, constant_split=False).split is None


def test_a_course_says_how_far_it_is_why_it_stopped_and_what_that_leaves_of_the_estimate() -> None:
    said = course_sentence(monitor(), 0.95).replace("\u00a0", " ")
    assert "4 of 5 looks taken, 80 % of the planned information. An efficacy bound was crossed on 5 Oct 2026." in said
    assert "the median-unbiased lift is +2.9 % (95 % interval +0.7 % to +4.9 %, p = 0.009)." in said
    waiting = monitor(stopped_for=None, stopped_at=None, estimate=None, ci_lower=None, ci_upper=None, p_value=None)
    assert course_sentence(waiting, 0.95).endswith("no bound was crossed.")


def test_corrections_are_said_family_by_family() -> None:
    twice = [judged("orders", "Orders"), judged("visits", "Visits"), judged("x", "X", family="guardrail")]
    assert view_of(complete(rows=twice), "families").corrections == (
        "Success: corrected over 2 comparisons (Holm, intervals by Bonferroni); guardrails need no correction, "
        "because all of them must hold."
    )
    assert view_of(result(), "no families").corrections == ""


def test_documents_of_the_first_schema_still_become_views() -> None:
    old = result().model_dump(mode="json")
    for name in ("recommendation", "decision_errors", "sequential", "heterogeneity", "interactions", "age_curves"):
        del old[name]
    added = {"df", "family", "decision_lower", "significant", "ratio", "cap", "survey", "sequential_lower"}
    old |= {"schema_version": 1, "rows": [{k: v for k, v in item.items() if k not in added} for item in old["rows"]]}
    view = evidence_view("schema 1", json.dumps(old).encode(), ARMS)
    assert view.document.schema_version == 1
    assert view.sentence.replace("\u00a0", " ").startswith(BETTER)
