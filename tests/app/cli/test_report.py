"""What the terminal shows of a result: one line per metric and variant, a reason where there is no number."""

import io
from typing import Any

from rich.console import Console

from app.cli.numbers import chance, percent, small
from app.cli.report import decision_lines, result_table, show
from experiments.result import Row
from tests.app.complete_beliefs import waiting
from tests.app.complete_document import complete

ROW: dict[str, Any] = {
    "metric_key": "orders",
    "role": "primary",
    "variant_key": "new",
    "segment": None,
    "lift": 0.031,
    "ci_lower": 0.012,
    "ci_upper": 0.05,
    "p_value": 0.00123,
    "reason": None,
}


def shown(rows: list[dict[str, Any]]) -> str:
    written = io.StringIO()
    Console(width=160, file=written).print(result_table({"rows": rows}))
    return written.getvalue()


def test_a_fraction_is_shown_as_a_signed_percentage_and_nothing_as_a_dash() -> None:
    assert (percent(0.031), percent(-0.5), percent(0.998, sign=False), percent(None)) == (
        "+3.10%", "-50.00%", "99.80%", "–",
    )  # fmt: skip


def test_a_line_has_lift_interval_and_p_value() -> None:
    text = shown([ROW])
    for cell in ("orders", "new", "+3.10%", "+1.20% … +5.00%", "0.0012"):
        assert cell in text


def test_segments_are_left_to_the_page() -> None:
    assert "DE" not in shown([ROW, {**ROW, "segment": "DE", "metric_key": "DE"}])


def test_a_number_that_cannot_be_had_is_a_dash_with_its_reason() -> None:
    without = dict.fromkeys(("lift", "ci_lower", "ci_upper", "p_value"))
    text = shown([{**ROW, **without, "reason": "zero_variance"}])
    assert "zero_variance" in text and "–" in text and "nan" not in text.lower()


def test_the_recommendation_is_said_and_which_interval_decides_if_it_is_another() -> None:
    ended = {"decision_interval": "fixed", "recommendation": {"action": "roll_back"}}
    assert decision_lines(ended) == ["Recommended: roll back."]
    running = {"decision_interval": "group_sequential", "recommendation": {"action": "keep_running"}}
    assert decision_lines(running) == [
        "Recommended: keep running.",
        "The group-sequential interval decides, not the one below.",
    ]
    assert decision_lines({"decision_interval": "fixed"}) == [], "results of earlier versions recommend nothing"


def report(**changes: Any) -> str:
    """The whole report of a complete result, one line per sentence."""
    written = io.StringIO()
    show(complete(**changes).model_dump(mode="json"), Console(width=400, file=written))
    return written.getvalue()


def test_a_chance_never_rounds_to_certainty_and_a_small_loss_not_to_nothing() -> None:
    assert (chance(0.999999), chance(1e-6), chance(0.9312), chance(None)) == (">99.99%", "<0.01%", "93.12%", "–")
    assert (small(0.00142), small(2e-5), small(1e-9), small(0.0), small(None)) == (
        "0.14%", "0.002%", "<0.0001%", "0%", "–",
    )  # fmt: skip


def test_every_step_of_a_funnel_has_its_shares_with_their_intervals() -> None:
    lines = [line.split() for line in report().splitlines() if line.lstrip().startswith("orders_per_session ")]
    steps = [" ".join(line) for line in lines if "Basket" in line or "before" in line]
    assert "1 Basket all units 55.00% 53.00% … 57.00% 56.00% 54.00% … 58.00% +1.82% -2.00% … +21.00%" in steps[0]
    assert "the step before 0.00% 0.00% … 2.00% 4.00% 2.00% … 6.00% zero_variance –" in steps[1]


def test_a_chance_to_win_stands_beside_its_interval_its_loss_and_its_prior() -> None:
    text = report(rows=[believed_row()])
    lines = text.splitlines()
    header = next(line for line in lines if "chance to win" in line and "believed" in line)
    line = lines[lines.index(header) + 2]
    for cell in ("93.10%", "+1.80%", "-0.40% … +4.10%", "0.14%"):
        assert cell in line
    assert "95 % HDI" in header
    assert "Prior of orders: learned from 24 experiments (version 3)." in text


def test_engines_that_differ_stand_side_by_side_with_the_reasons() -> None:
    text = report()
    assert "By intervals (leads): ship treatment." in text
    said = "keep running, chance to win 93.10%, expected loss 0.14% of the North Star (at most 0.1% may be lost)"
    assert f"By beliefs: {said}." in text
    assert "expects smaller effects" in text[text.index("They differ because") :]


def test_engines_that_agree_take_one_line_and_one_engine_alone_none() -> None:
    decisions = complete().decisions
    text = report(agreement={"agrees": True, "reasons": []})
    assert "Both engines say so, chance to win 93.10%, expected loss 0.14% of the North Star" in text
    assert "By intervals" not in text and "They differ" not in text
    alone = report(decisions=decisions[:1], agreement=None)
    assert "engines" not in alone and "By intervals" not in alone


def test_what_waiting_is_worth_is_said_in_days() -> None:
    text = report(waiting=[waiting(), waiting(days_worth_waiting=0.0), waiting(days_worth_waiting=None)])
    assert "Worth waiting (orders, treatment): 21 days more are expected to bring 1.4 days' worth of the metric" in text
    assert "Not worth waiting (orders, treatment): no number of days brings more than deciding now" in text
    assert text.count("orth waiting (") == 2


def test_models_are_named_with_their_fate() -> None:
    text = report()
    for line in (
        "Model hurdle_lognormal of orders: ok, the rows carry its numbers.",
        "Model negative_binomial of refund_rate: not used: The model and its prior do not describe these units",
        "Model student_t of page_load: unreliable: R-hat 1.09 is above 1.01",
        "Model beta_binomial of satisfaction: not estimable: no_single_units",
        "Model exchangeable (metrics) of treatment: ok.",
    ):
        assert line in text


def test_effects_that_depend_on_the_prior_and_why_beliefs_may_not_decide_are_said() -> None:
    text = report()
    assert "Another prior would put the chance to win of orders, treatment on the other side" in text
    assert "Chances to win may be read, but do not ship before the planned end" in text


def test_a_result_without_beliefs_shows_none() -> None:
    nothing = {"chance_to_win": None, "hdi_lower": None, "hdi_upper": None, "posterior_lift": None}
    rows = [row.model_copy(update=nothing) for row in complete().rows]
    text = report(rows=rows, decisions=[], agreement=None, waiting=[], models=[], prior_sensitivity=[])
    assert "HDI" not in text and "Prior" not in text


def believed_row() -> Row:
    """One effect with everything that is believed of it."""
    changes: dict[str, Any] = {"chance_to_win": 0.931, "posterior_lift": 0.018, "hdi_lower": -0.004, "hdi_upper": 0.041}
    changes |= {"expected_loss": 0.00142, "prior_source": "learned from 24 experiments (version 3)"}
    return complete().rows[0].model_copy(update=changes)
