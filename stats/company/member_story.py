"""What the company tried with business customers: eleven experiments, most with an option of their own (METHODS I2).

Members use the product for the accounts that employ them. Effects are written down, not drawn, and act on the log scale
of four behaviours: `buying` (chance to buy in the window), `latency` (time a page takes), `answering` (chance to answer
the survey), or, in units of its spread between members, on `content` (how glad they are). Days count from the start of
the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

WINDOW_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class MemberTrial:
    """A two-armed experiment as it really happened.

    Enrolment ends a window before `days`, or `trigger_days` more where members count from a trigger. `ramp` holds the
    treatment's share by day since the start; with several stages those who buy more come first, so that a comparison
    that ignores the stages is wrong. A trial `beside` another has the same members, and `interaction` is what both
    treatments together add to the sum of their effects on buying. After `ended_after` days it was stopped early.
    """

    key: str
    name: str
    hypothesis: str
    team: str
    first_day: int
    days: int
    size: int  # members of a company of 20,000 users; of accounts where these are randomised
    metrics: tuple[dict[str, Any], ...]
    effects: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    ramp: tuple[tuple[int, float], ...] = ((0, 0.5),)
    trigger_days: int = 0
    by_account: bool = False
    beside: str | None = None
    interaction: float = 0.0
    ended_after: int | None = None

    @property
    def exposure_days(self) -> int:
        """Days in which members are enrolled."""
        planned = self.days - WINDOW_DAYS - self.trigger_days
        return planned if self.ended_after is None else self.ended_after


def _primary(key: str, mde: float = 0.1) -> dict[str, Any]:
    return {"metric_key": key, "role": "primary", "mde": mde}


def _guardrail(key: str, margin: float) -> dict[str, Any]:
    return {"metric_key": key, "role": "guardrail", "non_inferiority_margin": margin}


def _beside(*keys: str, role: str = "secondary") -> tuple[dict[str, Any], ...]:
    return tuple({"metric_key": key, "role": role} for key in keys)


_REGIONS: Final = {"segments": ["country", "platform"], "two_way_segments": [["country", "platform"]]}
_SPENDING: Final = {"estimation": {"sequential": {"method": "group_sequential", "spending": "obrien_fleming"}}}

MEMBER_TRIALS: Final = (
    MemberTrial("pipeline_check", "A/A test of the member pipeline", "Identical variants do not differ.",
                "platform", 28, 21, 3000, (_primary("buyers"), *_beside("spend", "page_latency", "nps")),
                options={"purpose": "aa"}),
    MemberTrial("page_cache", "Cached pages", "Slow pages become faster when they are kept at the edge.",
                "platform", 42, 21, 2400, (_primary("page_latency", 0.05), _guardrail("buyers", 0.25)),
                effects={"latency": -0.12}),
    MemberTrial("human_support", "A person instead of a form", "Who reaches a person recommends us.",
                "loyalty", 49, 21, 4000, (_primary("nps", 0.2), _guardrail("buyers", 0.2)),
                effects={"content": 0.25, "answering": 0.1}),
    MemberTrial("free_delivery", "Free delivery for members", "Free delivery lets more members buy.",
                "pricing", 63, 28, 5000, (_primary("spend", 0.2), *_beside("buyers")),
                effects={"buying": 0.15}, options=_REGIONS),
    MemberTrial("team_baskets", "Shared baskets", "A basket for the whole account sells more.",
                "checkout", 70, 28, 72, (_primary("buyers"), *_beside("spend")),
                effects={"buying": 0.25}, options={"cluster": "account"}, by_account=True),
    MemberTrial("trust_marks", "Trust marks in checkout", "Who sees the checkout buys more often with a seal.",
                "checkout", 84, 33, 6000, (_primary("buyers"), *_beside("spend")),
                effects={"buying": 0.12}, options={"trigger": {"fact_source": "checkout_views"}}, trigger_days=5),
    MemberTrial("new_search", "New search, ramped up", "Search that forgives typing errors sells more.",
                "discovery", 98, 28, 6000, (_primary("buyers"),),
                effects={"buying": 0.12}, ramp=((0, 0.1), (7, 0.5))),
    MemberTrial("quick_quotes", "Quotes in a minute", "Members buy more when a quote comes at once.",
                "pricing", 105, 63, 5000, (_primary("buyers"),),
                effects={"buying": 0.26}, options=_SPENDING, ended_after=28),
    MemberTrial("new_editor", "The new editor for everybody", "The new editor does no harm.",
                "design", 140, 28, 5000, (_primary("page_latency"), _guardrail("buyers", 0.15)),
                options={"estimation": {"decision_rule": "do_no_harm"}}),
    MemberTrial("saved_lists", "Saved lists", "Lists bring members back to buy.",
                "discovery", 133, 28, 5000, (_primary("buyers"),), effects={"buying": 0.25}),
    MemberTrial("reminders", "Reminders", "A reminder lets members buy what they looked at.",
                "growth", 133, 28, 5000, (_primary("buyers"),),
                effects={"buying": 0.25}, beside="saved_lists", interaction=-0.35),
)  # fmt: skip
