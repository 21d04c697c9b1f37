"""What the company tried: twelve experiments and five launches to its users with their true effects (METHODS I2).

Effects are written down, not drawn: many small, a few large, as fat tails look in practice. They act on the log scale
of four behaviours: `activity` (chance of an active day), `sessions` (sessions per active day), `orders` (chance that
a session orders) and `value` (amount of an order). Days count from the start of the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

CHANNELS: Final = ("activity", "sessions", "orders", "value")
HORIZON_DAYS: Final = 182
WINDOW_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant and its true effect on each behaviour."""

    key: str
    weight: float
    effects: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment as it really happened. Enrolment ends a window before the planned end."""

    key: str
    name: str
    hypothesis: str
    team: str
    primary: str
    first_day: int
    days: int
    coverage: float
    arms: tuple[Arm, ...]
    platform_scale: dict[str, float] = field(default_factory=dict)  # effects differ by platform; default 1
    lost_exposures: float = 0.0  # share of quiet users' exposures that the last arm fails to log

    @property
    def last_day(self) -> int:
        """First day on which the experiment no longer runs."""
        return self.first_day + self.days

    @property
    def running(self) -> bool:
        """Still running when the data end."""
        return self.last_day > HORIZON_DAYS


@dataclass(frozen=True, slots=True)
class Rollout:
    """A launch: `steps` are (day, coverage); with a trial behind it the effects are those of its `arm`."""

    key: str
    name: str
    team: str
    steps: tuple[tuple[int, float], ...]
    effects: dict[str, float]
    mechanism: str = "random"
    trial: str | None = None
    arm: str | None = None


def _pair(**effects: float) -> tuple[Arm, ...]:
    return (Arm("control", 0.5), Arm("treatment", 0.5, effects))


_ONBOARDING: Final = {"activity": 0.16}
_REORDER: Final = {"orders": 0.18}
_REORDER_PLATFORMS: Final = {"ios": 1.3, "android": 1.0, "web": 0.5}

TRIALS: Final = (
    Trial("onboarding_checklist", "Onboarding checklist", "A checklist brings people back on more days.",
          "growth", "active_users", 28, 28, 0.9, _pair(**_ONBOARDING)),
    Trial("search_ranking", "Search ranking by freshness", "Fresher results turn more sessions into orders.",
          "discovery", "orders_per_session", 35, 21, 0.8, _pair(orders=0.03)),
    Trial("price_badge", "Best-price badge", "A badge lets people buy more with confidence.",
          "pricing", "order_value", 49, 14, 0.7, _pair(value=-0.04)),
    Trial("one_click_reorder", "One-click reorder", "Fewer steps to repeat an order mean more orders.",
          "checkout", "orders_per_session", 56, 28, 0.9,
          (Arm("control", 0.4), Arm("button", 0.3, {"orders": 0.06}), Arm("one_click", 0.3, _REORDER)),
          platform_scale=_REORDER_PLATFORMS),
    Trial("push_digest", "Weekly push digest", "A digest brings people back without annoying them.",
          "growth", "sessions_per_active_user", 70, 21, 0.8, _pair(activity=-0.02, sessions=0.05)),
    Trial("dark_mode", "Dark mode by default", "Dark mode keeps people longer in the evening.",
          "design", "sessions_per_active_user", 77, 14, 0.6, _pair()),
    Trial("checkout_upsell", "Upsell in checkout", "Suggestions in checkout raise the value of an order.",
          "checkout", "order_value", 91, 21, 0.8, _pair(value=0.07, orders=-0.05)),
    Trial("loyalty_points", "Loyalty points", "Points make people order more often.",
          "loyalty", "orders", 98, 21, 0.8, _pair(), lost_exposures=0.25),
    Trial("gift_cards", "Gift card page", "A better page sells more gift cards.",
          "pricing", "orders", 105, 28, 0.03, _pair(orders=0.08)),
    Trial("infinite_feed", "Infinite feed", "An endless feed keeps people engaged.",
          "discovery", "orders", 126, 28, 0.9, _pair(sessions=0.10, orders=-0.18)),
    Trial("delivery_slots", "Delivery slots up front", "Knowing the slot early removes doubt.",
          "checkout", "orders_per_session", 154, 35, 0.9, _pair(orders=0.10)),
    Trial("recommendations_v2", "Recommendations v2", "Better recommendations lead to more orders.",
          "discovery", "orders", 161, 28, 0.8,
          (Arm("control", 0.34), Arm("similar", 0.33, {"orders": 0.01}), Arm("personal", 0.33, {"orders": 0.04}))),
)  # fmt: skip

LAUNCHES: Final = (
    Rollout("launch_onboarding_checklist", "Onboarding checklist for everyone", "growth",
            ((63, 0.25), (70, 1.0)), _ONBOARDING, trial="onboarding_checklist", arm="treatment"),
    Rollout("launch_one_click_reorder", "One-click reorder for everyone", "checkout",
            ((91, 0.1), (98, 0.5), (105, 1.0)), _REORDER, trial="one_click_reorder", arm="one_click"),
    Rollout("launch_new_home", "New home screen", "design", ((84, 1.0),), {"activity": -0.03}, "all_at_once"),
    Rollout("launch_faster_app", "Faster app start", "platform", ((140, 0.5), (147, 1.0)), {"sessions": 0.03}),
    Rollout("launch_new_logo", "New logo", "design", ((112, 1.0),), {}, "all_at_once"),
)  # fmt: skip
