"""The worlds on which all engines must agree, and what each is about."""

from collections.abc import Callable, Mapping
from typing import Final

from tests.engines import company
from tests.engines.torture import FILTERED, KINDS, NUMBERS, OPEN, TRIGGER, far_from_zero, large_ids, torture
from tests.engines.worlds import World
from tests.warehouse.cases import DAY, START

BY_PLATFORM = {"segments": ["country", "platform"], "two_way_segments": [("country", "platform")]}
WORLDS: Final[Mapping[str, Callable[[], World]]] = {
    "numbers": lambda: torture(NUMBERS, segments=["country"]),
    "kinds": lambda: torture(KINDS, **BY_PLATFORM, stratify_by=["platform"]),
    "filtered": lambda: torture(FILTERED, trigger=TRIGGER, ended_at=START + 8 * DAY),
    "clustered": lambda: torture((*KINDS[:8], KINDS[11]), clustered=True, cluster="account", segments=["platform"]),
    "open": lambda: torture(OPEN, as_of=START + 8 * DAY, segments=["country"]),
    "far": lambda: far_from_zero(1e9),
    "ids": large_ids,
    "users": company.users,
    "triggered": company.triggered,
    "accounts": company.accounts,
    "ramped": company.ramped,
    "retail": company.retail,
}
