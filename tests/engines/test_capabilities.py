"""What the table of capabilities promises of each road is there; what it does not promise is absent."""

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from stats.moment_set import MomentSet
from tests.engines.capability_page import PAGE, page
from warehouse.engines.capabilities import CAPABILITIES, QUANTILE_NOT_COMPILED

type Road = Callable[[str], MomentSet]
NAMED: Final[Mapping[str, tuple[str, Callable[[MomentSet], bool]]]] = {
    "means, proportions, ratios, surveys, retention, funnels, participation": ("numbers", lambda m: bool(m.responses)),
    "further covariates, new units without a history": ("kinds", lambda m: any("no_history" in c for c in m.columns)),
    "open windows": ("open", lambda m: bool(m.overall.mean[:-1, :, m.column("so_far")].any())),
    "caps: fixed, pooled quantile, quantile before exposure": (
        "kinds",
        lambda m: {"revenue", "before"} <= set(m.capped),
    ),
    "segments, two-way segments, strata, stages of a ramp": ("kinds", lambda m: m.by_stratum is not None),
    "clustered randomisation": ("clustered", lambda m: m.clusters is not None),
    "triggers, row filters, mapped units": ("filtered", lambda m: "assigned" in m.populations and bool(m.unmapped)),
    "likelihoods of single units": ("kinds", lambda m: set(m.units) == {"last", "count"}),
    "hash buckets for the jackknife": ("kinds", lambda m: m.buckets is not None and bool(m.buckets.count.any())),
    "quantiles of units, closed window": ("kinds", lambda m: "half" in m.quantiles),
    "quantiles of units, open window or clustered": ("clustered", lambda m: "half" in m.quantiles),
    "quantiles of single facts": ("kinds", lambda m: "each" in m.quantiles),
    "effects by days since exposure": ("numbers", lambda m: "revenue" in m.by_age),
    "effects by days of capped metrics": ("kinds", lambda m: "revenue" in m.by_age),
}
"""By feature a world that asks for it, and whether a result has it."""
ELSEWHERE: Final = {
    "screen of concurrent experiments",  # tests/engines/test_everybody.py, like the next three
    "share of the North Star's company",
    "weeks of North Stars, series of launches",
    "history of metrics for planning",
    "facts of more than 1e290 in size",  # such values are refused on both roads, far below
}


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), "python -m tests.engines.capability_page writes it"


def test_every_capability_is_looked_at() -> None:
    assert {one.feature for one in CAPABILITIES} == {*NAMED, *ELSEWHERE}


@pytest.mark.parametrize("feature", NAMED)
def test_a_road_has_what_it_can_do_and_nothing_else(feature: str, embedded: Road, duckdb_road: Road) -> None:
    (promised,) = (one for one in CAPABILITIES if one.feature == feature)
    name, there = NAMED[feature]
    assert there(embedded(name)) == (promised.embedded == "yes")
    assert there(duckdb_road(name)) == (promised.compiled == "yes")


def test_quantiles_that_are_not_compiled_are_refused_with_their_reason(duckdb_road: Road) -> None:
    assert duckdb_road("kinds").refused == {"each": QUANTILE_NOT_COMPILED}
    assert duckdb_road("clustered").refused == {"half": QUANTILE_NOT_COMPILED}
