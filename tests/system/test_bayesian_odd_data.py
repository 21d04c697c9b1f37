"""Models of units on data that a sceptical user sends: each ends in numbers, or in a reason, through the service."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from app.cli.client import ApiClient
from tests.system.bench import Bench, Columns, Result, row_of, summarised

N = 400
PROPORTION = {"kind": "proportion", "likelihood": "beta_binomial"}
BAYESIAN = {"engine": "bayesian"}
ADJECTIVES = (
    "control treatment red blue green grey pink black white brown amber azure beige coral ivory lilac olive rose"
)


@pytest.fixture(scope="module")
def bench(client: ApiClient) -> Bench:
    return Bench(client)


def first(k: int, value: float = 1.0, n: int = N) -> np.ndarray:
    """`value` for k units, nothing for the others."""
    return np.where(np.arange(n) < k, value, 0.0)


def model_of(result: Result, name: str) -> dict[str, Any]:
    key = f"{result['experiment_key']}_{name}"
    return next(m for m in result["models"] if (m["purpose"], m["metric_key"]) == ("likelihood", key))


def both(result: Result, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return model_of(result, name), row_of(result, name)


@pytest.fixture(scope="module")
def odd(bench: Bench) -> Result:
    """Rates at the ends of what is possible, in one experiment."""
    counts = {
        "sane": (100, 110),
        "nobody": (0, 0),
        "everybody": (N, N),
        "only_treated": (0, 30),
        "all_control": (N, 300),
    }
    columns = [{name: first(k[a]) for name, k in counts.items()} for a in (0, 1)]
    arms = {"control": columns[0], "treatment": columns[1]}
    return bench.simple("odd_rates", dict.fromkeys(counts, PROPORTION), arms, estimation=BAYESIAN)


def test_a_rate_that_leaves_nothing_to_compare_is_modelled_and_its_row_says_why_it_believes_nothing(
    odd: Result,
) -> None:
    for name in ("nobody", "everybody"):
        model, row = both(odd, name)
        assert (model["status"], model["used"]) == ("ok", False)
        assert "no log lift" in model["reason"]
        assert (row["reason"], row["chance_to_win"]) == ("zero_variance", None)
        assert model["effects"][0]["chance_to_win"] == pytest.approx(0.5, abs=0.05), "only the prior speaks"


def test_no_conversion_in_one_arm_is_no_proof_of_an_infinite_lift(odd: Result) -> None:
    model, row = both(odd, "only_treated")
    assert row["lift"] is None and row["reason"]
    assert not model["used"] and "do not describe these units" in model["reason"]


def test_a_rate_of_one_in_control_is_modelled(odd: Result) -> None:
    model, row = both(odd, "all_control")
    assert model["used"] and row["chance_to_win"] < 0.001 and -0.25 <= row["posterior_lift"] < 0
    model, row = both(odd, "sane")
    assert model["used"] and 0.5 < row["chance_to_win"] < 0.8


def test_one_unit_in_each_arm_and_an_arm_without_any(bench: Bench) -> None:
    one = bench.simple(
        "odd_single", {"m": PROPORTION}, {"control": {"m": [1.0]}, "treatment": {"m": [1.0]}}, estimation=BAYESIAN
    )
    model, row = both(one, "m")
    assert row["reason"] == "too_few_units" and not model["used"] and one["verdict"] == "inconclusive"
    empty: Mapping[str, Columns] = {"control": {"m": first(40)}, "treatment": {"m": []}}
    none = bench.simple("odd_missing", {"m": PROPORTION}, empty, estimation=BAYESIAN)
    model, row = both(none, "m")
    assert (model["status"], model["reason"], none["verdict"]) == ("not_estimable", "an arm has no units", "unreliable")


def test_more_variants_than_a_model_takes_are_refused_by_it_and_compared_all_the_same(bench: Bench) -> None:
    arms = {arm: {"m": first(60 + i, n=300)} for i, arm in enumerate(ADJECTIVES.split())}
    result = bench.simple("odd_many", {"m": PROPORTION}, arms, estimation=BAYESIAN)
    model = model_of(result, "m")
    assert model["status"] == "not_estimable" and "at most 16 arms, not 18" in model["reason"]
    (family,) = [m for m in result["models"] if m["purpose"] == "arms"]
    assert family["status"] == "ok" and len(family["effects"]) == 17
    assert sum(best["chance_to_be_best"] for best in result["best_variants"]) == pytest.approx(1, abs=1e-6)
    assert all(row["chance_to_win"] is not None for row in result["rows"] if row["segment"] is None)


def test_identical_variants_and_summaries_with_the_bayesian_engine(bench: Bench) -> None:
    arms = {"control": {"m": first(100)}, "treatment": {"m": first(104)}}
    result = bench.simple("odd_aa", {"m": PROPORTION}, arms, estimation=BAYESIAN, purpose="aa")
    assert result["verdict"] == "inconclusive" and result["recommendation"]["action"] != "ship"
    units = {"control": 4000, "treatment": 4000}
    halves = {"control": 0.5, "treatment": 0.5}
    shots = [(14.0, units, 10.5)]
    summary = summarised(bench, "odd_summary", halves, shots, estimation=BAYESIAN, planned_units=8000)
    assert summary["models"] == [] and summary["decisions"][0]["engine"] == "bayesian"
    assert row_of(summary, "m")["chance_to_win"] > 0.99


ODD_AMOUNTS: dict[str, tuple[str, Any, Any, str, str]] = {
    # name: likelihood, control, treatment, status, a word of the reason
    "huge": ("gamma_poisson", 1e9, 1e9, "ok", "variance over mean"),
    "fractions": ("gamma_poisson", 0.5, 0.25, "not_estimable", "not_counts"),
    "no_events": ("negative_binomial", 0.0, 0.0, "not_estimable", "no arm has any events"),
    "below_zero": ("negative_binomial", -1.0, 2.0, "not_estimable", "not_counts"),
    "refunds": ("hurdle_lognormal", -5.0, 5.0, "not_estimable", "negative_values"),
    "no_buyers": ("hurdle_lognormal", 0.0, 5.0, "not_estimable", "no buyers"),
    "one_price": ("hurdle_lognormal", 9.0, 9.0, "not_estimable", "all amounts are the same"),
    "constant": ("student_t", 3.0, 3.0, "not_estimable", "all but the same"),
}


@pytest.mark.simulation
def test_every_model_answers_odd_data_with_a_reason(bench: Bench) -> None:
    """python -m pytest -m simulation tests/system/test_bayesian_odd_data.py: compiles four models if none is kept."""
    rng = np.random.default_rng(2)
    metrics: dict[str, Columns] = {name: {"likelihood": given[0]} for name, given in ODD_AMOUNTS.items()}
    metrics |= {"losses": {"likelihood": "student_t"}, "heavy": {"likelihood": "hurdle_lognormal"}}
    metrics |= {"outlier": {"likelihood": "gamma_poisson"}, "wide": {"likelihood": "negative_binomial"}}
    arms = []
    for a in (0, 1):
        columns = {name: np.full(N, given[1 + a]) for name, given in ODD_AMOUNTS.items()}
        columns["losses"] = rng.normal(-5, 1, N)
        columns["heavy"] = first(200) * (1 + rng.pareto(0.7, N))
        columns["outlier"] = np.where(np.arange(N) == 7, 1e7 * (1 - a), rng.poisson(2, N))
        columns["wide"] = np.rint(rng.gamma(0.5, 2e6, N))
        arms.append(columns)
    result = bench.simple("odd_amounts", metrics, {"control": arms[0], "treatment": arms[1]}, estimation=BAYESIAN)
    for name, (_, _, _, status, words) in ODD_AMOUNTS.items():
        model = model_of(result, name)
        assert (model["status"], model["used"]) == (status, False), (name, model["reason"])
        assert words in model["reason"], name
    for name in ("losses", "heavy", "outlier"):
        model = model_of(result, name)
        assert model["status"] in ("ok", "unreliable") and not model["used"] and model["reason"], name
    assert model_of(result, "wide")["status"] == "ok"
