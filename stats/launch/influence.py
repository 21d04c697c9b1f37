"""Whether a single period makes an effect: a broken feed, one large order, a day on the front page (METHODS D7)."""

from __future__ import annotations

import numpy as np

from stats.moments import Floats

ERRORS = 3.0
SHARE = 0.25
"""What one period changes an effect by is too much above so many standard errors and above this share of it."""


def deciding_period(by_period: Floats, coverage: Floats, standard_error: float) -> int | None:
    """The place in `by_period` (P,) without which the effect would be another one; None where there is no such.

    The effect at full coverage is that of periods regressed on their `coverage` (P,), in turn without each of them
    (Cook 1977). An error that all periods share moves none of these, and one that each has anew moves them by less than
    a standard error; a level that grows by the same step every period takes less than `SHARE` of it.
    """
    if by_period.size < 2:
        return None
    product, square = coverage * by_period, coverage**2
    effect, left = product.sum() / square.sum(), square.sum() - square
    without = np.divide(product.sum() - product, left, out=np.full(left.shape, effect), where=left > 0)
    change = np.abs(effect - without)
    place = int(change.argmax())
    return place if change[place] > max(ERRORS * standard_error, SHARE * abs(effect)) else None
