"""What the terminal shows of the Bayesian engine: both decisions, why they differ, beliefs, waiting, models."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from app.cli.numbers import chance, percent, percent_interval, small

_JUDGED: Final = {"frequentist": "By intervals", "bayesian": "By beliefs"}


def engine_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Where two engines decide: what each says, whether they agree, and if not, why."""
    decisions = result.get("decisions", [])
    agreement = result.get("agreement")
    if len(decisions) < 2 or agreement is None:
        return
    if agreement["agrees"]:
        yield ", ".join(["Both engines say so", *(fact for each in decisions for fact in _facts(each))]) + "."
        return
    for decision in decisions:
        leads = " (leads)" if decision["leads"] else ""
        yield f"{_JUDGED[decision['engine']]}{leads}: {', '.join([_action(decision), *_facts(decision)])}."
    yield "They differ because:"
    yield from (f"  {reason}" for reason in agreement["reasons"])


def _action(decision: Mapping[str, Any]) -> str:
    variant = f" {decision['variant_key']}" if decision["variant_key"] and decision["action"] == "ship" else ""
    return str(decision["action"]).replace("_", " ") + variant


def _facts(decision: Mapping[str, Any]) -> Iterator[str]:
    if decision["chance_to_win"] is not None:
        yield f"chance to win {chance(decision['chance_to_win'])}"
    if decision["expected_loss"] is not None:
        of = "the North Star" if decision["loss_unit"] == "north_star" else "the metric"
        most = decision["loss_threshold"]
        limit = "" if most is None else f" (at most {small(most)} may be lost)"
        yield f"expected loss {small(decision['expected_loss'])} of {of}{limit}"


def beliefs_table(result: Mapping[str, Any]) -> Table | None:
    """One line per metric and variant over everybody that anything is believed of; None where nothing is."""
    rows = [row for row in result["rows"] if row["segment"] is None and row.get("hdi_lower") is not None]
    if not rows:
        return None
    level = f"{rows[0]['ci_level'] * 100:g} % HDI"
    table = Table(
        "metric", "variant", "chance to win", "believed", level, "expected loss", box=SIMPLE_HEAD, show_edge=False
    )
    for row in rows:
        table.add_row(
            row["metric_key"],
            row["variant_key"],
            chance(row["chance_to_win"]),
            percent(row["posterior_lift"]),
            percent_interval(row["hdi_lower"], row["hdi_upper"]),
            small(row["expected_loss"]),
        )
    return table


def prior_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Where priors came from, metrics that share one together, and effects that depend on it."""
    metrics: dict[str, list[str]] = {}
    for row in result["rows"]:
        if row["segment"] is None and row.get("prior_source") and row.get("hdi_lower") is not None:
            metrics.setdefault(row["prior_source"], []).append(row["metric_key"])
    for source, keys in metrics.items():
        named = list(dict.fromkeys(keys))
        whose = "of all metrics" if len(metrics) == 1 and len(named) > 1 else f"of {', '.join(named)}"
        yield f"Prior {whose}: {source}."
    for item in result.get("prior_sensitivity", []):
        if item["robust"] is False:
            about = f"{item['metric_key']}, {item['variant_key']}"
            yield f"Another prior would put the chance to win of {about} on the other side of what shipping takes."


def waiting_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What more data are worth, for what they are worth something for."""
    for item in result.get("waiting", []):
        days = item["days_worth_waiting"]
        if days is None:
            continue
        about = f"{item['metric_key']}, {item['variant_key']}"
        power = item["predictive_power_with_prior"]
        ends = "" if power is None else f"; the planned end shows a win with a chance of {chance(power)}"
        if days > 0:
            gain = f"{item['net_gain']:.2g} days' worth of the metric"
            yield f"Worth waiting ({about}): {days:g} days more are expected to bring {gain}{ends}."
        else:
            yield f"Not worth waiting ({about}): no number of days brings more than deciding now{ends}."


def model_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Every model of the library that was asked, whether it may be believed, and whether the rows do."""
    for model in result.get("models", []):
        about = ", ".join(filter(None, (model["metric_key"], model["variant_key"])))
        status = model["status"].replace("_", " ")
        if model["status"] == "ok" and model["purpose"] == "likelihood":
            status = "ok, the rows carry its numbers" if model["used"] else "not used"
        reason = f": {model['reason']}" if model["reason"] else "."
        name = model["model"] if model["purpose"] == "likelihood" else f"{model['model']} ({model['purpose']})"
        yield f"Model {name} of {about}: {status}{reason}"
