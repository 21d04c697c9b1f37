"""A/A mode: variants that are the same on purpose must not differ beyond chance; what is tested is the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.special as sc

from experiments.evidence.facts import check
from experiments.plan import AnalysisPlan
from experiments.result import Check, Row
from stats.moments import Floats
from stats.multiplicity import adjusted

CERTAIN = 0.001
"""A difference this clear after correction over all rows (Holm: any dependence) is no accident."""
SUSPICIOUS = 0.01
FEWEST_FOR_UNIFORMITY = 20


def no_difference_check(plan: AnalysisPlan, rows: Sequence[Row], *, running: bool) -> list[Check]:
    """Whether p-values of an A/A test look like those of nothing at all; empty for tests.

    Fails where one row differs for certain. Warns where too many rows are below alpha (binomial) or the p-values of
    everybody's rows are not uniform (Kolmogorov-Smirnov, from 20 on); both take rows as independent, which metrics of
    the same units are not, hence only a warning. While the test runs, certainty is asked of always-valid p-values.
    """
    if plan.purpose != "aa":
        return []
    alpha = 1 - plan.estimation.ci_level
    p = _known([row.p_value for row in rows])
    whole = [row for row in rows if row.segment is None]
    if not len(p):
        return [check("identical_variants", "warn", "No row has a p-value yet.", "Wait for more data.")]
    below = int((p <= alpha).sum())
    too_many = float(sc.bdtrc(below - 1, len(p), alpha)) if below else 1.0
    sure = _known([row.always_valid_p_value for row in whole]) if running else p
    clearest = float(adjusted(sure, "holm").min()) if len(sure) else 1.0
    uniform = _uniformity(_known([row.p_value for row in whole]))
    detail = (
        f"{below} of {len(p)} rows have p <= {alpha:g}, about {alpha * len(p):.1f} should "
        f"(binomial p = {too_many:.2g}); the clearest difference has p = {clearest:.2g} after correction"
    )
    detail += f"; uniformity of p-values: p = {uniform:.2g}." if uniform is not None else "."
    remedy = (
        "Do not start tests on this pipeline before you know why identical variants differ: logging, bots or identity."
    )
    if clearest < CERTAIN:
        return [check("identical_variants", "fail", detail, remedy, clearest)]
    suspicious = min(too_many, 1.0 if uniform is None else uniform)
    if suspicious < SUSPICIOUS:
        return [check("identical_variants", "warn", detail, remedy, suspicious)]
    return [check("identical_variants", "pass", f"Nothing differs beyond chance: {detail}", p_value=clearest)]


def _known(p_values: Sequence[float | None]) -> Floats:
    return np.array([p for p in p_values if p is not None], dtype=np.float64)


def _uniformity(p: Floats) -> float | None:
    """Kolmogorov-Smirnov against the uniform distribution, by its limit law with Stephens' correction (1970)."""
    n = len(p)
    if n < FEWEST_FOR_UNIFORMITY:
        return None
    ordered, rank = np.sort(p), np.arange(1, n + 1)
    distance = float(max((rank / n - ordered).max(), (ordered - (rank - 1) / n).max()))
    return float(sc.kolmogorov((n**0.5 + 0.12 + 0.11 / n**0.5) * distance))
