"""No NaN reaches a document and no bounds are reversed, whatever the metrics and however degenerate the data."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.definitions import Direction, Estimation
from stats.moment_set import HashBuckets, ResponseTable
from stats.moments import Moments
from tests.experiments.evidence_cases import (
    cluster_set,
    columns_of,
    context,
    document,
    moment_set,
    plan_of,
    planned,
    quantile_cells,
    spec,
    variants,
)


def everything_plan(*, cluster: bool):
    """A metric of every kind, with caps, covariates, segments, strata and both engines."""
    metrics = [
        planned(spec("m", pre_period_days=7, cap={"value": 50}), "primary", mde=0.02),
        planned(spec("g", "proportion"), "guardrail", non_inferiority_margin=0.05, direction=Direction.DECREASE),
        planned(spec("rate", "ratio", pre_period_days=7)),
        planned(spec("csat", "survey")),
        planned(spec("p90", "quantile", quantile=0.9, quantile_of="event"), "guardrail", non_inferiority_margin=0.1),
        planned(spec("f", "formula", formula="m / rate")),
    ]
    return plan_of(
        metrics,
        variants(3),
        segments=["country"],
        estimation=Estimation(),
        cluster="account" if cluster else None,
    )


@given(st.data())
@settings(max_examples=60)
def test_no_data_put_nan_into_the_document_whatever_the_kinds_of_metrics(data):
    cluster = data.draw(st.booleans())
    plan = everything_plan(cluster=cluster)
    names = columns_of(plan)[: -1 if cluster else None]
    n, k = data.draw(st.integers(0, 40)), len(names)
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    scale = data.draw(st.sampled_from([0.0, 1e-9, 1.0, 1e3, 1e12, 1e60]))
    rows = rng.choice([0.0, 1.0, scale, -scale, rng.normal() * scale], (n, k))
    for i, name in enumerate(names):
        if name == "g" or name.startswith("no_history") or name.endswith((".answers", ".responded")):
            rows[:, i] = rng.integers(0, 2, n)
    arm = rng.integers(0, data.draw(st.integers(1, 3)), n)
    half = (np.arange(n) % 2) if n else None
    groups = max(1, data.draw(st.integers(1, 12)))
    account = rng.integers(0, groups, n)
    owner = rng.integers(0, 3, groups)
    who = account if cluster else np.arange(n)
    where = owner[account] if cluster else arm
    answered = rows[:, names.index("csat.answers")] > 0
    scores = np.unique(rows[answered, names.index("csat.score")])
    table = [
        [int((answered & (where == a) & (rows[:, names.index("csat.score")] == s)).sum()) for s in scores]
        for a in range(3)
    ]
    products = {
        "quantiles": {
            "p90": quantile_cells(
                0.9,
                np.repeat(rows[:, 0], 2),
                np.repeat(who, 2),
                np.repeat(where, 2),
                arms=3,
                segment=np.repeat(half, 2) if n else None,
            )
        },
        "responses": {"csat": ResponseTable(scores, np.array(table, dtype=np.int64).reshape(3, len(scores)))},
        "invalid": data.draw(st.sampled_from([{}, {"m": "non_finite_values"}, {"csat.score": "invalid_answers"}])),
    }
    with np.errstate(over="ignore", invalid="ignore"):
        if cluster:
            moments = cluster_set(plan, rows, account, owner, segment=half, **products)
        else:
            bucket = Moments.from_rows(rows, rng.integers(0, 60, n) * 3 + where, (60, 3))
            stratum = rng.integers(0, 3, n) if n and data.draw(st.booleans()) else None
            moments = moment_set(
                plan,
                rows,
                where,
                segment=half,
                stratum=stratum,
                buckets=HashBuckets(bucket.count, bucket.mean),
                **products,
            )
    result = document(plan, moments, stopped_at=data.draw(st.sampled_from([None, context().stopped_at])))
    for row in result.rows:
        assert row.reason or (row.lift is not None and row.p_value is not None)
        for low, high in (
            (row.ci_lower, row.ci_upper),
            (row.difference_ci_lower, row.difference_ci_upper),
            (row.always_valid_lower, row.always_valid_upper),
        ):
            assert (low is None) == (high is None)
            assert low is None or high is None or low <= high
        assert row.p_value is None or 0 <= row.p_value <= 1
        assert row.df is None or row.df >= 0
