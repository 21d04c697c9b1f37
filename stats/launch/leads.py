"""Did treated units move apart from the others before their launch, and when (METHODS D2)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stats.launch.contract import Panel
from stats.launch.treated_cells import treated_size
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


def leads(panel: Panel, fit: TwoWay, times: Ints, *, comparisons: int) -> Leads:
    """Difference of treated units at each of these times before their launch, compared with all earlier periods.

    Regressors on untreated cells only, as Borusyak, Jaravel & Spiess 2024 (section 4.4) suggest, so that neither the
    effects nor their estimate are in the test. Treated units count equally.
    """
    since = np.arange(panel.y.shape[1])[None, :] - panel.first[:, None]
    marks = (since == times[:, None, None]) & panel.treated[:, None]
    return on_untreated(marks.astype(np.float64), panel, fit, comparisons=comparisons)


def on_untreated(x: Floats, panel: Panel, fit: TwoWay, *, comparisons: int) -> Leads:
    """Coefficients of regressors `x` (L, N, T) beside unit and period effects, with their errors."""
    effect, weights, known = fit.regress(x)
    rest = np.where(fit.cells, fit.residual - np.einsum("l,lnt->nt", effect, x - fit.project(x)), 0.0)
    adds = np.einsum("lnt,nt->ln", weights, rest)
    treated = panel.treated
    own = max(int(treated.sum()), 2)
    adds[:, treated] *= np.sqrt(own / (own - 1))
    errors = unit_errors(
        weights, adds, fit=fit, treated=treated, comparisons=comparisons, by_untreated=few(treated_size(panel))
    )
    return Leads(effect, errors, known)
