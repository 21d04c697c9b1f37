"""Examples in the OpenAPI document: one small shop, the same everywhere."""

from typing import Any, Final

FACT_SOURCE: Final[dict[str, Any]] = {"kind": "events", "key": "orders", "unit_type": "user", "event": "order"}
CONNECTION: Final[dict[str, Any]] = {
    "kind": "postgres",
    "key": "dwh",
    "name": "Data warehouse",
    "host": "dwh.example.com",
    "database": "shop",
    "user": "northlift_reader",
    "tls": "verify-full",
}
ERASURE: Final[dict[str, Any]] = {
    "unit_type": "user",
    "unit_id": "u-1041",
    "also_ids": ["device-77"],
    "reason": "ticket 4711",
}
SPARK_CONNECTION: Final[dict[str, Any]] = {
    "kind": "spark",
    "key": "lake",
    "name": "Data lake",
    "remote": "sc://spark.example.com:15002",
}
FILTERED_FACT_SOURCE: Final[dict[str, Any]] = {
    "kind": "file",
    "key": "settled_payments",
    "path": "exports/payments.parquet",
    "unit_column": "user_id",
    "timestamp_column": "paid_at",
    "filters": [{"column": "status", "value": "settled"}, {"column": "country", "op": "in", "value": ["DE", "FR"]}],
}
MAPPED_FACT_SOURCE: Final[dict[str, Any]] = {
    "kind": "events",
    "key": "app_opens",
    "event": "app_open",
    "unit_mapping": {"fact_source": "orders", "id_column": "device_id"},
}
METRIC: Final[dict[str, Any]] = {
    "key": "orders_per_user",
    "name": "Orders per user",
    "kind": "mean",
    "measure": {"fact_source": "orders", "aggregation": "count"},
    "window_days": 7,
}
FORMULA_METRIC: Final[dict[str, Any]] = {
    "key": "profit_per_user",
    "name": "Profit per user",
    "kind": "formula",
    "formula": "revenue_per_user - cost_per_user",
}
LIKELIHOOD_METRIC: Final[dict[str, Any]] = {
    "key": "spend_per_user",
    "name": "Spend per user",
    "kind": "mean",
    "unit": "EUR",
    "measure": {"fact_source": "orders", "aggregation": "sum"},
    "likelihood": "hurdle_lognormal",
    "pre_period_days": 0,
}
RETENTION: Final[dict[str, Any]] = {
    "key": "second_week_retention",
    "name": "Ordered again in the second week",
    "kind": "retention",
    "unit": "%",
    "aarrr_stage": "retention",
    "start": {"fact_source": "orders"},
    "start_within_days": 7,
    "measure": {"fact_source": "orders"},
    "delay_days": 7,
    "window_days": 7,
}
FUNNEL: Final[dict[str, Any]] = {
    "key": "basket_to_order",
    "name": "From the basket to the order",
    "kind": "funnel",
    "unit": "%",
    "aarrr_stage": "activation",
    "steps": [
        {"name": "Basket", "measure": {"fact_source": "baskets"}},
        {"name": "Address", "measure": {"fact_source": "addresses"}, "within_days": 1},
        {"name": "Order", "measure": {"fact_source": "orders"}, "within_days": 1},
    ],
    "funnel_of": "first_step",
    "window_days": 7,
}
PARTICIPATION: Final[dict[str, Any]] = {
    "key": "days_active",
    "name": "Days with a visit",
    "kind": "participation",
    "unit": "%",
    "aarrr_stage": "retention",
    "measure": {"fact_source": "visits"},
    "window_days": 14,
}
LAST_VALUE: Final[dict[str, Any]] = {
    "key": "balance",
    "name": "Balance",
    "kind": "mean",
    "unit": "EUR",
    "measure": {"fact_source": "balances", "aggregation": "last", "column": "value"},
    "covariates": [{"fact_source": "orders", "aggregation": "sum"}, {"fact_source": "visits"}],
    "window_days": 7,
    "pre_period_days": 28,
}
NORTH_STAR: Final[dict[str, Any]] = {
    "key": "weekly_orders",
    "name": "Orders per week",
    "metric_key": "orders_per_user",
    "formula": "active_users * orders_per_active_user",
    "input_metrics": [
        {"metric_key": "active_users", "aarrr_stage": "activation"},
        {"metric_key": "orders_per_active_user", "aarrr_stage": "revenue"},
    ],
    "target": {"value": 12000, "at": "2027-06-30"},
}
EXPERIMENT: Final[dict[str, Any]] = {
    "key": "one-page-checkout",
    "name": "One-page checkout",
    "hypothesis": "Fewer steps make more visitors finish, so orders per user rise by at least 2 %.",
    "owner": "ada@example.com",
    "team": "checkout",
    "tags": ["web"],
    "unit_type": "user",
    "variants": [
        {"key": "control", "weight": 0.5, "is_control": True},
        {"key": "one_page", "weight": 0.5},
    ],
    "metrics": [
        {"metric_key": "orders_per_user", "role": "primary", "mde": 0.02},
        {"metric_key": "refunds_per_user", "role": "guardrail", "non_inferiority_margin": 0.05},
    ],
    "north_star_key": "weekly_orders",
    "segments": ["country"],
}
READS_EXPOSURES: Final[dict[str, Any]] = {
    **EXPERIMENT,
    "key": "free-returns",
    "name": "Free returns",
    "exposures": {
        "fact_source": "orders",
        "variant_column": "returns_variant",
        "filters": [{"column": "test", "value": "free-returns"}],
        "segments": {"country": "country"},
    },
}
BELIEFS_LEAD: Final[dict[str, Any]] = {
    **EXPERIMENT,
    "key": "gift-wrapping",
    "name": "Gift wrapping",
    "estimation": {
        "engine": "bayesian",
        "beliefs": {"prior": "learned", "chance_to_win": 0.95, "expected_loss": 0.001, "guardrail_chance": 0.95},
    },
}
FLAT_PRIOR: Final[dict[str, Any]] = {
    **EXPERIMENT,
    "estimation": {"engine": "bayesian", "beliefs": {"prior": "flat"}},
}
FLAT_PRIOR_REFUSED: Final[dict[str, Any]] = {
    "type": "/problems/invalid-definition",
    "title": "The definition is not valid",
    "status": 422,
    "detail": "Options of the plan do not go together: a flat prior cannot be monitored, with nothing to find, 28 "
    "daily looks show a chance to win above 95 % in 23 % of experiments: look once (`sequential.method` fixed), or use "
    "a learned prior",
    "remedy": "Change the options under `errors`; each says what would do.",
    "errors": [
        {
            "pointer": "/estimation/beliefs/prior",
            "detail": "a flat prior cannot be monitored, with nothing to find, 28 daily looks show a chance to win "
            "above 95 % in 23 % of experiments: look once (`sequential.method` fixed), or use a learned prior",
        }
    ],
}
"""What the API answers to `FLAT_PRIOR`."""
LAUNCH: Final[dict[str, Any]] = {
    "key": "faster-search",
    "name": "Faster search",
    "owner": "grace@example.com",
    "rollout": [
        {"at": "2026-09-01T08:00:00Z", "coverage": 0.1, "mechanism": "random"},
        {"at": "2026-09-08T08:00:00Z", "coverage": 1, "mechanism": "all_at_once"},
    ],
}
MEASURED_LAUNCH: Final[dict[str, Any]] = {
    "key": "same-day-delivery",
    "name": "Same-day delivery",
    "owner": "grace@example.com",
    "rollout": [
        {"at": "2026-09-01T00:00:00Z", "coverage": 1, "mechanism": "ordered", "segments": ["DE"]},
        {"at": "2026-09-15T00:00:00Z", "coverage": 1, "mechanism": "ordered", "segments": ["FR", "NL"]},
    ],
    "announced_at": "2026-08-25T00:00:00Z",
    "confounders": [{"name": "Summer sale", "began_at": "2026-08-01T00:00:00Z", "ended_at": "2026-08-15T00:00:00Z"}],
    "measurements": [{"series_key": "orders-by-country", "excluded_segments": ["AT"], "measure_for_days": 56}],
}
SERIES: Final[dict[str, Any]] = {
    "key": "orders-by-country",
    "name": "Orders by country",
    "owner": "grace@example.com",
    "grain": "day",
    "dimension": "country",
    "metric_key": "orders_per_user",
}
GROWTH_REVIEW: Final[dict[str, Any]] = {
    "key": "2026-q3",
    "name": "Third quarter of 2026",
    "north_star_key": "weekly_orders",
    "begins_on": "2026-06-29",
    "ends_on": "2026-09-28",
    "owner": "grace@example.com",
}
FACT_SERIES: Final[dict[str, Any]] = {**SERIES, "key": "orders-from-facts", "grain": "week", "source": "facts"}
REGRESSOR_SERIES: Final[dict[str, Any]] = {
    "key": "ad-spend",
    "name": "Advertising spend",
    "role": "regressor",
    "unit": "EUR",
}
SERIES_VALUE: Final[dict[str, Any]] = {"segment": "NO", "at": "2026-10-01", "value": 1284}
DECISION: Final[dict[str, Any]] = {
    "outcome": "ship",
    "shipped_variant": "one_page",
    "reason": "Orders per user rose, refunds did not.",
    "learnings": "Most of the gain is on phones.",
    "coverage": 1,
}
AMENDMENT: Final[dict[str, Any]] = {
    "reason": "Traffic is half of what we planned with.",
    "changes": {"planned_units": 40000, "planned_end_at": "2026-10-15T00:00:00Z"},
}


def example(value: dict[str, Any], summary: str = "A small shop") -> dict[str, Any]:
    """One entry of FastAPI's `openapi_examples`."""
    return {"example": {"summary": summary, "value": value}}
