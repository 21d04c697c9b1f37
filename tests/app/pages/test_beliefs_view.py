"""What the pages say of beliefs: engines beside each other, losses, waiting, other priors, models."""

from typing import Any, get_args

import pytest

from app.charts.theme import PALETTE
from app.pages import words
from app.pages.beliefs_view import PRIORS, accepted_loss, prior_sentence, waiting_sentence
from app.pages.engines_view import ENGINES
from app.pages.evidence_view import EvidenceView, evidence_view
from app.pages.model_words import FAMILIES, LIKELIHOODS, METHODS, parameter_words
from app.pages.models_view import ModelView
from experiments.evidence.unit_questions import LIKELIHOODS as ASKED
from experiments.result import EngineDecision, ExperimentResult, FittedModel, PriorUse
from tests.app.complete_beliefs import alternatives, best, decisions, model, priors, waiting
from tests.app.complete_document import complete
from tests.app.documents import result

ARMS = (("control", "Three steps"), ("treatment", "One page"), ("other", "Two pages"))


def view_of(document: ExperimentResult, name: str, rope: float = 0.0) -> EvidenceView:
    return evidence_view(f"beliefs {name}", document.model_dump_json().encode(), ARMS, True, rope)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_engines_stand_beside_each_other_the_leading_one_first_with_what_its_decision_rests_on() -> None:
    found = view_of(complete(), "engines").engines
    assert found is not None
    assert [(card.title, card.action, card.decision.leads) for card in found.cards] == [
        ("By intervals", "Ship One page", True),
        ("By beliefs", "Keep running", False),
    ]
    card = found.cards[1]
    assert plain(card.loss) == "0.14 % of the North Star"
    assert card.loss_of_thousand == "2.8 orders per 1,000 exposed units"
    assert card.affordable is False
    assert [(line.name, line.chance.chance) for line in card.guardrails] == [("Refund rate", 0.991)]
    assert found.agrees is False
    assert "expects smaller effects" in found.reasons[0]
    assert found.monitoring is not None and found.monitoring.startswith("Chances to win may be read")


def test_results_without_a_bayesian_engine_show_no_engines_and_no_beliefs() -> None:
    alone = decisions()[:1]
    found = view_of(result(decisions=alone, densities=[]), "alone")
    assert found.engines is None
    assert found.beliefs.empty
    assert found.models == []


def test_where_beliefs_lead_the_verdict_is_said_by_them_and_harm_by_its_bounds() -> None:
    intervals, beliefs = decisions()
    led = [beliefs.model_copy(update={"leads": True}), intervals.model_copy(update={"leads": False})]
    found = view_of(complete(decisions=led), "led")
    assert found.by_beliefs
    assert plain(found.sentence) == (
        "One page is better than Three steps: Orders per user +2.9 % (chance to win 99.6 %, 95 % credible interval "
        "+0.9 % to +4.8 %)."
    )
    assert "interval" in view_of(complete(decisions=led, verdict="worse"), "led to harm").sentence
    assert not view_of(complete(), "not led").by_beliefs


def test_losses_of_the_metric_are_said_to_be_its_own() -> None:
    changed = decisions()[1].model_copy(update={"loss_unit": "metric", "expected_loss": 0.0004, "leads": True})
    found = view_of(complete(decisions=[changed]), "metric loss").engines
    assert found is not None
    assert plain(found.cards[0].loss) == "0.04 % of the metric"
    assert found.cards[0].affordable is True


def test_every_engine_prior_model_and_method_has_words() -> None:
    assert set(ENGINES) == set(get_args(EngineDecision.model_fields["engine"].annotation))
    assert set(LIKELIHOODS) == set(ASKED)
    purposes = set(get_args(FittedModel.model_fields["purpose"].annotation))
    assert set(FAMILIES) | {"likelihood"} == purposes
    assert set(METHODS) == set(get_args(FittedModel.model_fields["method"].annotation))
    assert all(prior_sentence(use).endswith(".") for use in priors())
    assert {use.family for use in priors()} == set(get_args(PriorUse.model_fields["family"].annotation))
    assert {item.prior for item in alternatives().alternatives} == set(PRIORS)


@pytest.mark.parametrize(
    ("position", "says"),
    [
        (0, "The prior, learned from 24 past experiments, has most true effects within −4.0 % to +4.4 %."),
        (1, "The default prior (normal) has most true effects within −9.5 % to +10.5 %."),
        (2, "The plan's prior (with fat tails) has most true effects within −5.8 % to +6.2 %."),
        (3, "No prior: every effect was as likely as any other, and the data alone speak."),
    ],
)
def test_a_prior_is_said_as_where_most_effects_lie(position: int, says: str) -> None:
    assert plain(prior_sentence(priors()[position])) == says


def test_each_comparison_has_its_posterior_losses_waiting_and_other_priors() -> None:
    found = view_of(complete(), "comparisons", rope=0.01).beliefs
    orders, refunds, satisfaction = found.comparisons
    assert [item.name for item in found.comparisons] == ["Orders per user", "Refund rate", "Satisfaction"]
    assert orders.density and orders.losses and orders.waiting_chart and orders.sensitivity_chart
    assert len(orders.looks) == 26  # beliefs begin at the third look
    assert orders.rope == pytest.approx(0.01005, abs=1e-5)
    assert (refunds.density, refunds.losses, refunds.waiting_chart) == (None, None, None)
    assert refunds.sensitivity_chart is not None
    assert satisfaction.density is not None
    assert satisfaction.density["description"].endswith("without a prior")
    assert orders.density["description"].endswith("with its prior")


def test_the_accepted_loss_of_an_input_comes_through_its_link_to_the_north_star() -> None:
    document = complete()
    star = document.north_star[0]
    halved = star.inputs[0].model_copy(update={"elasticity": -0.5})
    document = document.model_copy(update={"north_star": [star.model_copy(update={"inputs": [halved]})]})
    assert accepted_loss(document, "orders", "treatment") == 0.001
    assert accepted_loss(document, "active_users", "treatment") == 0.002
    assert accepted_loss(document, "revenue", "treatment") == 0.001
    assert accepted_loss(result(), "orders", "treatment") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "Testing 21 days more is expected to gain 1.4 days’ worth of the metric over deciding now."),
        (
            {"days_worth_waiting": 0.0, "net_gain": 0.0, "reason": "no_planned_end"},
            "Deciding now is expected to be best: more data would cost more than they could change. The plan has no "
            "end, so the chance of a win there cannot be said.",
        ),
        (
            {"days_worth_waiting": None, "curve": [], "reason": "exposure_ended"},
            "What more data are worth cannot be said. Exposure has ended, so no more data will come.",
        ),
    ],
)
def test_waiting_is_worth_its_days_or_not_and_says_why(changes: dict[str, Any], says: str) -> None:
    assert waiting_sentence(waiting(**changes)) == says


def test_the_likeliest_of_many_and_the_one_that_loses_least_are_told_apart() -> None:
    (found,) = view_of(complete(), "best").beliefs.best
    said = plain(found.sentence)
    assert said.startswith("Two pages is the best with a chance of 53.0 %. Choosing One page loses least on average")
    clear = [arm.model_copy(update={"expected_loss": 0.0001}) if arm.variant_key == "other" else arm for arm in best()]
    (found,) = view_of(complete(best_variants=clear), "clear best").beliefs.best
    assert plain(found.sentence).endswith("Choosing it loses 0.01 % on average, the least of all.")


def shown() -> dict[str, ModelView]:
    return {item.name: item for item in view_of(complete(), "models").models}


def test_models_that_are_used_come_first_and_others_say_why_they_are_not() -> None:
    found = shown()
    assert [(name, item.status.text) for name, item in found.items()] == [
        ("Orders per user", "Used in the decision"),
        ("Refund rate", "Not used"),
        ("page_load" if "page_load" in found else "Page load time, 90th percentile", "Not reliable"),
        ("Satisfaction", "Not estimable"),
        ("All metrics", "To read, not to decide"),
        ("Orders per user, replications", "To read, not to decide"),
    ]
    assert "do not describe these units" in found["Refund rate"].reason
    assert found["Refund rate"].failed == 1
    assert found["Satisfaction"].reason == words.REASONS["no_single_units"]


@pytest.mark.parametrize("name", ["Page load time, 90th percentile", "Satisfaction"])
def test_a_model_that_failed_has_a_reason_and_no_numbers(name: str) -> None:
    found = shown()[name]
    assert found.chart is None
    assert found.reason.endswith(".")
    assert not (found.effects or found.parameters or found.checks)


def test_parameters_are_named_for_people_in_the_arms_that_they_are_about() -> None:
    found = shown()
    assert [(p.name, plain(p.value), plain(p.interval)) for p in found["Orders per user"].parameters] == [
        ("Spread of log amounts", "0.810", "0.790 to 0.830"),
        ("Lift of who buys, One page", "+2.1 %", "+0.2 % to +4.1 %"),
        ("Lift of the amount, One page", "+0.3 %", "−1.2 % to +1.8 %"),
    ]
    again = {p.name: plain(p.value) for p in found["Orders per user, replications"].parameters}
    assert again["Chance that a further one points the same way"] == "88.0 %"
    assert found["All metrics"].parameters[0].name == "Common effect, in units of each metric's prior"
    assert parameter_words("some_thing[7]", "likelihood", {}).name == "Some thing, 7"


def test_a_likelihood_is_drawn_beside_what_was_measured_and_families_beside_what_went_in() -> None:
    found = shown()

    def raw(name: str) -> list[float | None]:
        chart = found[name].chart
        assert chart is not None
        values = next(v for v in chart["datasets"].values() if v and "raw" in v[0])
        return [value["raw"] for value in values]

    assert raw("Orders per user") == [0.03]
    assert raw("Orders per user, replications") == [0.03, -0.01]
    spec = found["Orders per user, replications"].chart
    assert spec is not None and {parameter["name"] for parameter in spec["params"]} >= set(PALETTE)


def test_what_models_say_is_a_sentence_of_text_whatever_it_holds() -> None:
    odd = model(status="not_estimable", reason="<b>negative sums", effects=[], arms=[], checks=[], hyper_parameters=[])
    (found,) = view_of(complete(models=[odd]), "odd").models
    assert found.reason == "<b>negative sums."  # escaped by the template, as every text
