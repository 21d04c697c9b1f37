"""Documents of growth reviews as workers store them."""

from functools import cache

from experiments.evidence.review.draft import draft_review
from experiments.result import GrowthReviewResult, LedgerLine
from tests.experiments.review_cases import context, review_plan

_PARTS = (("season", None, -40.0), ("outside", None, 10.0), ("outside", "weather", 10.0), ("base", None, 120.0))


@cache
def too_short() -> GrowthReviewResult:
    """The review of a company with seventy weeks, whose launches are young: it has no lines."""
    plan = review_plan(weeks=70)
    return draft_review(plan, context(plan)).finish()


def review_result(*, units: float) -> GrowthReviewResult:
    """A review in which launches account for so many units, half of it by one launch."""
    lines = [
        line("launches", None, "Launches", units, claimed=2 * units),
        line("launches", "launch:one-page", "One-page checkout", units / 2, claimed=units),
        *(line(component, key, key or component.title(), value) for component, key, value in _PARTS),
        line("noise", None, "Noise", 0.0),
    ]
    observed = sum(each.units for each in lines if each.key is None)
    lines.append(line("observed", None, "Observed", observed))
    document = too_short()
    ledger = document.ledger.model_copy(
        update={
            "lines": lines,
            "observed_units": observed,
            "estimable": True,
            "reason": None,
            "engine": "collapsed",
            "story": [f"Launches account for {units:.0f} orders."],
        }
    )
    return document.model_copy(update={"ledger": ledger})


def line(component: str, key: str | None, name: str, units: float, *, claimed: float | None = None) -> LedgerLine:
    """A line with an interval of 50 units to either side."""
    return LedgerLine.model_validate(
        {
            "component": component,
            "key": key,
            "name": name,
            "evidence_grade": "A" if key is not None and key.startswith("launch:") else None,
            "units": units,
            "lower_80": units - 50,
            "upper_80": units + 50,
            "lower_95": units - 80,
            "upper_95": units + 80,
            "log_mean": units / 10_000,
            "log_lower_80": (units - 50) / 10_000,
            "log_upper_80": (units + 50) / 10_000,
            "chance_positive": float(units > 0),
            "claimed_units": claimed,
        }
    )
