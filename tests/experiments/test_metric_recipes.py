"""Which recipes make a metric, and which are refused with what would do."""

from typing import Any

import pytest
from pydantic import ValidationError

from experiments.definitions import MetricSpec

VISITS, ORDERS = {"fact_source": "visits"}, {"fact_source": "orders"}
RETENTION = {"kind": "retention", "measure": VISITS, "delay_days": 7}
FUNNEL = {"kind": "funnel", "steps": [{"measure": VISITS}, {"measure": ORDERS}]}
PARTICIPATION = {"kind": "participation", "measure": VISITS}


def made(**fields: Any) -> MetricSpec:
    return MetricSpec.model_validate({"key": "m", "name": "M", **fields})


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({**RETENTION, "measure": None}, "needs `measure`"),
        ({**RETENTION, "window_days": None}, "needs a closed window"),
        ({**RETENTION, "delay_days": 0}, "give `delay_days`"),
        ({**RETENTION, "delay_days": 0, "start": VISITS}, "would be its own return"),
        ({**RETENTION, "steps": FUNNEL["steps"]}, "must not have `steps`"),
        ({**RETENTION, "start": ORDERS, "likelihood": "beta_binomial"}, "shares of all units"),
        ({**RETENTION, "likelihood": "gamma_poisson"}, "is for means"),
        ({**RETENTION, "cap": {"value": 1}}, "is for mean and ratio metrics"),
        ({**FUNNEL, "steps": []}, "needs `steps`"),
        ({**FUNNEL, "steps": [{"measure": VISITS}]}, "at least two"),
        ({**FUNNEL, "steps": [{"measure": VISITS, "within_days": 1}, {"measure": ORDERS}]}, "no step before it"),
        ({**FUNNEL, "steps": [{"measure": VISITS}] * 11}, "at most 10"),
        ({**FUNNEL, "measure": VISITS}, "must not have `measure`"),
        ({**FUNNEL, "window_days": None}, "needs a closed window"),
        ({**FUNNEL, "funnel_of": "first_step", "likelihood": "beta_binomial"}, "shares of all units"),
        ({**RETENTION, "funnel_of": "first_step"}, "is for funnels"),
        ({**PARTICIPATION, "measure": None}, "needs `measure`"),
        ({**PARTICIPATION, "window_days": 2.5}, "as whole numbers"),
        ({**PARTICIPATION, "delay_days": 0.5}, "as whole numbers"),
        ({**PARTICIPATION, "likelihood": "student_t"}, "is for means"),
        ({"kind": "mean", "measure": VISITS, "start": ORDERS}, "must not have `start`"),
        ({"kind": "mean", "measure": VISITS, "covariates": [ORDERS], "pre_period_days": 0}, "need `pre_period_days`"),
        ({"kind": "mean", "measure": VISITS, "covariates": [ORDERS] * 9}, "at most 8"),
        ({"kind": "survey", "measure": VISITS, "covariates": [ORDERS]}, "not for survey metrics"),
        ({"kind": "formula", "formula": "a + b", "covariates": [ORDERS]}, "not for formula metrics"),
        ({"kind": "mean", "measure": {**VISITS, "aggregation": "first"}}, "last"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_in_words(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        made(**fields)


@pytest.mark.parametrize(
    ("fields", "seen_as", "share", "adds_up"),
    [
        (RETENTION, "proportion", True, False),
        ({**RETENTION, "start": ORDERS}, "ratio", True, False),
        (FUNNEL, "proportion", True, False),
        ({**FUNNEL, "funnel_of": "first_step"}, "ratio", True, False),
        (PARTICIPATION, "mean", True, False),
        ({"kind": "survey", "measure": VISITS}, "ratio", False, True),
        ({"kind": "mean", "measure": {**VISITS, "aggregation": "last"}}, "mean", False, True),
        ({**RETENTION, "likelihood": "beta_binomial"}, "proportion", True, False),
        ({**FUNNEL, "likelihood": "beta_binomial"}, "proportion", True, False),
    ],
)
def test_the_statistics_see_a_mean_a_proportion_or_a_ratio(
    fields: dict[str, Any], seen_as: str, share: bool, adds_up: bool
) -> None:
    spec = made(**fields)
    assert (spec.estimated_as, spec.is_share, spec.adds_up) == (seen_as, share, adds_up)
