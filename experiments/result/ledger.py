"""The ledger: what launches, season, outside influences and the rest contributed to the North Star (METHODS F6)."""

from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.result.elements import Check, Document
from experiments.result.launches import ModelParameter

type LedgerComponent = Literal["launches", "season", "outside", "base", "noise", "observed"]


class LedgerLine(Document):
    """One line, in units of the North Star over the contrast: mean with 80 % and 95 % intervals.

    `key` is null for the whole component; for launches also `grade:A` … and `launch:<key>`, for outside influences the
    series. Whole components add up to `observed` in every draw. `base` is what nothing on record explains.
    """

    component: LedgerComponent
    key: str | None
    name: str
    evidence_grade: str | None = None
    units: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float
    log_mean: float
    log_lower_80: float
    log_upper_80: float
    chance_positive: float
    claimed_units: float | None = None


class LedgerWeek(Document):
    """A week of the North Star: observed, what it would have been without launches, and how much each part added.

    Numbers are in units; `launches` and `without_launches` have 80 % intervals.
    """

    week: AwareDatetime
    observed: float | None
    without_launches: float
    without_lower_80: float
    without_upper_80: float
    launches: float
    launches_lower_80: float
    launches_upper_80: float
    season: float
    outside: float
    base: float


class LedgerLaunchEffect(Document):
    """A launch: claimed by its experiment, believed after shrinkage, and in the ledger. Log lifts at full coverage.

    `units` are null where the series is too short to be reconciled.
    """

    launch_key: str
    name: str
    first_at: AwareDatetime
    evidence_grade: str
    experiment_key: str | None
    claimed: float | None
    claimed_standard_error: float | None
    shrunk: float
    shrunk_lower_80: float
    shrunk_upper_80: float
    realised: float
    realised_lower_80: float
    realised_upper_80: float
    units: float | None
    units_lower_80: float | None
    units_upper_80: float | None
    alone_in_its_week: bool
    """False where another launch began in the same week: only their experiments tell them apart."""


class LedgerAlternative(Document):
    """The launch line under another prior of how much the base wanders."""

    prior: str
    units: float
    lower_80: float
    upper_80: float


class Backtest(Document):
    """The ledger of 13 weeks ago: did what came lie in its 80 % interval?"""

    origin: AwareDatetime
    weeks: int
    predicted: float
    lower_80: float
    upper_80: float
    observed: float
    inside: bool
    share_of_weeks_inside: float


class Ledger(Document):
    """The reconciliation of what was claimed with what the North Star did, over one contrast (METHODS F6).

    `kappa` is the share of claimed effects that the company saw; `kappa_contraction` the posterior over the prior
    standard deviation: near 1, the series itself says next to nothing about it. `persistence_source` says where the
    long-run share of effects comes from. `estimable` is false below 52 weeks, or with fewer than 26 since the first
    launch: then only shrunk claims are shown.
    """

    begins_at: AwareDatetime
    ends_at: AwareDatetime
    compared_begins_at: AwareDatetime
    compared_ends_at: AwareDatetime
    unit: str
    observed_units: float | None
    observed_log: float | None
    claimed_units: float | None
    lines: list[LedgerLine]
    weeks: list[LedgerWeek]
    launches: list[LedgerLaunchEffect]
    parameters: list[ModelParameter]
    kappa: float | None
    kappa_lower_80: float | None
    kappa_upper_80: float | None
    kappa_contraction: float | None
    chance_kappa_below_half: float | None
    persistence_source: str
    alternatives: list[LedgerAlternative]
    backtest: Backtest | None
    engine: Literal["collapsed", "sampled", "none"]
    diagnostics: dict[str, float]
    checks: list[Check]
    estimable: bool
    reason: str | None = None
    story: list[str] = Field(default_factory=list)
