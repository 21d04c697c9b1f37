"""The numbers that reviews are compared by, now and in the review before (METHODS H6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from experiments.plan import PreviousReview
from experiments.result import (
    ChangedNumber,
    Ledger,
    LedgerLine,
    ProgrammeResult,
    Stagnation,
    TargetForecast,
    TotalEstimate,
)

_NAMED: Final[Mapping[str, tuple[str, str]]] = {
    "level": ("Mean week of the period", "units"),
    "observed": ("Change of the North Star", "units"),
    "launches": ("of which launches", "units"),
    "base": ("of which nothing on record", "units"),
    "kappa": ("Share of claims that was realised", "share"),
    "programme_lift": ("All ships together, corrected", "lift"),
    "claimed_lift": ("All ships together, claimed", "lift"),
    "false_sign_rate": ("Chance of the wrong sign, mean over ships", "share"),
    "experiments": ("Experiments with an effect", "count"),
    "shipped": ("of which shipped", "count"),
    "chance_to_hit": ("Chance to hit the target, no further launches", "share"),
    "chance_with_programme": ("Chance to hit the target, with the usual launches", "share"),
    "slope": ("Growth of the base per week", "lift"),
}


def headline(
    *,
    level: float | None,
    ledger: Ledger,
    programme: ProgrammeResult,
    forecast: TargetForecast,
    stagnation: Stagnation,
) -> dict[str, float | None]:
    """By name; null where nothing can be said."""
    lines = {line.component: line for line in ledger.lines if line.key is None}
    totals = {total.method: total for total in programme.totals}
    return {
        "level": level,
        "observed": ledger.observed_units,
        "launches": _units(lines.get("launches")),
        "base": _units(lines.get("base")),
        "kappa": ledger.kappa,
        "programme_lift": _lift(totals.get("full_bayes")),
        "claimed_lift": _lift(totals.get("naive_sum")),
        "false_sign_rate": programme.false_sign_rate,
        "experiments": float(programme.experiments),
        "shipped": float(programme.shipped),
        "chance_to_hit": forecast.chance_to_hit,
        "chance_with_programme": forecast.chance_with_programme,
        "slope": stagnation.slope,
    }


def changes(now: Mapping[str, float | None], previous: PreviousReview | None) -> list[ChangedNumber]:
    """Each number beside that of the review before; none without one."""
    if previous is None:
        return []
    return [
        ChangedNumber(name=name, label=label, before=previous.numbers.get(name), now=now[name], unit=unit)
        for name, (label, unit) in _NAMED.items()
        if now[name] is not None or previous.numbers.get(name) is not None
    ]


def _units(line: LedgerLine | None) -> float | None:
    return None if line is None else line.units


def _lift(total: TotalEstimate | None) -> float | None:
    return None if total is None else total.lift
