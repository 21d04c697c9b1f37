"""What an ingest says about a batch: how many rows are in, which were refused, why, and what to do."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_ERRORS = 100
"""Errors are listed up to this many (and at least one of each reason); all are counted."""

REMEDIES: Mapping[str, str] = {
    "malformed_row": "send valid JSON objects (or CSV records with as many fields as the header), UTF-8 encoded",
    "unknown_field": "remove it, or put it into the `properties` of an event or the `segments` of an exposure",
    "missing_unit_id": "send the id of the randomised unit with every row",
    "missing_timestamp": "send the time of every row, for example 2026-01-31T12:00:00Z",
    "invalid_timestamp": "send ISO-8601 times, for example 2026-01-31T12:00:00Z",
    "naive_timestamp": "add the time zone: Z, or an offset such as +02:00",
    "future_timestamp": "correct the sender's clock or time zone",
    "missing_experiment": "name the experiment of every exposure",
    "unknown_experiment": "register the experiment first, or correct its key",
    "experiment_not_started": "start the experiment before sending exposures",
    "summary_experiment": "send summaries to this experiment, or register it with data = events",
    "exposures_read_elsewhere": "do not send exposures of this experiment: they are rows of its fact source",
    "missing_variant": "name the variant of every exposure",
    "unknown_variant": "use the key of one of the experiment's variants",
    "erased_unit": "stop sending rows of this unit; whoever asked for its erasure asked for that, too",
    "unit_in_two_variants": "send each unit with the one variant it was assigned; check the assignment",
    "missing_event": "name the event of every row",
    "non_numeric_value": "send a number, or leave the value out",
    "non_finite_value": "send a finite number, or leave the value out",
    "too_long": "shorten it",
    "invalid_name": "use names of 1 to 100 letters, digits, spaces, `.`, `-` or `_`",
    "duplicate_field": "use names that differ by more than upper and lower case",
    "invalid_attribute": "send text, numbers, true, false or null; no lists and no nested objects",
    "unknown_metric": "name a metric of the experiment's plan; formulas are computed from their inputs",
    "invalid_count": "send the number of units as a whole number of at least 0",
    "missing_moment": "send n, mean and variance together",
    "negative_variance": "send the unbiased sample variance of the units' values",
    "duplicate_summary": "send each metric, variant and time once; a correction needs a later as_of",
    "missing_segment": "name the segment of every row: the series has a dimension",
    "unexpected_segment": "leave the segment out, or register a series with a dimension",
    "unknown_arm": "name the arm `on` (had the change) or `off` (had not)",
    "not_a_period_start": "send the start of the period in UTC; weeks begin on Mondays",
    "missing_value": "send the number, or null to withdraw what was sent before",
    "too_large": "send the number in a larger unit",
    "no_units": "send null for a period without units",
    "missing_count": "send n with the variance",
    "unexpected_moment": "send n and variance only with means, or in a series whose dimension is `arm`",
    "malformed_covariances": 'send an object such as {"orders": 0.31}; in a CSV as JSON text',
    "other_metric_missing": "send the rows of both metrics, of this variant and time, in one batch",
    "units_differ": "send summaries of the same units, or leave the covariance out",
    "covariances_disagree": "send each pair once, or the same number from both rows",
    "covariance_too_large": "send the unbiased sample covariance of the units' values, as the variances are",
    "covariances_not_positive": "take means, variances and covariances from one table of the same units",
    "duplicate_value": "send each segment and period once in a batch",
}


@dataclass(frozen=True, slots=True)
class RowError:
    """One refused row (1-based position in the batch): the field, a reason code, what was wrong, what to do."""

    row: int
    field: str
    reason: str
    detail: str

    @property
    def remedy(self) -> str:
        return REMEDIES[self.reason]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The outcome of a batch. `errors` are documents {row, field, reason, detail, remedy}; `reasons` counts rows."""

    stream: str
    batch_id: str
    accepted: int
    rejected: int
    errors: tuple[Mapping[str, Any], ...]
    reasons: Mapping[str, int]
    replayed: bool = False

    def document(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        return {**asdict(self), "errors": [dict(error) for error in self.errors], "reasons": dict(self.reasons)}


@dataclass(slots=True)
class Refusals:
    """Refused rows as they are found: the first ones in full, all of them counted."""

    errors: list[RowError] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    _digest: Any = field(default_factory=hashlib.sha256)

    def add(self, error: RowError) -> None:
        self._digest.update(f"{error.row} {error.reason}\n".encode())
        if len(self.errors) < MAX_ERRORS or not self.reasons[error.reason]:
            self.errors.append(error)
        self.reasons[error.reason] += 1

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    @property
    def fingerprint(self) -> str:
        """The same for the same rows refused for the same reasons; empty when none was."""
        return self._digest.hexdigest() if self.reasons else ""

    def documents(self) -> list[dict[str, Any]]:
        """The listed errors, each with how many rows had its reason, so that counts survive in storage."""
        return [
            {
                "row": error.row,
                "field": error.field,
                "reason": error.reason,
                "detail": error.detail,
                "remedy": error.remedy,
                "rows_with_reason": self.reasons[error.reason],
            }
            for error in self.errors
        ]


def reasons_of(documents: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The counts by reason behind stored error documents."""
    return {str(item["reason"]): int(item["rows_with_reason"]) for item in documents}
