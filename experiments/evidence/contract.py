"""What goes into the evidence: moments and circumstances, and what segment models need of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from experiments.result import AmendmentNote
from stats.bayes.prior import Prior
from stats.moment_set import MomentSet


@dataclass(frozen=True, slots=True)
class Block:
    """Moments that belong together, and the metrics they serve.

    Events data: one block with every metric of the plan; `moments.columns` are named by `experiments.columns.layout`.
    Summary data: columns named by their metrics; one block where covariances of all pairs came with them, else one per
    metric. Variants are the plan's, control first.
    """

    metric_keys: tuple[str, ...]
    moments: MomentSet


@dataclass(frozen=True, slots=True)
class PastReplication:
    """What another experiment that tests the same hypothesis measured; `log_lift` with its `standard_error`."""

    experiment_key: str
    metric_key: str
    variant_key: str
    log_lift: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class EvidenceContext:
    """The circumstances of one analysis: who asked for what, as of when. No clock is read anywhere below this."""

    analysis_id: str
    data_as_of: datetime
    seed: int
    code_version: str
    plan_hash: str
    started_at: datetime
    stopped_at: datetime | None = None
    """When exposure ended; None while the experiment runs or is paused."""
    amendments: tuple[AmendmentNote, ...] = ()
    allocation: tuple[tuple[datetime, tuple[float, ...]], ...] = ()
    """From when on which share each variant of the plan got, ascending; neighbours differ. Empty: always the plan's."""
    coverage: tuple[tuple[datetime, float], ...] = ()
    """From when on which share of eligible traffic was enrolled, ascending. Empty: always the plan's (METHODS E5)."""
    replications: tuple[PastReplication, ...] = ()
    """What experiments that this one replicates, or that replicate it, found (METHODS H5)."""

    erased: tuple[tuple[str, int], ...] = ()
    """Units by variant that were erased since the start; "": they were in several, or it is not known in which."""

    @property
    def running(self) -> bool:
        """Whether exposure was still going on at `data_as_of`."""
        return self.stopped_at is None or self.stopped_at > self.data_as_of

    @property
    def exposed_until(self) -> datetime:
        """The end of exposure as the data know it."""
        return self.data_as_of if self.running or self.stopped_at is None else self.stopped_at

    @property
    def full_weeks(self) -> int:
        """Complete weeks of exposure."""
        return max(0, (self.exposed_until - self.started_at).days // 7)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRequest:
    """Log lifts of one metric and variant over the levels of one dimension; all arrays are (levels,).

    Only levels whose log lift is estimable are listed. `units` are those of both arms. `prior` is the plan's prior on
    the overall log lift (METHODS C3).
    """

    metric_key: str
    variant_key: str
    dimension: str
    levels: tuple[str, ...]
    log_lifts: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    units: NDArray[np.int64]
    ci_level: float
    prior: Prior
