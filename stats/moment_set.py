"""Everything an analysis must know about the data of one experiment: moments, and the little they cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from stats.moments import Floats, Ints, Moments
from stats.quantile import QuantileSummary
from stats.unit_summary import UnitSummary


@dataclass(frozen=True, slots=True, eq=False)
class ClusterTable:
    """Cluster totals at the last look, kept while clusters are few (METHODS A5).

    `values` (G, k) in the order of the moment set's columns; `variant` (G,) position of the arm.
    """

    values: Floats
    variant: Ints


@dataclass(frozen=True, slots=True, eq=False)
class HashBuckets:
    """Units in B buckets by hash, for the jackknife (METHODS A4): `count` (B, V), column `mean` (B, V, k)."""

    count: Ints
    mean: Floats


@dataclass(frozen=True, slots=True, eq=False)
class CappedColumn:
    """A winsorised column (METHODS A9): the `cap` used in every arm and look, and what share of the mean it cut.

    `uncapped` is the column with the same values before the cap. `capped_units` (V,) units above the cap.
    """

    cap: float
    uncapped: str
    capped_units: Ints


@dataclass(frozen=True, slots=True, eq=False)
class QuantileCells:
    """A quantile metric: `overall` has cells (looks, V) at the times `looks` of the set, `by_segment` (segments, V).

    Where values are very many, some of the earlier looks have empty cells; the last one never has for that reason.
    """

    overall: QuantileSummary
    by_segment: QuantileSummary


@dataclass(frozen=True, slots=True, eq=False)
class ResponseTable:
    """A survey metric's answers at the last look: `scores` (b,) ascending, `respondents` (V, b) units by mean score.

    Units that were asked (all analysed units) but did not answer are not in here.
    """

    scores: Floats
    respondents: Ints


@dataclass(frozen=True, slots=True, eq=False)
class ConcurrentCells:
    """Units of this experiment by what another experiment gave them: `moments` cells (other variants, V), last look.

    `variants` are the other experiment's arms, control first. Units that are not in the other experiment are left out.
    """

    variants: tuple[str, ...]
    moments: Moments


class UnmappedFacts(NamedTuple):
    """Facts of a source that knows units by another id: all of them, and those that count for nobody.

    The latter have an id `without_unit`, or an `ambiguous` one, which several units have.
    """

    facts: int
    without_unit: int
    ambiguous: int


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How much of the company's North Star comes from those an experiment reached (METHODS E5).

    By hash bucket (B) of units and full week (W) of exposure: `company` (B, W, C) totals of everybody's facts and
    `exposed` (B, W, V, C) of those of units in one arm since their first exposure, in the C `columns` of the North
    Star's metric; `company_units` (B, W) and `exposed_units` (B, W, V) units with any such fact. `withdrawn` columns
    hold facts that are no numbers, and are zeros.
    """

    columns: tuple[str, ...]
    company: Floats
    exposed: Floats
    company_units: Ints
    exposed_units: Ints
    withdrawn: tuple[str, ...] = ()

    @property
    def weeks(self) -> int:
        """Full weeks of exposure."""
        return int(self.company.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class MomentSet:
    """Moments of one experiment, and products of the same pass.

    `columns` name the k columns; `variants` name the arms, control first; `looks` are ascending, the last one is
    `data_as_of`. `overall` has cells (looks, variants), `by_segment` has cells (segments, variants) at the last look
    with `segments` as (dimension, level). `exposures` (looks, variants) counts the units exposed by each look, whether
    or not their measurement window is complete; units seen in two variants are excluded everywhere and counted in
    `crossover`. `invalid` maps a column that holds non-finite values to a reason code; its moments are zeros.

    Optional, empty or None where the plan does not ask or the data cannot say:
    `strata` and `by_stratum` cells (looks, strata, variants): disjoint groups for post-stratification (METHODS A8).
    `populations` counts (variants,) per named population at the last look: assigned, exposed, analysed, with_outcome
    (which is not there where an outcome was withdrawn for what its facts hold).
    `segment_exposures` (segments, variants) exposed units per segment level.
    `by_age` per metric: moments with cells (variants,) whose columns are the metric's value on day 0, 1, ... after
    exposure. `capped` per column name. `quantiles` and `responses` per metric key. `concurrent` per experiment key.
    `missing` (V,) per column name: facts that hold a null where the column takes a number, which count for nothing.
    `refused` maps a quantile metric with non-finite values, which is not in `quantiles`, to a reason code.
    `units` per metric key: what a likelihood of single units is made of (METHODS C2). `reach` for a plan with a North
    Star: the company's totals beside those of exposed units.
    `unmapped` per fact source with a unit mapping. `unscreened` maps other experiments whose exposures could not be
    read to why.
    With clustered randomisation the units of every moment are clusters, `clusters` holds their totals.
    """

    columns: tuple[str, ...]
    variants: tuple[str, ...]
    looks: tuple[datetime, ...]
    overall: Moments
    segments: tuple[tuple[str, str], ...]
    by_segment: Moments
    exposures: Ints
    crossover: int = 0
    invalid: Mapping[str, str] = field(default_factory=dict)
    strata: tuple[str, ...] = ()
    by_stratum: Moments | None = None
    populations: Mapping[str, Ints] = field(default_factory=dict)
    segment_exposures: Ints | None = None
    buckets: HashBuckets | None = None
    clusters: ClusterTable | None = None
    capped: Mapping[str, CappedColumn] = field(default_factory=dict)
    quantiles: Mapping[str, QuantileCells] = field(default_factory=dict)
    responses: Mapping[str, ResponseTable] = field(default_factory=dict)
    by_age: Mapping[str, Moments] = field(default_factory=dict)
    concurrent: Mapping[str, ConcurrentCells] = field(default_factory=dict)
    missing: Mapping[str, Ints] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, UnitSummary] = field(default_factory=dict)
    reach: Reach | None = None
    unmapped: Mapping[str, UnmappedFacts] = field(default_factory=dict)
    unscreened: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arms, k = len(self.variants), len(self.columns)
        expected = {
            "overall": (self.overall.mean.shape, (len(self.looks), arms, k)),
            "by_segment": (self.by_segment.mean.shape, (len(self.segments), arms, k)),
            "exposures": (self.exposures.shape, (len(self.looks), arms)),
        }
        if self.by_stratum is not None:
            expected["by_stratum"] = (self.by_stratum.mean.shape, (len(self.looks), len(self.strata), arms, k))
        if self.segment_exposures is not None:
            expected["segment_exposures"] = (self.segment_exposures.shape, (len(self.segments), arms))
        for name, (shape, wanted) in expected.items():
            if shape != wanted:
                raise ValueError(f"{name} has shape {shape}, expected {wanted}")
        if list(self.looks) != sorted(set(self.looks)):
            raise ValueError("looks must be ascending and distinct")
        unknown = set(self.invalid) - set(self.columns)
        if unknown:
            raise ValueError(f"invalid names columns that are not there: {sorted(unknown)}")

    def column(self, name: str) -> int:
        """Index of a column by name; `KeyError` when the plan asked for something that was not extracted."""
        try:
            return self.columns.index(name)
        except ValueError:
            raise KeyError(name) from None

    @property
    def data_as_of(self) -> datetime:
        return self.looks[-1]

    @property
    def last(self) -> Moments:
        """Moments at the last look, cells (variants,)."""
        return self.overall[-1]

    def validate(self) -> None:
        """Raise `InvalidMoments` (naming the column) unless every moment could come from data."""
        self.overall.validate(self.columns)
        self.by_segment.validate(self.columns)
