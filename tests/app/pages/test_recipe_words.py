"""Recipes of metrics as the pages tell them."""

from typing import Any

import pytest

from app.api import examples
from app.pages.recipe_words import recipe
from experiments.definitions import MetricSpec

VISITS, ORDERS = {"fact_source": "visits"}, {"fact_source": "orders"}
FROM_GERMANY = {**ORDERS, "filters": [{"column": "country", "value": "DE"}]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            examples.RETENTION,
            "of units with orders within 7 days, those with orders in days 7 to 14 after the first of these",
        ),
        ({"kind": "retention", "measure": VISITS, "delay_days": 7}, "units with visits, days 7 to 14 after exposure"),
        (
            examples.FUNNEL,
            "Basket, then Address within 1 day, then Order within 1 day: share of those who take the first step, "
            "7 days from exposure on",
        ),
        (examples.PARTICIPATION, "share of 14 days from exposure on with visits"),
        (examples.LAST_VALUE, "last value of balances, 7 days from exposure on"),
        ({"kind": "proportion", "measure": VISITS, "window_days": None}, "units with visits, until the look"),
        (
            {"kind": "mean", "measure": FROM_GERMANY},
            "number of orders with country = DE, 7 days from exposure on",
        ),
        (
            {"kind": "ratio", "numerator": ORDERS, "denominator": VISITS},
            "number of orders over number of visits, 7 days from exposure on",
        ),
        ({"kind": "mean"}, ""),
        ({"kind": "formula", "formula": "a + b"}, ""),
    ],
)
def test_a_recipe_is_told_in_words(fields: dict[str, Any], words: str) -> None:
    assert recipe(MetricSpec.model_validate({"key": "m", "name": "M", **fields})) == words
