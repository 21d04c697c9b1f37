"""The torture cases through the running service: over HTTP into the real application and worker, and out as a result.

Every experiment ends as a document without nan, in which what cannot be estimated is null and says why.
"""

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats as sps

from app.cli.client import ApiClient, ApiProblem
from app.cli.services import LocalService
from stats.proportion import newcombe
from tests.golden.gbstats_effects import by_method_a7
from tests.stats.moment_cases import arms
from tests.system.bench import AT, PARQUET, Bench, Columns, Result, check_of, measure, parquet, row_of, summarised


@pytest.fixture(scope="module")
def bench(service: LocalService, client: ApiClient) -> Iterator[Bench]:
    bench = Bench(client)
    yield bench
    log = (service.home / "api.log").read_text()
    assert "request_failed" not in log
    assert "Traceback" not in log


N = 1500


def standard(rng: np.random.Generator) -> np.ndarray:
    """N numbers of mean 0 and standard deviation 1, exactly."""
    x = rng.normal(0, 1, N)
    return np.asarray((x - x.mean()) / x.std(ddof=1))


class Data:
    """Columns of two arms, and the history of one of them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        noise = [standard(rng), standard(rng)]
        answered = [rng.random(N) < 0.5, rng.random(N) < 0.4]
        self.history = [20 + standard(rng), 20 + standard(rng)]
        self.known = [rng.random(N) < 2 / 3 for _ in (0, 1)]
        weak = 0.063 * np.sqrt(N)
        self.arms: list[dict[str, Any]] = []
        for a, z in enumerate(noise):
            depends = self.history[a] + z + 0.1 * a - 2.0 * ~self.known[a]
            self.arms.append(
                {
                    "good": 10 + 2 * z + 0.2 * a,
                    "nulls": [float(v) if there else None for v, there in zip(7 + z, answered[a], strict=True)],
                    "same": np.full(N, 3.0),
                    "constants": np.full(N, 3.0 + a),
                    "zero_control": (z > 0) * float(a),
                    "negative": -10.09 - 0.23 * a + z,
                    "opposite": -1.009 + 2.011 * a + z,
                    "weak": 0.092 + 0.3 * a + weak * z,
                    "shifted": 1e9 + 2 * z + 0.1 * a,
                    "far": 200 * a + z,
                    "overflow": np.where(np.arange(N) == 5, 1e200, 1.0) + z,
                    "denominator": np.full(N, 5.0 * (1 - a)) + (z > 1) * (1 - a),
                    "depends": depends,
                    "itself": self.history[a],
                    "steady": 5 + z + 0.05 * a,
                }
            )


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


@pytest.fixture(scope="module")
def shop(bench: Bench, data: Data) -> Result:
    """One experiment with a metric for every way in which a column can be awkward."""
    key = "torture"
    before = {"pre_period_days": 10}
    metrics: dict[str, Columns] = {
        "good": {"role": "primary"},
        "nulls": {},
        "answers": {"kind": "survey", "column": "nulls", "aggregation": "count"},
        **{
            name: {} for name in ("same", "constants", "zero_control", "negative", "opposite", "weak", "shifted", "far")
        },
        "overflow": {},
        "ratio": {"kind": "ratio", "numerator": "good", "denominator": "denominator"},
        "itself": {"covariate": "full_history", **before},
        "steady": {"covariate": "always_one", **before},
    }
    bench.define(key, metrics, {"control": 0.5, "treatment": 0.5}, planned_units=2 * N)
    unit = bench.expose(key, {"control": N, "treatment": N})
    joined = {name: [*data.arms[0][name], *data.arms[1][name]] for name in data.arms[0]}
    bench.facts(key, unit, AT + timedelta(days=1), **joined)
    full = np.concatenate(data.history)
    bench.facts(key, unit, AT - timedelta(days=2), "past", full_history=full, always_one=np.ones(2 * N))
    return bench.finish(key)


def welch(control: Any, treatment: Any) -> Any:
    return sps.ttest_ind(np.asarray(treatment, float), np.asarray(control, float), equal_var=False)


def test_case_1_nulls_count_as_nothing_and_a_survey_is_of_those_who_answered(shop: Result, data: Data) -> None:
    zeros = [[v or 0.0 for v in arm["nulls"]] for arm in data.arms]
    row = row_of(shop, "nulls")
    assert (row["n_control"], row["n_treatment"]) == (N, N)
    assert row["mean_control"] == pytest.approx(np.mean(zeros[0]), rel=1e-12)
    assert row["p_value"] == pytest.approx(welch(*zeros).pvalue, rel=1e-8)
    there = [[v for v in arm["nulls"] if v is not None] for arm in data.arms]
    row = row_of(shop, "answers")
    assert row["mean_treatment"] == pytest.approx(np.mean(there[1]), rel=1e-12)
    assert row["p_value"] == pytest.approx(welch(*there).pvalue, rel=0.02)
    survey = row["survey"]
    assert survey["response_rate_treatment"] == pytest.approx(len(there[1]) / N)
    assert survey["response_p_value"] < 0.001
    assert survey["bound_lower"] < row["difference"] < survey["bound_upper"]


def test_case_2_units_without_history_are_kept_and_marked(bench: Bench, data: Data) -> None:
    key = "torture_history"
    halves = {"control": 0.5, "treatment": 0.5}
    bench.define(key, {"depends": {"covariate": "history", "pre_period_days": 10}}, halves, planned_units=2 * N)
    unit = bench.expose(key, {"control": N, "treatment": N})
    y, there = np.concatenate([arm["depends"] for arm in data.arms]), np.concatenate(data.known)
    history = np.concatenate(data.history)
    bench.facts(key, unit, AT + timedelta(days=1), depends=y)
    known = [u for u, k in zip(unit, there, strict=True) if k]
    bench.facts(key, known, AT - timedelta(days=2), "past", history=history[there])
    row = row_of(bench.finish(key), "depends")
    assert (row["n_control"], row["n_treatment"]) == (N, N)
    moments = arms(*([y[a], np.where(there[a], history[a], 0.0), ~there[a]] for a in (slice(0, N), slice(N, None))))
    a7 = by_method_a7(moments, np.array([[1.0, 0, 0], [1.0, 0, 0]]), [1, 2])
    plain = float(moments.mean[1, 0] - moments.mean[0, 0])
    assert row["difference"] == pytest.approx(plain - a7["shift"], rel=1e-9)
    assert row["difference_standard_error"] == pytest.approx(np.sqrt(a7["variances"].sum()), rel=1e-9)
    assert row["difference_standard_error"] < 0.9 * plain / float(welch(y[:N], y[N:]).statistic)
    assert "A7" in row["method"]


def test_cases_5_and_6_constants_have_no_inference(shop: Result) -> None:
    for name, effect in (("same", 0.0), ("constants", 1.0)):
        row = row_of(shop, name)
        assert (row["difference"], row["reason"], row["p_value"]) == (effect, "zero_variance", None)


def test_case_4_values_beyond_calculation_refuse_their_metric_and_no_other(shop: Result) -> None:
    assert row_of(shop, "overflow")["reason"] == "non_finite_values"
    assert row_of(shop, "overflow")["difference"] is None
    assert row_of(shop, "good")["estimable"]
    assert any("overflow" in check["detail"] for check in shop["checks"] if check["status"] != "pass")


def test_cases_9_to_12_lifts_have_a_baseline_or_a_reason(shop: Result) -> None:
    for name in ("zero_control", "weak"):
        row = row_of(shop, name)
        assert row["difference_ci_lower"] is not None
        assert (row["lift"], row["reason"]) == (None, "baseline_not_distinguishable_from_zero")
    for name, sign in (("negative", -1), ("opposite", 1)):
        row = row_of(shop, name)
        assert np.sign(row["lift"]) == np.sign(row["difference"]) == sign
        assert row["interval_kind"] == "fieller"
        assert row["ci_lower"] < row["lift"] < row["ci_upper"]


def test_case_13_an_offset_of_a_billion_leaves_the_p_value(shop: Result, data: Data) -> None:
    plain = welch(data.arms[0]["shifted"] - 1e9, data.arms[1]["shifted"] - 1e9)
    assert row_of(shop, "shifted")["p_value"] == pytest.approx(plain.pvalue, abs=1e-4)


def test_case_17_a_ratio_without_denominator_is_refused_and_its_numerator_is_not(shop: Result) -> None:
    assert row_of(shop, "ratio")["reason"] == "denominator_near_zero"
    assert row_of(shop, "good")["p_value"] is not None


@pytest.mark.parametrize("name", ["itself", "steady"])
def test_case_18_a_useless_covariate_leaves_the_metric_unadjusted(shop: Result, data: Data, name: str) -> None:
    row = row_of(shop, name)
    assert row["p_value"] == pytest.approx(welch(data.arms[0][name], data.arms[1][name]).pvalue, rel=1e-8)
    assert "A7" not in row["method"]
    assert any(f"torture_{name}" in check["detail"] and check["status"] == "warn" for check in shop["checks"])


def test_case_20_a_metric_without_a_p_value_is_no_member_of_the_family(shop: Result) -> None:
    rows = [r for r in shop["rows"] if r["segment"] is None and r["family"] == "exploratory"]
    assert any(r["p_value"] is None for r in rows)
    tested = [r for r in rows if r["p_value"] is not None]
    expected = sps.false_discovery_control([r["p_value"] for r in tested], method="bh")
    assert [r["p_value_adjusted"] for r in tested] == pytest.approx(list(expected), rel=1e-9)
    assert all(r["p_value_adjusted"] is None for r in rows if r["p_value"] is None)


def test_case_21_an_effect_of_thousands_of_standard_errors_keeps_its_logarithm(shop: Result) -> None:
    row = row_of(shop, "far")
    assert row["p_value"] == 0.0
    assert row["log10_p_value"] < -300


def test_cases_7_and_8_arms_of_one_unit_or_none(bench: Bench) -> None:
    few = bench.simple(
        "torture_few",
        {"m": {"role": "primary"}},
        {"control": {"m": [1.0, 2.0, 4.0] * 10}, "one": {"m": [3.0]}, "none": {"m": []}},
    )
    one = row_of(few, "m", "one")
    assert (one["n_treatment"], one["reason"], one["p_value"]) == (1, "too_few_units", None)
    assert one["difference"] == pytest.approx(3 - 7 / 3)
    none = row_of(few, "m", "none")
    assert (none["n_treatment"], none["difference"], none["reason"]) == (0, None, "too_few_units")
    assert few["verdict"] == "unreliable"
    assert any("none" in check["detail"] for check in few["checks"] if check["status"] == "fail")
    each = bench.simple("torture_each", {"m": {}}, {"control": {"m": [1.0]}, "treatment": {"m": [2.0]}})
    assert row_of(each, "m")["reason"] == "too_few_units"
    nobody = bench.simple("torture_nobody", {"m": {}}, {"control": {"m": []}, "treatment": {"m": []}})
    assert row_of(nobody, "m")["reason"] == "too_few_units"


def test_case_8_no_control_and_no_variant_are_refused_by_name(bench: Bench) -> None:
    arms = [{"key": key, "weight": 0.25 if key != "a" else 0.5} for key in "abc"]
    with pytest.raises(ApiProblem, match="exactly one variant must have is_control") as refused:
        bench.client.post("/v1/experiments", {"key": "torture_arms", "name": "x", "variants": arms, "metrics": []})
    assert refused.value.status == 422
    bench.define("torture_null_variant", {"m": {}}, {"control": 0.5, "treatment": 0.5})
    row = {"experiment_key": "torture_null_variant", "unit_id": "u", "variant_key": None, "exposed_at": AT.isoformat()}
    with pytest.raises(ApiProblem, match="variant_key"):
        bench.client.ingest("exposures", json.dumps([row]).encode(), batch_id="nv", content_type="application/json")


def with_pyarrow(columns: dict[str, Any]) -> bytes:
    return parquet(columns)


def with_polars(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pl.DataFrame(columns).write_parquet(sink)
    return sink.getvalue()


def with_pandas(columns: dict[str, Any]) -> bytes:
    import pandas as pd

    sink = io.BytesIO()
    pd.DataFrame(columns).to_parquet(sink, index=False)
    return sink.getvalue()


def with_duckdb(columns: dict[str, Any]) -> bytes:
    with duckdb.connect() as connection:
        connection.register("given", pa.table(columns))
        return parquet(connection.sql("SELECT * FROM given").to_arrow_table().to_pydict())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cases_3_and_4_a_value_that_is_no_number_is_the_same_fault_from_every_writer(bench: Bench, bad: float) -> None:
    columns = {
        "event": ["torture_bad"] * 4,
        "unit_id": ["a", "b", "c", "d"],
        "occurred_at": [AT] * 4,
        "value": [1.0, 2.0, bad, 4.0],
    }
    writers: list[Callable[[dict[str, Any]], bytes]] = [with_pyarrow, with_polars, with_pandas, with_duckdb]
    faults = []
    for write in writers:
        body, batch = write(columns), f"bad-{bad}-{write.__name__}"
        if write is with_pandas and np.isnan(bad):
            # pandas has no other sign for "missing": its file holds a null, which is accepted and counted as one.
            assert pq.read_table(io.BytesIO(body))["value"].null_count == 1
            report = bench.client.ingest("events", body, batch_id=batch, content_type=PARQUET)
            assert (report["accepted"], report["rejected"]) == (4, 0)
            continue
        with pytest.raises(ApiProblem) as refused:
            bench.client.ingest("events", body, batch_id=batch, content_type=PARQUET)
        faults.append(refused.value.problem["errors"])
    assert len(faults) >= 3
    assert all(fault == faults[0] for fault in faults)
    assert len(faults[0]) == 1, "the other rows are fine"
    assert "value" in json.dumps(faults[0]) and "3" in json.dumps(faults[0])


def test_case_14_every_number_type_gives_the_numbers_of_doubles(bench: Bench) -> None:
    steps = np.random.default_rng(14).integers(0, 100, 400)
    key = "torture_types"
    kinds: dict[str, tuple[pa.DataType, np.ndarray]] = {
        "single": (pa.float32(), 1e6 + steps / 16),
        "long": (pa.int64(), 4e9 + steps),
        "flag": (pa.bool_(), (steps > 40) * 1.0),
        "money": (pa.decimal128(18, 4), steps / 16),
    }
    metrics: dict[str, Columns] = {n: {} for kind in kinds for n in (kind, f"{kind}_double")}
    bench.define(key, metrics, {"control": 0.5, "treatment": 0.5})
    unit = bench.expose(key, {"control": 200, "treatment": 200})
    typed: dict[str, Any] = {}
    for name, (kind, doubles) in kinds.items():
        python: Any = {"flag": bool, "money": Decimal, "long": int}.get(name, float)
        typed[name] = pa.array([python(v) for v in doubles.tolist()], kind)
        typed[f"{name}_double"] = doubles
    bench.facts(key, unit, AT + timedelta(days=1), **typed)
    result = bench.finish(key)
    for name, (_, doubles) in kinds.items():
        one, other = row_of(result, name), row_of(result, f"{name}_double")
        for field in ("mean_control", "difference", "difference_standard_error", "p_value"):
            assert one[field] == other[field]
        assert one["p_value"] == pytest.approx(welch(doubles[:200], doubles[200:]).pvalue, rel=1e-7)


def test_cases_15_and_24_batches_restarts_and_order_change_nothing_and_looks_wait(bench: Bench) -> None:
    rng = np.random.default_rng(15)
    n, found = 600, []
    days, values = rng.uniform(0, 14, 2 * n), rng.lognormal(1, 0.5, 2 * n)
    order = rng.permutation(2 * n)
    for key, parts in (("torture_whole", 1), ("torture_parts", 12)):
        bench.define(
            key, {"m": {"role": "primary", "window_days": 1}}, {"control": 0.5, "treatment": 0.5}, planned_units=2 * n
        )
        unit = bench.expose(key, {"control": n, "treatment": n}, days)
        at = [AT + timedelta(days=float(d) + 0.5) for d in days]
        chosen = np.arange(2 * n) if parts == 1 else order
        for i, part in enumerate(np.array_split(chosen, parts)):
            rows = [unit[j] for j in part], [at[j] for j in part]
            for _ in range(2):  # every batch is sent again, as after a restart
                bench.facts(key, *rows, f"part{i}", m=values[part])
        found.append(bench.finish(key))
    one, other = found
    fields = ("mean_control", "difference", "standard_error", "ci_lower", "p_value", "always_valid_lower")
    first, second = ([row_of(result, "m")[field] for field in fields] for result in found)
    assert first == pytest.approx(second, rel=1e-12)
    assert first[4] == pytest.approx(welch(values[:n], values[n:]).pvalue, rel=1e-8)
    names = ("at", "n", "lift", "always_valid_lower", "always_valid_upper")
    looks, again = ([[look[name] for name in names] for look in result["looks"]] for result in (one, other))
    assert looks == again
    assert len(looks) > 10
    assert all(low is None for _, units, _, low, _ in looks if units < 200)
    shown = [(low, high) for _, _, _, low, high in looks if low is not None]
    assert len(shown) > 5
    row = row_of(one, "m")
    assert (row["always_valid_lower"], row["always_valid_upper"]) == shown[-1]


def test_cases_16_and_25_events_are_judged_by_users(bench: Bench) -> None:
    rng, key, users = np.random.default_rng(16), "torture_events", 400
    metrics: dict[str, Columns] = {
        "per_event": {"kind": "ratio", "numerator": "value_of", "denominator": "one"},
        "p90": {"kind": "quantile", "quantile": 0.9, "quantile_of": "event", "column": "value_of"},
        "tied": {"kind": "quantile", "quantile": 0.5, "column": "one"},
        "capped": {"column": "value_of", "cap": {"quantile": 0.9, "basis": "pooled"}},
    }
    bench.define(key, metrics, {"control": 0.5, "treatment": 0.5}, planned_units=2 * users)
    unit = bench.expose(key, {"control": users, "treatment": users})
    count = np.rint(10 ** rng.uniform(0, 2.5, 2 * users)).astype(int)
    of = np.repeat(np.arange(2 * users), count)
    value = rng.lognormal(0, 0.5, 2 * users)[of] * rng.lognormal(0, 0.5, len(of))
    bench.facts(key, [unit[j] for j in of], AT + timedelta(days=1), value_of=value, one=np.ones(len(of)))
    result = bench.finish(key)
    total = np.bincount(of, weights=value)
    error = 0.0
    for arm in (slice(0, users), slice(users, None)):
        rest = (total[arm] - total[arm].sum() / count[arm].sum() * count[arm]) / count[arm].mean()
        error += rest.var(ddof=1) / users
    row = row_of(result, "per_event")
    assert row["difference_standard_error"] == pytest.approx(np.sqrt(error), rel=1e-8)
    naive = np.sqrt(sum(value[of // users == a].var(ddof=1) / (of // users == a).sum() for a in (0, 1)))
    assert row["difference_standard_error"] > 2 * naive, "events of one user are no independent evidence"
    p90 = row_of(result, "p90")
    ranked = np.sort(value[of < users])
    assert p90["mean_control"] == ranked[int(np.ceil(0.9 * len(ranked) - 1e-9)) - 1]
    assert p90["difference_ci_upper"] - p90["difference_ci_lower"] > 4 * naive
    cap = row_of(result, "capped")["cap"]["cap"]
    pooled = np.quantile(total, 0.9, method="inverted_cdf")
    assert cap == pytest.approx(pooled, rel=1e-12), "one cap, from both arms together"
    assert row_of(result, "capped")["mean_control"] == pytest.approx(np.minimum(total[:users], cap).mean(), rel=1e-12)


def test_case_25_quantiles_of_ties_and_of_three_units_are_refused(bench: Bench) -> None:
    key = "torture_quantiles"
    metrics: dict[str, Columns] = {"median": {"kind": "quantile", "quantile": 0.5, "column": "m"}}
    tied = bench.simple(key, metrics, {"control": {"m": [7.0] * 200}, "treatment": {"m": [7.0] * 200}})
    assert row_of(tied, "median")["reason"] in ("tied_quantile", "zero_variance")
    few = bench.simple(f"{key}_few", metrics, {"control": {"m": [1.0, 2, 3]}, "treatment": {"m": [2.0, 3, 4]}})
    assert row_of(few, "median")["reason"] == "too_few_units"
    for wrong in ({"quantile": 0.0}, {"quantile": 1.0}, {"cap": {"quantile": 0.9, "basis": "arm"}}):
        kind = {"kind": "quantile"} if "quantile" in wrong else {"kind": "mean"}
        body = {"key": "torture_wrong", "name": "x", "measure": measure(key, "m"), **kind, **wrong}
        with pytest.raises(ApiProblem) as refused:
            bench.client.post("/v1/metrics", body)
        assert refused.value.status == 422


def test_case_19_shares_of_nobody_and_of_everybody(bench: Bench) -> None:
    shares = {"few": (0, 3), "nobody": (0, 0), "everybody": (40, 42)}
    arms = {
        arm: {name: np.arange(n) < x[a] for name, x in shares.items()}
        for a, (arm, n) in enumerate((("control", 40), ("treatment", 42)))
    }
    result = bench.simple("torture_shares", {name: {"kind": "proportion"} for name in shares}, arms)
    for name, (x_c, x_t) in shares.items():
        row = row_of(result, name)
        expected = [float(end) for end in newcombe(x_t, 42, x_c, 40)]
        assert [row["difference_ci_lower"], row["difference_ci_upper"]] == pytest.approx(expected, rel=1e-9)
        assert 0 < row["p_value"] <= 1
    assert row_of(result, "few")["difference_ci_upper"] == pytest.approx(0.1901, abs=5e-5)
    assert row_of(result, "nobody")["lift"] is None


@pytest.mark.parametrize(
    ("name", "weights", "units", "p_value", "status"),
    [
        ("big", [0.5, 0.5], [821588, 815482], 1.8217928726191858e-06, "fail"),
        ("design", [0.95, 0.05], [95_210, 4_790], None, "pass"),
        ("lopsided", [0.5, 0.5], [95_000, 5_000], 0.0, "fail"),
        ("empty", [0.5, 0.5], [100, 0], 2 / 2**100, "fail"),
        ("three", [0.5, 0.3, 0.2], [5105, 2905, 1990], 0.0719584315217505, "pass"),
    ],
)
def test_case_22_sample_ratios_follow_the_design(
    bench: Bench, name: str, weights: list[float], units: list[int], p_value: float | None, status: str
) -> None:
    keys = ["control", "treatment", "third"][: len(weights)]
    counts = dict(zip(keys, units, strict=True))
    result = summarised(bench, f"torture_srm_{name}", dict(zip(keys, weights, strict=True)), [(14.0, counts, 10.1)])
    check = check_of(result, "sample_ratio")
    assert check["status"] == status
    if p_value is not None:
        assert check["p_value"] == pytest.approx(p_value, rel=1e-6, abs=1e-300)
    assert (result["verdict"] == "unreliable") == (status == "fail")


def test_case_23_a_group_sequential_plan_never_changes_its_past(bench: Bench) -> None:
    key = "torture_looks"
    estimation = {"sequential": {"method": "group_sequential", "look_every_days": 7}}
    end = AT + timedelta(days=28)
    units = [120, 1400, 2800, 4600]  # per arm: next to nothing at first, more than planned at the end
    snapshots = [(7.0 * (k + 1), {"control": n, "treatment": n}, 10.05) for k, n in enumerate(units)]
    plan = {"estimation": estimation, "planned_units": 8000, "planned_end_at": end.isoformat(), "mde": 0.0125}
    halves = {"control": 0.5, "treatment": 0.5}
    early = summarised(bench, key, halves, snapshots[:3], stop=False, **plan)["sequential"][0]["looks"]
    bench.summaries(key, snapshots[3:], "later")
    late = bench.finish(key)["sequential"][0]["looks"]
    seen = [look for look in early if look["z"] is not None]
    assert len(seen) == 3
    past = ("information_fraction", "upper", "z", "alpha_spent", "lift_lower", "lift_upper")
    assert [[look[k] for k in past] for look in seen] == [[look[k] for k in past] for look in late[:3]]
    assert late[0]["upper"] is None, "not yet"
    assert late[0]["lift_lower"] is None
    assert late[3]["information_fraction"] > 1.05
    assert late[3]["alpha_spent"] == pytest.approx(0.05, rel=1e-6)
    assert late[1]["upper"] > late[2]["upper"] > late[3]["upper"] > 1.96
