"""`northlift plan`: the question for /v1/sample-size from the command line's options, and its answer as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.numbers import percent

CURVE_DAYS = (7, 14, 21, 28, 42, 56, 84)


@dataclass(frozen=True)
class PlanQuestion:
    """An experiment to come. `primary` and `guardrail` map metrics to the lift worth finding and the harm tolerated."""

    unit_type: str
    primary: Mapping[str, float]
    guardrail: Mapping[str, float]
    equivalence: Sequence[str]
    treatments: int
    weights: Mapping[str, float]
    options: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """The request. The first of `weights` is the control's; without any, arms are equal."""
        equal = ("control", *(f"treatment_{i + 1}" for i in range(self.treatments)))
        shares = dict(self.weights) or dict.fromkeys(equal, 1 / len(equal))
        metrics = [{"metric_key": key, "role": "primary", "mde": lift} for key, lift in self.primary.items()]
        metrics += [
            {"metric_key": key, "role": "guardrail", "non_inferiority_margin": harm}
            for key, harm in self.guardrail.items()
        ]
        return {
            "unit_type": self.unit_type,
            "variants": [
                {"key": name, "weight": share, "is_control": i == 0} for i, (name, share) in enumerate(shares.items())
            ],
            "metrics": metrics,
            "equivalence": list(self.equivalence),
            **{name: value for name, value in self.options.items() if value is not None},
        }


def metrics_table(answer: Mapping[str, Any]) -> Table:
    """One line per metric: its test, what it is planned for, what that takes, and how usual such an effect is."""
    table = Table(
        "metric", "test", "planned for", "units", "days", "usual effects (±)", "note", box=SIMPLE_HEAD, show_edge=False
    )
    for metric in answer["metrics"]:
        usual = metric["usual_effects"] or {}
        notes = [metric["reason"] or ""]
        if metric["unusual"]:
            notes.append("effects this large hardly ever happen")
        if not metric["decides"]:
            notes.append("does not decide")
        table.add_row(
            metric["metric_key"],
            metric["test"].replace("_", "-"),
            percent(metric["effect"], sign=False),
            _whole(metric["units"]),
            _whole(metric["days"]),
            f"{usual['tau']:.2%} ({usual['experiments']} experiments)" if usual.get("tau") is not None else "–",
            "; ".join(note for note in notes if note),
        )
    return table


def curve_table(answer: Mapping[str, Any]) -> Table | None:
    """What ending on some days would show; None without a history of traffic."""
    points = [point for point in answer["curve"] if point["day"] in CURVE_DAYS]
    if not points:
        return None
    smallest = {**points[0]["mde"], **points[0]["margin"]}
    table = Table("days", "units", box=SIMPLE_HEAD, show_edge=False)
    for key in smallest:
        table.add_column(f"{key}: smallest")
        table.add_column("power")
    for point in points:
        cells = []
        for key in smallest:
            cells += [percent((point["mde"] | point["margin"]).get(key), sign=False), _share(point["power"].get(key))]
        table.add_row(str(point["day"]), _whole(point["units"]), *cells)
    return table


def print_plan(answer: Mapping[str, Any], unit_type: str, console: Console) -> None:
    """Units and days, or why there are none; then metric by metric, and over the days."""
    if answer["units"] is None:
        console.print(f"This cannot be planned: {answer['reason']}", highlight=False)
    else:
        days = f"about {answer['days']:.0f} days" if answer["days"] is not None else f"days: {answer['reason']}"
        console.print(f"[bold]{answer['units']:,} {unit_type}s[/], {days}", highlight=False)
        arms = ", ".join(
            f"{arm['variant_key']} {arm['units']:,}" + (f" in {arm['clusters']:,} clusters" if arm["clusters"] else "")
            for arm in answer["variants"]
        )
        console.print(f"  {arms}", highlight=False)
        if answer["enrolled"] != answer["units"]:
            console.print(f"  {answer['enrolled']:,} to enrol, of whom a share is triggered", highlight=False)
    console.print(
        f"  power {answer['power']:.0%} ({answer['power_per_test']:.1%} per test), error {answer['alpha']:.1%}"
        f" ({answer['alpha_per_test']:.2%} per comparison), {len(answer['looks'])} looks"
        f" cost {answer['inflation'] - 1:.1%} more units",
        highlight=False,
    )
    console.print(metrics_table(answer))
    curve = curve_table(answer)
    if curve is not None:
        console.print(curve)


def _whole(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def _share(number: float | None) -> str:
    return "–" if number is None else f"{number:.0%}"
