"""How the company measures itself: fact sources, metrics and its North Star, as plain definitions."""

from __future__ import annotations

from typing import Any, Final

NORTH_STAR_FORMULA: Final = "active_users * sessions_per_active_user * orders_per_session"

_ACTIVE: Final = {"fact_source": "sessions", "aggregation": "any"}
_SESSIONS: Final = {"fact_source": "sessions", "aggregation": "count"}
_ORDERS: Final = {"fact_source": "orders", "aggregation": "count"}
_REVENUE: Final = {"fact_source": "orders", "aggregation": "sum", "column": "value"}

# For the truth table: every metric as (numerator, denominator) of per-user expectations; None divides by users.
COMPONENTS: Final[dict[str, tuple[str, str | None]]] = {
    "active_users": ("active", None),
    "sessions_per_active_user": ("sessions", "active"),
    "orders_per_session": ("orders", "sessions"),
    "order_value": ("revenue", "orders"),
    "orders": ("orders", None),
    "revenue": ("revenue", None),
}


def fact_sources() -> tuple[dict[str, Any], ...]:
    """Sessions and orders, each the stream of one event."""
    return tuple(
        {"key": f"{event}s", "name": f"{event.title()}s", "kind": "events", "event": event, "unit_type": "user"}
        for event in ("session", "order")
    )


def metrics() -> tuple[dict[str, Any], ...]:
    """Six metrics over a closed window of 7 days after first exposure."""
    return (
        _metric("active_users", "Active users", "proportion", "%", "retention", measure=_ACTIVE),
        _metric(
            "sessions_per_active_user", "Sessions per active user", "ratio", "sessions", "activation",
            numerator=_SESSIONS, denominator=_ACTIVE,
        ),
        _metric(
            "orders_per_session", "Orders per session", "ratio", "orders", "activation",
            numerator=_ORDERS, denominator=_SESSIONS,
        ),
        _metric("order_value", "Order value", "ratio", "EUR", "revenue", numerator=_REVENUE, denominator=_ORDERS),
        _metric("orders", "Orders per user", "mean", "orders", "retention", measure=_ORDERS),
        _metric("revenue", "Revenue per user", "mean", "EUR", "revenue", measure=_REVENUE),
    )  # fmt: skip


def north_star() -> dict[str, Any]:
    """Weekly orders, an exact product of three inputs."""
    inputs = (("active_users", "growth"), ("sessions_per_active_user", "discovery"), ("orders_per_session", "checkout"))
    return {
        "key": "weekly_orders",
        "name": "Weekly orders",
        "description": "Orders people place: they come back, they look around, they find what they want.",
        "metric_key": "orders",
        "formula": NORTH_STAR_FORMULA,
        "input_metrics": [{"metric_key": key, "edge": "definitional", "owner": team} for key, team in inputs],
        "owner": "leadership",
    }


def _metric(key: str, name: str, kind: str, unit: str, stage: str, **recipe: dict[str, str]) -> dict[str, Any]:
    return {
        "key": key,
        "name": name,
        "kind": kind,
        "direction": "increase",
        "unit": unit,
        "aarrr_stage": stage,
        "owner": "analytics",
        "window_days": 7,
        "pre_period_days": 14,
        **recipe,
    }
