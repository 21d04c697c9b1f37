"""Parts of a compiled statement after they were merged: what one statement over all units would have said."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stats.moments import Floats, Moments
from warehouse.cells import OverLooks
from warehouse.engine_answers import LAST_BITS, ROUNDING
from warehouse.experiment_moments import Parts


def same_questions(parts: Sequence[Parts]) -> bool:
    """Whether no column is withdrawn, and all parts say something about the same products.

    A column that is withdrawn where only some units are asked for still counts for outcomes of the others.
    """
    first = parts[0].products
    return all(
        not one.invalid
        and one.products.refused == first.refused
        and set(one.products.by_age) == set(first.by_age)
        and set(one.products.responses) == set(first.responses)
        for one in parts
    )


def without_noise(parts: Parts) -> Parts:
    """Exactly no spread where the same value was merged with itself, up to the rounding of each statement's sums.

    A mean is its statement's centre and a sum of gaps, so a constant comes back from two statements with other last
    bits; the difference would be taken for a spread, and a test would divide by it.
    """
    entering = parts.overall.entering
    assert entering is not None
    centre = _centre(entering)
    strata = parts.by_stratum
    if strata is not None and strata.entering is not None:
        strata = OverLooks(_exact(strata.entering, centre))
    ages = {key: _exact(days, _centre(days)) for key, days in parts.products.by_age.items()}
    return replace(
        parts,
        overall=OverLooks(_exact(entering, centre)),
        by_segment=_exact(parts.by_segment, centre),
        by_stratum=strata,
        products=replace(parts.products, by_age=ages),
    )


def _centre(moments: Moments) -> Floats:
    """(k,) the mean of all cells."""
    n = moments.count.reshape(-1, 1)
    found: Floats = (n * moments.mean.reshape(len(n), -1)).sum(axis=0) / max(int(n.sum()), 1)
    return found


def _exact(moments: Moments, centre: Floats) -> Moments:
    n = moments.count[..., None]
    left = np.diagonal(moments.comoment, axis1=-2, axis2=-1)
    squares = left + n * (moments.mean - centre) ** 2
    bits = n * (LAST_BITS * np.maximum(np.abs(moments.mean), np.abs(centre))) ** 2
    spread = (n > 1) & (left > ROUNDING * np.sqrt(n) * squares + bits)
    return Moments(
        moments.count,
        moments.mean,
        np.where(spread[..., :, None] & spread[..., None, :], moments.comoment, 0.0),
        np.where(spread, moments.third, 0.0),
    )
