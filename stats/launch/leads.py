"""Did treated units move apart from the others before their launch, and when (METHODS D2)?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stats.launch.contract import Panel
from stats.launch.treated_cells import since_launch, sizes_of
from stats.launch.two_way import TwoWay
from stats.launch.unit_errors import Errors, few, unit_errors
from stats.moments import Bools, Floats, Ints

MOST = 12
"""Leads that are told apart; the periods before them are what they are compared with."""


@dataclass(frozen=True, slots=True, eq=False)
class Leads:
    """Coefficients (L,) of regressors on untreated cells, `known` (L,) where they can be told from the effects."""

    effect: Floats
    errors: Errors
    known: Bools


def lead_times(panel: Panel) -> Ints:
    """Times before the launch (negative, ascending) that have a lead of their own: half of the history, at most 12."""
    return np.arange(-min(MOST, panel.pre // 2), 0)


def leads(panel: Panel, fit: TwoWay, times: Ints) -> Leads:
    """Difference of treated units at each of these times before their launch, compared with all earlier periods.

    Regressors on untreated cells only, as Borusyak, Jaravel & Spiess 2024 (section 4.4) suggest, so that neither the
    effects nor their estimate are in the test. Treated units count equally.
    """
    marks = (since_launch(panel) == times[:, None, None]) & panel.treated[:, None]
    return on_untreated(marks.astype(np.float64), panel, fit)


def on_untreated(x: Floats, panel: Panel, fit: TwoWay) -> Leads:
    """Coefficients of regressors `x` (L, N, T) beside unit and period effects, with their errors.

    Those that have no period with 2 units to compare with are not known.
    """
    treated = panel.treated
    marked = fit.cells & (x != 0)
    beside = (fit.cells & ~marked.any(axis=0)).sum(axis=0)
    compared = marked.any(axis=1) & (beside >= 2)
    effect, weights, known = fit.regress(np.where(compared.any(axis=1)[:, None, None], x, 0.0))
    rest = np.where(fit.cells, fit.residual - np.einsum("l,lnt->nt", effect, x - fit.project(x)), 0.0)
    adds = np.einsum("lnt,nt->ln", weights, rest)
    own = max(int(treated.sum()), 2)
    adds[:, treated] *= np.sqrt(own / (own - 1))
    errors = unit_errors(
        weights,
        adds,
        fit=replace(fit, residual=rest),
        treated=treated,
        comparisons=int(beside[compared.any(axis=0)].min(initial=len(panel.y))),
        by_untreated=few(sizes_of(treated, panel)),
    )
    return Leads(effect, errors, known)
