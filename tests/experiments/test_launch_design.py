"""The strongest design that the facts allow is chosen, whatever the outcomes were."""

from typing import Any

import numpy as np
import pytest

from experiments.evidence.launch.design import designs, leading_methods
from experiments.plan import LaunchPlan, PlannedMeasurement
from tests.experiments.launch_cases import (
    ARMS,
    COUNTRIES,
    WHOLE,
    countries,
    data_of,
    experiment,
    measurement,
    plan_of,
    series,
    step,
    table,
)


def switches(count: int) -> list[Any]:
    return [step(40 + 2 * k, (k + 1) % 2, "random") for k in range(count)]


CONTROLLED = measurement(series(dimension=""), controls=[series("other", "")])
CASES: dict[str, tuple[LaunchPlan, str, str]] = {
    "an experiment was behind it": (
        plan_of(step(40, 1, "all_at_once"), measured=measurement(experiment=experiment())),
        "experiment",
        "experiment",
    ),
    "its experiment cannot be used": (
        plan_of(
            step(40, 1, "all_at_once"),
            measured=measurement(experiment=experiment(failed_checks=["sample_ratio"])),
        ),
        "before_after",
        "structural",
    ),
    "stages by a hash of the unit": (
        plan_of(step(40, 0.1, "random"), step(47, 0.5, "random"), measured=ARMS),
        "staged",
        "staged",
    ),
    "arms, but everybody at once": (plan_of(step(40, 1, "all_at_once"), measured=ARMS), "none", ""),
    "switched on and off by lot": (plan_of(*switches(9), measured=WHOLE), "switchback", "switchback"),
    "switched too seldom": (plan_of(*switches(3), measured=WHOLE), "before_after", "structural"),
    "segments by lot, one wave": (
        plan_of(step(40, 1, "random", segments=["de", "fr"])),
        "random_order",
        "imputation",
    ),
    "one segment by lot": (plan_of(step(40, 1, "random", segments=["de"])), "concurrent", "synthetic_did"),
    "segments in waves": (
        plan_of(step(40, 1, segments=["de"]), step(46, 1, segments=["fr"])),
        "staggered",
        "imputation",
    ),
    "one wave, enough donors": (plan_of(step(40, 1, segments=["de"])), "concurrent", "synthetic_did"),
    "one wave, three donors": (
        plan_of(
            step(40, 1, segments=["de"]),
            measured=measurement(options={"excluded_segments": list(COUNTRIES[:3] + COUNTRIES[7:])}),
        ),
        "concurrent",
        "did",
    ),
    "one wave, one donor": (
        plan_of(
            step(40, 1, segments=["de"]),
            measured=measurement(options={"excluded_segments": list(COUNTRIES[:3] + COUNTRIES[5:])}),
        ),
        "concurrent",
        "bsts",
    ),
    "a control series": (plan_of(step(40, 1, "all_at_once"), measured=CONTROLLED), "donors", "bsts"),
    "everybody at once": (plan_of(step(40, 1, "all_at_once"), measured=WHOLE), "before_after", "structural"),
    "a random ramp that the series cannot tell apart": (
        plan_of(step(40, 0.5, "random"), step(45, 1, "random")),
        "before_after",
        "structural",
    ),
    "nothing since the launch": (plan_of(step(60, 1, "all_at_once"), measured=WHOLE), "none", ""),
}


def tables_of(item: PlannedMeasurement, seed: int) -> dict[str, Any]:
    values = countries(60, seed=seed)
    whole = {"": values.sum(axis=0, keepdims=True), "arm": values[:2]}
    names = {"": [""], "arm": ["on", "off"]}
    dimension = item.outcome.spec.dimension
    return {
        "revenue": table(whole.get(dimension, values), names.get(dimension, COUNTRIES)),
        "other": table(values[:1], [""]),
    }


@pytest.mark.parametrize("name", CASES)
def test_the_strongest_design_that_the_facts_allow_is_chosen(name: str) -> None:
    plan, design, method = CASES[name]
    (item,) = plan.measurements
    data = data_of(plan, tables_of(item, 1), 60)
    found = designs(plan, item, data)
    (chosen,) = [option for option in found if option.chosen]
    assert chosen.design == design
    assert next(iter(leading_methods(chosen.design, data)), "") == method
    assert all(not option.possible for option in found[: found.index(chosen)])
    assert designs(plan, item, data_of(plan, tables_of(item, 2), 60)) == found


def test_every_refused_design_says_why_in_numbers() -> None:
    plan = plan_of(*switches(3), measured=WHOLE)
    found = designs(plan, WHOLE, data_of(plan, tables_of(WHOLE, 1), 60))
    (refused,) = [option for option in found if option.design == "switchback"]
    assert (refused.why, refused.numbers["changes"], refused.numbers["needed"]) == ("too_few_changes", 2.0, 4.0)
    assert all(np.isfinite(list(option.numbers.values())).all() for option in found)
