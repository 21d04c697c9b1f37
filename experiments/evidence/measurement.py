"""Checks of what was measured: answers, missing values, caps, ties, history, and segments too small to read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from experiments.columns import layout
from experiments.evidence.cluster_effects import FEW_CLUSTERS
from experiments.evidence.facts import Facts, check
from experiments.evidence.populations import arrivals
from experiments.result import Check
from stats.moments import Ints
from stats.sample_ratio import drift, same_rate
from stats.survey import lee_bounds

DIFFERS = 0.001
"""Shares that differ between variants at this p are said to differ."""
LOW_RESPONSE, MUCH_CAPPED, LITTLE_HISTORY, MANY_MISSING, MANY_UNMAPPED = 0.1, 0.05, 0.5, 0.01, 0.01
UNEVEN = 1.25
FEWEST_IN_SEGMENT = 30
"""Units of a variant in a segment level below which even its standard error is a guess."""
_SHOWN = 5


def responses(facts: Facts) -> Check | None:
    """Who answered surveys: a response rate is a metric itself, and a low one is a selection (A13)."""
    rates, low, differ, least = [], [], [], 1.0
    for key, answered, asked in _respondents(facts):
        share = answered / np.maximum(asked, 1)
        rates.append(f"{key} ({' : '.join(f'{rate:.1%}' for rate in share)})")
        if answered.sum() < LOW_RESPONSE * asked.sum():
            low.append(key)
        if facts.plan.cluster is None:
            p = float(same_rate(answered, asked).p_value)
            least = min(least, p)
            if p < DIFFERS:
                differ.append(key)
    if not rates:
        return None
    name, detail = "survey_response", f"Response rates: {', '.join(rates)}."
    if differ:
        detail += f" Variants answer at different rates in {', '.join(differ)}{_bounds(facts, differ)}."
        remedy = "Read the bounds instead of the difference, and ask everybody in the same way and at the same moment."
        return check(name, "warn", detail, remedy, least)
    if low:
        detail += f" Less than {LOW_RESPONSE:.0%} answered in {', '.join(low)}."
        return check(name, "warn", detail, "Do not read the score as that of all units; ask fewer people, better.")
    return check(name, "pass", detail, p_value=least)


def _bounds(facts: Facts, keys: list[str]) -> str:
    """What selection could make of the differences (Lee 2009), in words."""
    tables = {key: table for block in facts.blocks for key, table in block.moments.responses.items()}
    found = []
    for key, _, asked in _respondents(facts):
        if key in keys and key in tables:
            bounds = lee_bounds(tables[key].scores, tables[key].respondents, asked)
            for variant, low, high in zip(facts.plan.variants[1:], bounds.lower, bounds.upper, strict=True):
                if np.isfinite(low) and np.isfinite(high):
                    found.append(f"{variant.key} {low:+.3g} to {high:+.3g}")
    return f"; Lee bounds of the difference: {', '.join(found)} (A13)" if found else " (A13)"


def _respondents(facts: Facts) -> Iterator[tuple[str, Ints, Ints]]:
    """Metric, respondents (V,) and units asked (V,) of every survey."""
    if facts.plan.data == "summary" or not any(metric.spec.kind == "survey" for metric in facts.plan.metrics):
        return
    places = layout([metric.spec for metric in facts.plan.metrics])
    for block, shapes in zip(facts.blocks, facts.shapes, strict=True):
        last = block.moments.last
        for metric in shapes.metrics:
            place = places.metrics.get(metric.metric_key)
            if place is None or place.responded is None:
                continue
            column = block.moments.column(places.names[place.responded])
            asked = last.count if shapes.cluster_size is None else last.count * last.mean[:, shapes.cluster_size]
            if column not in shapes.invalid and asked.sum():
                answered = np.rint(last.count * last.mean[:, column]).astype(np.int64)
                yield metric.metric_key, answered, np.rint(asked).astype(np.int64)


def missing_values(facts: Facts) -> Check | None:
    """Facts without the number that a metric needs: they count for nothing, and must not be lost in one variant."""
    found: list[str] = []
    uneven, most, least = [], 0.0, 1.0
    for block in facts.blocks:
        units = block.moments.last.count
        for column, lost in block.moments.missing.items():
            if not lost.sum() or not units.all():
                continue
            found.append(f"{column} ({' : '.join(f'{n:,}' for n in lost.tolist())})")
            rate = lost / units
            most = max(most, float(lost.sum() / units.sum()))
            # A unit may lose many facts at once, so the p-value alone exaggerates: the rates must differ visibly too.
            p = float(same_rate(np.minimum(lost, units), units).p_value)
            least = min(least, p)
            if p < DIFFERS and rate.max() > UNEVEN * rate.min():
                uneven.append(column)
    if not found:
        return None
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    detail = f"Facts without a number, by variant: {', '.join(found[:_SHOWN])}{more}; they count as nothing."
    if uneven:
        detail += f" One variant loses more of {', '.join(uneven[:_SHOWN])}."
    remedy = "Find out why numbers are missing; do not trust effects on metrics of which one variant loses more."
    return check("missing_values", "warn" if uneven or most > MANY_MISSING else "pass", detail, remedy, least)


def unit_mapping(facts: Facts) -> Check | None:
    """Facts whose unit is not known: of which variant they are cannot be said either."""
    found, many = [], []
    for key, lost in facts.main.moments.unmapped.items() if facts.blocks else ():
        rest = lost.without_unit + lost.ambiguous
        share = rest / max(lost.facts, 1)
        found.append(
            f"{key} ({rest:,} of {lost.facts:,} facts: {lost.without_unit:,} with an id that has no unit, "
            f"{lost.ambiguous:,} with one that several units have)"
        )
        if share > MANY_UNMAPPED:
            many.append(f"{share:.1%} of {key}")
    if not found:
        return None
    detail = f"Facts that count for nobody because their id is not mapped to one unit: {'; '.join(found)}."
    if many:
        detail += f" That is {', '.join(many)}."
    remedy = "Add the missing rows of the mapping: values are too small, and effects wrong if one variant loses more."
    return check("unit_mapping", "warn" if many else "pass", detail, remedy)


def caps(facts: Facts) -> Check | None:
    """What winsorisation cut off: little, and the same in all variants (A9)."""
    much, differ, seen, least = [], [], 0, 1.0
    for block in facts.blocks:
        moments = block.moments
        for name, capped in moments.capped.items():
            if name in moments.invalid or capped.uncapped in moments.invalid or capped.uncapped not in moments.columns:
                continue
            seen += 1
            before = moments.last.mean[:, moments.column(capped.uncapped)]
            after = moments.last.mean[:, moments.column(name)]
            cut = 1 - np.divide(after, before, out=np.ones_like(after), where=before > 0)
            if (cut > MUCH_CAPPED).any():
                much.append(f"{name} ({' : '.join(f'{share:.1%}' for share in cut)} of the mean)")
            if facts.plan.cluster is None and (capped.capped_units <= moments.last.count).all():
                p = float(same_rate(capped.capped_units, moments.last.count).p_value)
                least = min(least, p)
                if p < DIFFERS:
                    differ.append(f"{name} ({' : '.join(f'{n:,}' for n in capped.capped_units.tolist())} units)")
    if not seen:
        return None
    if not much and not differ:
        return check("caps", "pass", "Caps cut little, and the same from every variant.", p_value=least)
    parts = [f"Caps cut much: {', '.join(much)}."] if much else []
    parts += [f"More units reach the cap in one variant: {', '.join(differ)}."] if differ else []
    remedy = "Read the uncapped line beside the capped one, and choose a higher cap next time."
    return check("caps", "warn", " ".join(parts), remedy, least)


def tied_quantiles(facts: Facts) -> Check | None:
    """Quantiles that sit on a heap of equal values have no honest interval (A6)."""
    cells = {key: found for block in facts.blocks for key, found in block.moments.quantiles.items()}
    if not cells:
        return None
    tied = sorted(key for key, found in cells.items() if found.overall.tied[-1].any())
    if not tied:
        return check("quantile_ties", "pass", "No quantile sits on a heap of equal values.")
    return check(
        "quantile_ties",
        "warn",
        f"Many equal values at the quantile: {', '.join(tied)}; its precision cannot be estimated (A6).",
        "Record the value with more digits, or use a mean or a proportion above a threshold.",
    )


def few_clusters(facts: Facts) -> Check | None:
    """Intervals from few clusters of unequal sizes are corrected (A5), and still somewhat short."""
    if facts.plan.cluster is None or not facts.blocks:
        return None
    counts = facts.main.moments.last.count.tolist()
    split = " : ".join(f"{n:,}" for n in counts)
    return check(
        "few_clusters",
        "warn" if min(counts) < FEW_CLUSTERS else "pass",
        f"{split} clusters are compared; below {FEW_CLUSTERS} per variant a 5 % error can be 6 to 7 % (A5).",
        "Read intervals as slightly too narrow, and assign more clusters next time.",
    )


def small_segments(facts: Facts) -> Check | None:
    """Segment levels with too few units in a variant."""
    moments = facts.main.moments if facts.blocks else None
    if moments is None or not moments.segments:
        return None
    fewest = moments.by_segment.count.min(axis=-1)
    small = [
        f"{name} = {level}"
        for (name, level), n in zip(moments.segments, fewest.tolist(), strict=True)
        if n < FEWEST_IN_SEGMENT
    ]
    if not small:
        return check("segment_sizes", "pass", f"Every segment level has {FEWEST_IN_SEGMENT} units in every variant.")
    more = f" and {len(small) - _SHOWN} more" if len(small) > _SHOWN else ""
    return check(
        "segment_sizes",
        "warn",
        f"Fewer than {FEWEST_IN_SEGMENT} units of a variant in {', '.join(small[:_SHOWN])}{more}.",
        "Do not read these levels; merge them, or choose a coarser segment.",
    )


def history(facts: Facts) -> Check | None:
    """How many units have no pre-period to adjust with (A7)."""
    if not facts.plan.estimation.cuped or facts.plan.data == "summary":
        return None
    without: dict[str, float] = {}
    for block, shapes in zip(facts.blocks, facts.shapes, strict=True):
        last = block.moments.last
        size = last.count if shapes.cluster_size is None else last.count * last.mean[:, shapes.cluster_size]
        columns = {c for shape in shapes.shapes if shape.covariates for c in shape.indicators} - set(shapes.invalid)
        for column in columns if size.sum() else ():
            share = float((last.count * last.mean[:, column]).sum() / size.sum())
            without[block.moments.columns[column]] = share
    if not without:
        return None
    share = max(without.values())
    detail = f"{share:.0%} of units have no facts before exposure."
    status = "warn" if share > LITTLE_HISTORY else "pass"
    remedy = (
        "Expect little from adjustment here; a longer pre-period or another covariate may know more of these units."
    )
    return check("pre_period_history", "warn" if status == "warn" else "pass", detail, remedy)


def trigger_timing(facts: Facts) -> Check | None:
    """Adjusted metrics although the days on which units trigger differ between variants (A7)."""
    came = arrivals(facts)
    adjusted = any(head.estimates.adjusted[0].any() for head in facts.heads)
    if facts.plan.trigger is None or not adjusted or came is None or not came.testable:
        return None
    p = drift(came.new, came.shares).p_value
    if p >= DIFFERS:
        return check(
            "trigger_timing", "pass", f"Variants trigger on the same days (chi-square p = {p:.2g}).", p_value=p
        )
    return check(
        "trigger_timing",
        "warn",
        f"Variants trigger on different days (chi-square p = {p:.2g}): adjusted outcomes mix seasons (A7).",
        "Read the unadjusted effect, or measure outcomes from the assignment.",
        p,
    )
