"""What goes into the evidence and what comes out: moments and circumstances in, a draft of the result document out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from experiments.result import AmendmentNote, ExperimentResult, SegmentModel
from stats.bayes.prior import Prior
from stats.moment_set import MomentSet


@dataclass(frozen=True, slots=True)
class Block:
    """Moments that belong together, and the metrics they serve.

    Events data: one block with every metric of the plan; `moments.columns` are named by `experiments.columns.layout`.
    Summary data: one block per metric, with one column, without cross-moments. Variants are the plan's, control first.
    """

    metric_keys: tuple[str, ...]
    moments: MomentSet


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


@dataclass(frozen=True, slots=True)
class Draft:
    """A result document that still lacks its segment models, and what those models need. Picklable.

    The verdict does not depend on the segment models, so a model that fails or takes too long costs only itself.
    """

    document: ExperimentResult
    segment_requests: tuple[SegmentRequest, ...]

    def finish(self, segment_models: Sequence[SegmentModel] = ()) -> ExperimentResult:
        """The complete document. Models are kept in the order of `segment_requests` by the caller."""
        methods = self.document.methods
        if any(model.status == "ok" for model in segment_models):
            methods = sorted({*methods, "A15", "C4"})
        return self.document.model_copy(update={"segment_models": list(segment_models), "methods": methods})
