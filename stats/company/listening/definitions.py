"""How the listening service measures itself: metrics per listener, weekly series, and the North Star."""

from __future__ import annotations

from typing import Any, Final

HOURS, ACTIVE, SESSIONS, LENGTH, SAVES = (
    "listening_hours", "active_listeners", "sessions_per_listener", "hours_per_session", "playlist_saves",
)  # fmt: skip
METRICS: Final = (HOURS, ACTIVE, SESSIONS, LENGTH, SAVES)
"""In the order of all arrays: the North Star's metric, its three inputs, and what only moves along with it."""
INPUTS: Final = (ACTIVE, SESSIONS, LENGTH)
NORTH_STAR_KEY: Final = "weekly_listening"
SERIES: Final = {
    HOURS: "hours_by_week", ACTIVE: "listeners_by_week", SESSIONS: "sessions_by_week", LENGTH: "length_by_week",
}  # fmt: skip
MARKETING, OUTAGE, CATALOGUE = "listening_marketing", "hours_of_outage", "catalogue_missing"
INFLUENCES: Final = {
    MARKETING: "Budgets are set a year ahead; they follow no launch.",
    OUTAGE: "The hours in which nothing played, as counted by the servers.",
    CATALOGUE: "A label withdrew its music in a dispute about fees; nothing that we launch ends it.",
}
"""Series of outside influences, and why no launch moves them."""


def fact_sources() -> tuple[dict[str, Any], ...]:
    """Listening and saving; the service keeps single units to itself and sends summaries."""
    return tuple(
        {"key": key, "name": name, "kind": "events", "event": event, "unit_type": "listener"}
        for key, name, event in (("listens", "Sessions of listening", "listen"), ("saves", "Songs saved", "save"))
    )


def metrics() -> tuple[dict[str, Any], ...]:
    """One week of a listener from the first exposure on."""
    active = {"fact_source": "listens", "aggregation": "any"}
    sessions = {"fact_source": "listens", "aggregation": "count"}
    hours = {"fact_source": "listens", "aggregation": "sum", "column": "value"}
    common: dict[str, Any] = {"owner": "analytics", "window_days": 7, "pre_period_days": 0}
    return (
        {"key": HOURS, "name": "Hours listened", "kind": "mean", "unit": "h", "measure": hours, **common},
        {"key": ACTIVE, "name": "Active listeners", "kind": "proportion", "unit": "%", "aarrr_stage": "retention",
         "measure": active, **common},
        {"key": SESSIONS, "name": "Sessions per listener", "kind": "ratio", "unit": "sessions",
         "aarrr_stage": "activation", "numerator": sessions, "denominator": active, **common},
        {"key": LENGTH, "name": "Hours per session", "kind": "ratio", "unit": "h", "aarrr_stage": "activation",
         "numerator": hours, "denominator": sessions, **common},
        {"key": SAVES, "name": "Songs saved", "kind": "mean", "unit": "songs", "aarrr_stage": "activation",
         "measure": {"fact_source": "saves", "aggregation": "count"}, **common},
    )  # fmt: skip


def north_star() -> dict[str, Any]:
    """Hours listened per week: listeners x sessions of each x hours of a session."""
    teams = {ACTIVE: "growth", SESSIONS: "home", LENGTH: "player"}
    return {
        "key": NORTH_STAR_KEY,
        "name": "Hours listened per week",
        "description": "Time that people choose to spend with us: they come, they come again, they stay.",
        "metric_key": HOURS,
        "formula": " * ".join(INPUTS),
        "input_metrics": [
            {"metric_key": key, "edge": "definitional", "owner": teams[key], "series_key": SERIES[key]}
            for key in INPUTS
        ] + [{"metric_key": SAVES, "edge": "driver", "owner": "library"}],
        "owner": "leadership",
        "series_key": SERIES[HOURS],
        "influences": [{"series_key": key, "rationale": why} for key, why in INFLUENCES.items()],
    }  # fmt: skip
