"""Whether two roads found the same numbers, and whether they are what loops find."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from experiments.definitions import MetricSpec
from stats.moment_set import MomentSet
from stats.moments import Floats, Moments
from stats.quantile import QuantileSummary
from tests.engines.plain_pass import Found
from warehouse.engines.capabilities import QUANTILE_NOT_COMPILED

TOLERANCE = 1e-9
BIT = 2.0**-50


def assert_moments(found: Moments, wanted: Moments, where: str = "", spread: Floats | None = None) -> None:
    """Equal counts; means to 1e-9 of themselves; products to 1e-9 of the spread of all cells about their common mean.

    Not of their distance from zero: a variance beside a mean of 1e9 is held to its own digits. `spread` (k,) is that of
    all units where the cells are a part of them.
    """
    np.testing.assert_array_equal(found.count, wanted.count, err_msg=where)
    spread = _spread(wanted) if spread is None else spread
    allowed = TOLERANCE * np.abs(wanted.mean) + TOLERANCE * 1e-3 * spread + 1e-12
    assert (np.abs(found.mean - wanted.mean) <= allowed).all(), _worst(where, found.mean, wanted.mean, allowed)
    n = np.maximum(wanted.count, 1)[..., None]
    # A unit's own value has 53 bits, and an engine may add it up in another order.
    unit = spread + np.abs(wanted.mean) * BIT / TOLERANCE
    close = TOLERANCE * n[..., None] * unit[..., :, None] * np.maximum(unit, spread)[..., None, :] + 1e-12
    gap = np.abs(found.comoment - wanted.comoment)
    assert (gap <= close).all(), _worst(f"{where} comoment", found.comoment, wanted.comoment, close)
    cubes = 3 * TOLERANCE * n * unit * np.maximum(unit, spread) ** 2 + 1e-12
    assert (np.abs(found.third - wanted.third) <= cubes).all(), _worst(
        f"{where} third", found.third, wanted.third, cubes
    )


def _spread(moments: Moments) -> Floats:
    """(k,) the standard deviation of all units of all cells."""
    k = moments.mean.shape[-1]
    n = moments.count.reshape(-1, 1)
    mean = moments.mean.reshape(len(n), k)
    total = max(int(n.sum()), 1)
    centre = (n * mean).sum(axis=0) / total
    inner = np.diagonal(moments.comoment, axis1=-2, axis2=-1).reshape(len(n), k)
    spread: Floats = np.sqrt((inner + n * (mean - centre) ** 2).sum(axis=0) / total)
    return spread


def _worst(where: str, found: Floats, wanted: Floats, allowed: Floats) -> str:
    at = np.unravel_index(int(np.argmax(np.abs(found - wanted) / np.broadcast_to(allowed, found.shape))), found.shape)
    return f"{where} at {tuple(map(int, at))}: found {found[at]!r}, wanted {wanted[at]!r}"


def assert_engines_agree(found: MomentSet, wanted: MomentSet, metrics: Iterable[MetricSpec]) -> None:
    """Every field of a compiled road's result is the embedded road's, but for what it refuses as it says."""
    capped = {metric.key for metric in metrics if metric.cap is not None}
    for item in fields(MomentSet):
        if item.name in ("buckets", "clusters", "reach", "concurrent", "unscreened"):
            continue
        got, want = getattr(found, item.name), getattr(wanted, item.name)
        if item.name == "quantiles":
            want = {key: cells for key, cells in want.items() if key not in found.refused}
        if item.name == "by_age":
            want = {key: days for key, days in want.items() if key not in capped}
        if item.name == "populations" and QUANTILE_NOT_COMPILED in found.refused.values():
            assert "with_outcome" not in got
            want = {name: n for name, n in want.items() if name != "with_outcome"}
        if item.name == "refused":
            # What is not compiled is not looked at, whatever the embedded road has against its values.
            want = {key: why for key, why in want.items() if got.get(key) != QUANTILE_NOT_COMPILED}
            got = {key: why for key, why in got.items() if why != QUANTILE_NOT_COMPILED}
        _same(got, want, item.name)
    assert (found.clusters is None) == (wanted.clusters is None)
    if found.clusters is not None and wanted.clusters is not None:
        np.testing.assert_allclose(_sorted(found), _sorted(wanted), rtol=TOLERANCE, atol=1e-6)


def _sorted(moments: MomentSet) -> list[list[float]]:
    assert moments.clusters is not None
    rows = zip(moments.clusters.variant.tolist(), moments.clusters.values.tolist(), strict=True)
    return sorted(
        ([arm, *(round(v, 6) for v in values)] for arm, values in rows), key=lambda row: [row[0], *row[:0:-1]]
    )


def _same(found: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, Moments):
        assert_moments(found, wanted, name)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, err_msg=name)
    elif isinstance(wanted, dict):
        assert set(found) == set(wanted), f"{name}: {set(found) ^ set(wanted)}"
        for key, value in wanted.items():
            _same(found[key], value, f"{name} of {key}")
    elif is_dataclass(wanted):
        for item in fields(wanted):
            # Whether values tie at a border of the interval is told of all values; the compiled road knows as many.
            if not (isinstance(wanted, QuantileSummary) and item.name == "tied"):
                _same(getattr(found, item.name), getattr(wanted, item.name), f"{name}.{item.name}")
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, err_msg=name)
    else:
        assert found == wanted, f"{name}: {found!r} is not {wanted!r}"


def assert_is_what_loops_find(found: MomentSet, wanted: Found) -> None:
    """Every field that loops know."""
    assert dict(found.invalid) == wanted.invalid
    assert_moments(found.overall, wanted.overall, "overall")
    spread = _spread(wanted.overall)
    np.testing.assert_array_equal(found.exposures, wanted.exposures)
    assert found.crossover == wanted.crossover
    populations = {name: n.tolist() for name, n in found.populations.items()}
    unread = {"with_outcome"} if QUANTILE_NOT_COMPILED in found.refused.values() else set()
    expected = {name: n for name, n in wanted.populations.items() if name not in unread}
    assert populations == expected, (populations, expected)
    assert found.segment_exposures is not None
    exposed = dict(zip(found.segments, found.segment_exposures.tolist(), strict=True))
    assert {key: n for key, n in exposed.items() if any(n)} == wanted.segment_exposures
    for i, key in enumerate(found.segments):
        if key in wanted.by_segment:
            assert_moments(found.by_segment[i], wanted.by_segment[key], str(key), spread)
        else:
            assert not found.by_segment.count[i].any(), key
    assert set(found.strata) == set(wanted.strata)
    for i, name in enumerate(found.strata):
        assert found.by_stratum is not None
        assert_moments(found.by_stratum[:, i], wanted.strata[name], name, spread)
    assert found.buckets is not None
    np.testing.assert_array_equal(found.buckets.count.sum(axis=0), wanted.buckets.sum(axis=0))
    if found.clusters is not None:
        rows = sorted(([arm, *row] for arm, *row in wanted.clusters), key=lambda row: [row[0], *row[:0:-1]])
        np.testing.assert_allclose(_sorted(found), [[round(v, 6) for v in row] for row in rows], rtol=1e-9, atol=1e-6)
    assert {name: n.tolist() for name, n in found.missing.items()} == wanted.missing
    above = {name: c.capped_units.tolist() for name, c in found.capped.items()}
    expected_above = {name: units for name, (_, units) in wanted.capped.items()}
    # Where there are no units at all a fixed cap stands, with nobody above it; loops say nothing of it.
    said = {name: units for name, units in above.items() if name in expected_above or any(units)}
    assert said == expected_above, (above, expected_above)
    for name, (cap, _) in wanted.capped.items():
        np.testing.assert_allclose(found.capped[name].cap, cap, rtol=TOLERANCE)
    assert set(found.responses) == set(wanted.responses)
    for key, table in wanted.responses.items():
        np.testing.assert_allclose(found.responses[key].scores, list(table), rtol=TOLERANCE)
        np.testing.assert_array_equal(found.responses[key].respondents.T.tolist(), list(table.values()))
    uncompiled = {key for key, why in found.refused.items() if why == QUANTILE_NOT_COMPILED}
    assert set(found.refused) - uncompiled == wanted.refused - uncompiled
    for key, cells in found.quantiles.items():
        np.testing.assert_allclose(cells.overall.value[-1], wanted.quantiles[key], rtol=TOLERANCE)
    assert {key: tuple(lost) for key, lost in found.unmapped.items()} == wanted.unmapped


def assert_buckets_by_md5(found: MomentSet, wanted: Found) -> None:
    """Every compiled road puts the same units into the same hash buckets."""
    assert found.buckets is not None
    np.testing.assert_array_equal(found.buckets.count, wanted.buckets)
