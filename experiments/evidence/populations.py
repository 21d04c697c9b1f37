"""Who came, held against who should have come: sample ratios of every population (METHODS A12).

Expected shares follow the allocation that was in force when units came. Assignment and exposure must be split as
configured, and a mismatch blocks every decision. A treatment may change who triggers, who has an outcome and who
answers; a mismatch there says what the comparison is not about. What is counted is what was randomised: with clustered
randomisation, clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from experiments.columns import layout
from experiments.evidence.facts import Facts, Status, check
from experiments.result import Check
from stats.moments import Floats, Ints
from stats.multiplicity import adjusted
from stats.sample_ratio import SampleRatio, drift, few_or_many, same_rate, sequential, staged

LEAST_SHARE = {"analysed": 0.75, "with_outcome": 0.25}
"""An arm with less than this share of the units it should have cannot be explained by a treatment: data are missing."""
FEWEST_DUE = 20.0
"""Fewer units due in an arm of a ramp leave the judgement to the sequential test, which is exact."""
LOSS_WARN, LOSS_FAIL = 0.001, 0.01
_BROKEN = "Do not decide on these numbers: find out why units are missing or doubled in one variant, then restart."
_TRIGGER = (
    "Do not decide on triggered units: analyse everybody who was assigned, or choose a trigger that is recorded "
    "identically in all variants."
)


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Randomised units by look: `new` (looks, V) and the `shares` (looks, V) in force when they came.

    A row of shares is nan where the allocation changed between two looks: nobody knows how many came before.
    """

    new: Ints
    shares: Floats
    unit: str
    constant: bool

    @property
    def total(self) -> Ints:
        return np.asarray(self.new.sum(axis=0))

    @property
    def testable(self) -> bool:
        """Whether any unit came under known shares."""
        known = ~np.isnan(self.shares).any(axis=-1)
        return bool(self.new[known].sum())


def arrivals(facts: Facts) -> Arrivals | None:
    """Exposures by look, or the clusters that entered by then. None without any unit.

    With a trigger and a changed allocation nothing is known: shares belong to the time of assignment, units come when
    they trigger.
    """
    if not len(facts.exposures) or not facts.exposures[-1].sum():
        return None
    moments = facts.main.moments
    clustered = facts.plan.cluster is not None
    counts: Ints = moments.overall.count if clustered else facts.exposures
    delay = _window(facts) if clustered else timedelta(0)
    shares = _shares(facts, [look - delay for look in moments.looks])
    constant = len(facts.context.allocation) < 2
    if facts.plan.trigger is not None and not constant:
        shares = np.full(shares.shape, np.nan)
    new = np.diff(counts, axis=0, prepend=np.zeros((1, counts.shape[1]), dtype=np.int64))
    return Arrivals(np.maximum(new, 0), shares, "clusters" if clustered else "exposures", constant)


def sample_ratio(facts: Facts) -> Check | None:
    """The split of what was randomised at this look: assignments where there is a trigger, else exposures."""
    came = arrivals(facts)
    if came is None:
        return None
    assigned = facts.main.moments.populations.get("assigned")
    if facts.plan.trigger is None or facts.plan.cluster is not None or assigned is None:
        return _split(facts, "sample_ratio", came.total, came, came.unit.capitalize(), _BROKEN)
    return _split(facts, "sample_ratio", assigned, came, "Assignments", _BROKEN)


def triggered(facts: Facts) -> Check | None:
    """The split of triggered units, and whether variants trigger equally often: a finding about the trigger."""
    came = arrivals(facts)
    if facts.plan.trigger is None or facts.plan.cluster is not None or came is None:
        return None
    assigned = facts.main.moments.populations.get("assigned")
    if came.constant or assigned is None or (came.total > assigned).any():
        return _split(facts, "sample_ratio_triggered", came.total, came, "Triggered units", _TRIGGER, _WHO_TRIGGERS)
    test = same_rate(came.total, assigned)
    rates = " : ".join(f"{n / max(of, 1):.2%}" for n, of in zip(came.total.tolist(), assigned.tolist(), strict=True))
    p = float(test.p_value)
    detail = f"{rates} of assigned units triggered (p = {p:.2g})."
    if p >= facts.plan.estimation.srm_threshold:
        return check("sample_ratio_triggered", "pass", detail, p_value=p)
    # A ramp mixes stages of different age, which alone can make rates differ.
    return check("sample_ratio_triggered", "warn", detail + _WHO_TRIGGERS, _TRIGGER, p)


_WHO_TRIGGERS = (
    " The treatment changes who triggers, or triggers are recorded differently: the variants' units are not alike."
)


def sequential_sample_ratio(facts: Facts) -> Check | None:
    """The same split, valid at every daily look."""
    came = arrivals(facts)
    if came is None or not came.testable:
        return None
    name, looks = "sample_ratio_sequential", len(came.new)
    test = sequential(np.cumsum(came.new, axis=0), came.shares)
    p = float(test.p_value[-1])
    if test.first_crossing is None:
        return check(
            name, "pass", f"No daily look contradicts the configured split (sequential p = {p:.2g}).", p_value=p
        )
    began = _since(facts, drift(came.new, came.shares).began)
    detail = (
        f"The split left its configuration by look {test.first_crossing + 1} of {looks} "
        f"(sequential p = {p:.2g}, threshold {test.alpha:g}); most likely since {began:%Y-%m-%d}."
    )
    with_trigger = facts.plan.trigger is not None and facts.plan.cluster is None
    return check(name, "fail", detail + _WHO_TRIGGERS * with_trigger, _TRIGGER if with_trigger else _BROKEN, p)


def by_day(facts: Facts) -> Check | None:
    """Whether the split changed on the way, and since when."""
    came = arrivals(facts)
    if came is None or not came.testable or len(came.new) < 2:
        return None
    test = drift(came.new, came.shares)
    if test.df == 0:
        return None
    name, p = "sample_ratio_by_day", test.p_value
    if p >= facts.plan.estimation.srm_threshold:
        return check(name, "pass", f"The split did not change between days (p = {p:.2g}).", p_value=p)
    since = _since(facts, test.began)
    detail = f"The split changed between days (p = {p:.2g}), most likely since {since:%Y-%m-%d}."
    remedy = "Look for a release, an outage or a change of targeting on that day, and restart after it is understood."
    return check(name, "fail", detail, remedy, p)


def _since(facts: Facts, look: int) -> datetime:
    """When the units that a look is the first to count began to come."""
    delay = _window(facts) if facts.plan.cluster is not None else timedelta(0)
    return facts.main.moments.looks[look - 1] - delay if look else facts.context.started_at


def by_segment(facts: Facts) -> Check | None:
    """The split inside every level of every segment, corrected for their number (Benjamini & Hochberg)."""
    came = arrivals(facts)
    if came is None:
        return None
    moments = facts.main.moments
    counts = moments.by_segment.count if facts.plan.cluster is not None else moments.segment_exposures
    if counts is None or not len(counts):
        return None
    if not came.constant:
        detail = "The allocation changed on the way, so segments cannot be held against one split."
        return check("sample_ratio_segments", "pass", detail)
    test = few_or_many(counts, _configured(facts))
    q = np.where(test.unexpected, 0.0, adjusted(test.p_value, "benjamini_hochberg"))
    worst = int(np.argmin(np.where(test.unexpected, -np.inf, test.log10_p)))
    dimension, level = moments.segments[worst]
    split = " : ".join(f"{n:,}" for n in counts[worst].tolist())
    detail = (
        f"Of {len(counts)} segment levels {dimension} = {level} departs most: {split} (corrected p = {q[worst]:.2g})."
    )
    remedy = f"Find out what is different for {dimension} = {level}: its units are lost or doubled in one variant."
    failed = float(q[worst]) < facts.plan.estimation.srm_threshold
    return check("sample_ratio_segments", "fail" if failed else "pass", detail, remedy, float(q[worst]))


def analysed(facts: Facts) -> Check | None:
    """The split of units whose measurement window is complete, where that is not everybody."""
    came = arrivals(facts)
    if came is None or facts.plan.cluster is not None:
        return None
    counts = facts.main.moments.last.count
    if not counts.sum() or (counts == came.total).all():
        return None
    test = _test_of_analysed(facts, came)
    return (
        None if test is None else _downstream(facts, "analysed", "Analysed units", counts, test, _share_of(facts, came))
    )


def with_outcome(facts: Facts) -> Check | None:
    """The split of units that did anything at all."""
    came = arrivals(facts)
    if came is None or facts.plan.cluster is not None:
        return None
    moments = facts.main.moments
    counts = moments.populations.get("with_outcome")
    if counts is None or not counts.sum():
        return None
    whole = moments.populations.get("analysed", moments.last.count)
    test = few_or_many(counts, _configured(facts)) if came.constant else same_rate(np.minimum(counts, whole), whole)
    return _downstream(facts, "with_outcome", "Units with any outcome", counts, test, whole / max(int(whole.sum()), 1))


def without_cluster(facts: Facts) -> Check | None:
    """Exposed units that name no cluster cannot be analysed by cluster."""
    lost = facts.main.moments.populations.get("without_cluster") if len(facts.exposures) else None
    if facts.plan.cluster is None or lost is None:
        return None
    share = float(lost.sum()) / max(float(lost.sum() + facts.exposures[-1].sum()), 1.0)
    status: Status = "fail" if share > LOSS_FAIL else "warn" if share > LOSS_WARN else "pass"
    detail = f"{int(lost.sum()):,} exposed units ({share:.2%}) name no {facts.plan.cluster} and are left out."
    return check("exposure_loss", status, detail, f"Send `{facts.plan.cluster}` with every exposure.")


def _split(facts: Facts, name: str, counts: Ints, came: Arrivals, what: str, remedy: str, finding: str = "") -> Check:
    """One test of totals against the configuration, or against what the stages of a ramp should have brought."""
    threshold = facts.plan.estimation.srm_threshold
    split = " : ".join(f"{n:,}" for n in counts.tolist())
    if came.constant:
        test = few_or_many(counts, _configured(facts))
        expected = f"configured {' : '.join(f'{share:g}' for share in _configured(facts))}"
    elif came.testable:
        known = ~np.isnan(came.shares).any(axis=-1)
        test = staged(came.new, came.shares)
        counted = came.new[known]
        due = (counted.sum(axis=1)[:, None] * came.shares[known]).sum(axis=0)
        split = " : ".join(f"{n:,}" for n in counted.sum(axis=0).tolist())
        expected = f"the stages of the allocation should have brought {' : '.join(f'{n:,.0f}' for n in due)}"
        if due.min() < FEWEST_DUE and not bool(test.unexpected):
            detail = f"{what} are {split}, {expected}: too few for a test of all stages together."
            return check(name, "pass", detail)
    else:
        detail = f"{what} are {split}; the allocation changed on the way and they cannot be told apart by stage."
        return check(name, "warn", detail, "Compare the split within each stage of the ramp.")
    p = float(test.p_value)
    failed = p < threshold or bool(test.unexpected)
    detail = f"{what} are {split}, {expected} (p = {p:.2g}, threshold {threshold:g})."
    return check(name, "fail" if failed else "pass", detail + finding * failed, remedy, p)


def _downstream(facts: Facts, population: str, what: str, counts: Ints, test: SampleRatio, expected: Floats) -> Check:
    """A population that a treatment may change: a mismatch warns, unless an arm lacks more than any treatment takes."""
    p = float(test.p_value)
    split = " : ".join(f"{n:,}" for n in counts.tolist())
    detail = f"{what} are {split} (p = {p:.2g})."
    name = f"sample_ratio_{population}"
    if p >= facts.plan.estimation.srm_threshold and not bool(test.unexpected):
        return check(name, "pass", detail, p_value=p)
    due = expected * counts.sum()
    if (counts < LEAST_SHARE[population] * due).any():
        return check(name, "fail", detail, "Check whether facts of one variant arrive and match its units.", p)
    detail += " The treatment itself may do that; so do facts that are lost in one variant."
    remedy = "Compare the facts of both variants before reading effects among those with an outcome."
    if population == "analysed":
        remedy = "Check whether one variant's units came later than the other's, or were lost."
    return check(name, "warn", detail, remedy, p)


def _test_of_analysed(facts: Facts, came: Arrivals) -> SampleRatio | None:
    """Against the configuration; after a ramp per stage, as strata count them or by the time units came."""
    moments = facts.main.moments
    if came.constant:
        return few_or_many(moments.last.count, _configured(facts))
    allocation = facts.context.allocation
    stage = [_stage_of(name) for name in moments.strata]
    if moments.by_stratum is not None and stage and all(s is not None and s <= len(allocation) for s in stage):
        weights = np.array([allocation[s - 1][1] for s in stage if s is not None])
        return staged(moments.by_stratum.count[-1], weights)
    if facts.plan.trigger is not None:
        return None
    shares = _shares(facts, [look - _window(facts) for look in moments.looks])
    counts = moments.overall.count
    new = np.maximum(np.diff(counts, axis=0, prepend=np.zeros((1, counts.shape[1]), dtype=np.int64)), 0)
    return staged(new, shares)


def _stage_of(stratum: str) -> int | None:
    """The number of the stage of the allocation that a stratum belongs to."""
    _, found, number = stratum.rpartition("stage ")
    return int(number) if found and number.isdigit() and int(number) >= 1 else None


def _share_of(facts: Facts, came: Arrivals) -> Floats:
    return np.asarray(came.total / max(int(came.total.sum()), 1), dtype=np.float64)


def _configured(facts: Facts) -> Floats:
    """(V,) the shares of an allocation that never changed."""
    if facts.context.allocation:
        return _normal(facts.context.allocation[-1][1])
    return _normal([variant.weight for variant in facts.plan.variants])


def _normal(weights: Sequence[float]) -> Floats:
    """Shares that sum to one, also for a stage with a variant that the plan no longer has."""
    given = np.array(weights, dtype=np.float64)
    return np.asarray(given / given.sum())


def _shares(facts: Facts, ends: Sequence[datetime]) -> Floats:
    """(looks, V) shares in force from the end of the previous period to the end of each; nan where they changed."""
    allocation = facts.context.allocation
    if len(allocation) < 2:
        return np.tile(_configured(facts), (len(ends), 1))
    begins = [since for since, _ in allocation[1:]]
    found = np.full((len(ends), len(facts.plan.variants)), np.nan)
    for i, end in enumerate(ends):
        first = sum(begin <= ends[i - 1] for begin in begins) if i else 0
        last = sum(begin < end for begin in begins)
        if first >= last:
            found[i] = _normal(allocation[last][1])
    return found


def _window(facts: Facts) -> timedelta:
    """How long a unit's longest closed window takes: it is analysed that much after it came."""
    return timedelta(days=layout([metric.spec for metric in facts.plan.metrics]).longest_window_days or 0.0)
