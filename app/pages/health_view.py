"""The trust checks as a health report: grouped by what they are about, the worst first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.charts.split import split_chart, split_values
from app.charts.split_parts import part_values, parts_chart
from app.charts.theme import Spec, Values
from experiments.result import Check, ExperimentResult

FEW_DAYS: Final = 2
FEW_PARTS: Final = 2
_ORDER: Final = {"fail": 0, "warn": 1, "pass": 2}
_TRAFFIC: Final = frozenset(
    {
        "amendments",
        "concurrent_assignment",
        "concurrent_unread",
        "crossover",
        "empty_arm",
        "erased_units",
        "exposure_loss",
        "full_week",
        "planned_end",
        "planned_sample",
        "trigger_timing",
    }
)
_DATA: Final = frozenset(
    {
        "caps",
        "data_freshness",
        "identical_variants",
        "metrics_estimable",
        "missing_values",
        "open_windows",
        "pre_period_history",
        "quantile_ties",
        "survey_response",
        "unit_mapping",
        "zero_variance",
    }
)
GROUPS: Final = {
    "traffic": ("Traffic", "Did the right units arrive, in the right shares?"),
    "data": ("Data", "Is what was measured complete and alive?"),
    "statistics": ("Statistics", "Do the numbers mean what they say?"),
}


@dataclass(frozen=True, slots=True)
class HealthGroup:
    """Checks about one thing; `worst` is their worst status."""

    key: str
    title: str
    question: str
    worst: str
    troubled: Sequence[Check]
    passed: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Health:
    worst: str
    groups: Sequence[HealthGroup]
    split: Spec | None
    parts: Spec | None
    part_rows: Values

    @property
    def counts(self) -> dict[str, int]:
        """Checks by status."""
        every = [check for group in self.groups for check in (*group.troubled, *group.passed)]
        return {status: sum(check.status == status for check in every) for status in _ORDER}


def group_of(check: Check) -> str:
    """What a check is about; anything unknown is about the statistics."""
    if check.name.startswith("sample_ratio") or check.name in _TRAFFIC:
        return "traffic"
    return "data" if check.name in _DATA else "statistics"


def health(document: ExperimentResult, variant_names: dict[str, str], *, constant_split: bool = True) -> Health:
    """Of one document. The split is drawn against its configuration where that never changed."""
    groups = []
    for key, (title, question) in GROUPS.items():
        checks = sorted((c for c in document.checks if group_of(c) == key), key=lambda check: _ORDER[check.status])
        if checks:
            troubled = [check for check in checks if check.status != "pass"]
            passed = [check for check in checks if check.status == "pass"]
            groups.append(HealthGroup(key, title, question, checks[0].status, troubled, passed))
    days = {value["at"] for value in split_values(document.exposures)} if constant_split else set()
    parts = part_values(document, variant_names) if constant_split else []
    return Health(
        worst=min((group.worst for group in groups), key=_ORDER.__getitem__, default="pass"),
        groups=groups,
        split=split_chart(document.exposures, variant_names) if len(days) >= FEW_DAYS else None,
        parts=parts_chart(parts) if len(parts) >= FEW_PARTS else None,
        part_rows=parts,
    )
