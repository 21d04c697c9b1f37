"""Checks of the traffic: whether units come, once, to every variant, and the time they had (METHODS B4, H2)."""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from experiments.definitions import MetricSpec, Role
from experiments.evidence.facts import Facts, Status, check
from experiments.result import Check
from stats.formula import parse
from stats.moments import Ints

CROSSOVER_WARN, CROSSOVER_FAIL = 0.001, 0.01
STALE_LOOKS = 2
ERASED_WARN, ERASED_ALPHA = 0.001, 0.001


def empty_arm(facts: Facts) -> Check:
    """Every variant must have been exposed to somebody."""
    exposed = facts.exposures[-1] if len(facts.exposures) else np.zeros(len(facts.plan.variants), dtype=np.int64)
    empty = [variant.key for variant, n in zip(facts.plan.variants, exposed.tolist(), strict=True) if n == 0]
    if not empty:
        return check("empty_arm", "pass", "Every variant has units.")
    return check(
        "empty_arm",
        "fail",
        f"No unit was exposed to {', '.join(empty)}.",
        "Check that assignment logs every variant under its key.",
    )


def crossover(facts: Facts) -> Check:
    """Units seen in two variants: few is noise, many means that assignment is not sticky."""
    exposed = int(facts.exposures[-1].sum()) if len(facts.exposures) else 0
    share = facts.crossover / max(exposed + facts.crossover, 1)
    status: Status = "fail" if share > CROSSOVER_FAIL else "warn" if share > CROSSOVER_WARN else "pass"
    detail = f"{facts.crossover:,} units ({share:.2%}) were exposed to more than one variant and are excluded."
    return check("crossover", status, detail, "Make assignment sticky per unit, and check how units are identified.")


def erased_units(facts: Facts) -> Check | None:
    """Units whose rows were erased: who asks for it may not be a random part of an arm (METHODS A7)."""
    lost = dict(facts.context.erased)
    if not sum(lost.values()):
        return None
    keys = [variant.key for variant in facts.plan.variants]
    left = facts.exposures[-1] if len(facts.exposures) else np.zeros(len(keys), dtype=np.int64)
    gone = np.array([lost.get(key, 0) for key in keys], dtype=np.int64)
    share = float((gone / np.maximum(gone + left, 1)).max(initial=0.0))
    p = _equal_loss(gone, gone + left)
    counts = ", ".join(f"{key} {count:,}" for key, count in zip(keys, gone.tolist(), strict=True))
    others = sum(lost.values()) - int(gone.sum())
    detail = f"Erased since the start: {counts}" + (f", in several variants or unknown {others:,}" if others else "")
    chance = f" (p = {p:.2g} for the same share in every arm, warns below {ERASED_ALPHA})"
    worry = p < ERASED_ALPHA or share > ERASED_WARN
    return check(
        "erased_units",
        "warn" if worry else "pass",
        f"{detail}{chance}; at most {share:.2%} of an arm.",
        "Their facts are missing as well: compare with the last result before the erasures, and do not ship on a lift"
        " as small as this share.",
        p,
    )


def _equal_loss(gone: Ints, units: Ints) -> float:
    """Exact two-sided p-value that arms lose the same share of their units: binomial, Bonferroni over arms."""
    total, n = int(gone.sum()), float(units.sum())
    if not total:
        return 1.0
    shares = units / n
    tails = np.minimum(sc.bdtr(gone, total, shares), np.where(gone > 0, sc.bdtrc(gone - 1, total, shares), 1.0))
    arms = 1 if len(gone) == 2 else len(gone)
    return float(min(1.0, 2.0 * arms * tails.min()))


def data_arriving(facts: Facts) -> Check | None:
    """Whether exposures still arrive while the experiment runs."""
    if not len(facts.exposures):
        return None
    looks = facts.main.moments.looks
    if not facts.context.running or len(looks) <= STALE_LOOKS:
        return check("data_freshness", "pass", f"Data up to {looks[-1]:%Y-%m-%d %H:%M} UTC.")
    new = int((facts.exposures[-1] - facts.exposures[-1 - STALE_LOOKS]).sum())
    detail = f"{new:,} new units since {looks[-1 - STALE_LOOKS]:%Y-%m-%d %H:%M} UTC."
    return check(
        "data_freshness",
        "pass" if new else "warn",
        detail,
        "Check that exposures still arrive, or stop the experiment.",
    )


def full_week(facts: Facts) -> Check:
    """Weekdays differ, so a decision needs a whole one."""
    days = (facts.context.exposed_until - facts.context.started_at).total_seconds() / 86400
    detail = f"{max(days, 0):.1f} days of exposure."
    enough = facts.context.full_weeks >= 1
    return check("full_week", "pass" if enough else "warn", detail, "Run for at least one full week: weekdays differ.")


def sample_size(facts: Facts) -> Check:
    """What the always-valid intervals are tuned at (B1)."""
    planned = facts.plan.planned_units
    exposed = int(facts.exposures[-1].sum()) if len(facts.exposures) else 0
    if planned is None:
        return check(
            "planned_sample",
            "warn",
            f"No planned sample size: always-valid intervals are tuned at the {exposed:,} units observed so far (B1).",
            "Plan the next experiment with a sample size, so that its intervals are tightest where you decide.",
        )
    return check("planned_sample", "pass", f"{exposed:,} of {planned:,} planned units ({exposed / planned:.0%}).")


def planned_end(facts: Facts) -> Check | None:
    """Whether the fixed horizon was fixed beforehand."""
    if facts.context.running or facts.plan.planned_end_at is not None:
        return None
    return check(
        "planned_end",
        "warn",
        "The experiment was stopped without a planned end, and fixed-horizon intervals decide.",
        "Trust them only if the stop did not depend on the results; plan an end next time.",
    )


def open_windows(facts: Facts) -> Check | None:
    """Metrics that keep changing for units already counted, judged at more than one look (B4)."""
    if facts.plan.data == "summary" or facts.plan.estimation.sequential.method == "fixed":
        return None
    deciding = [metric for metric in facts.plan.metrics if metric.role in (Role.PRIMARY, Role.GUARDRAIL)]
    still_open = [metric.metric_key for metric in deciding if _stays_open(metric.spec, facts)]
    if not still_open:
        return check("open_windows", "pass", "Every deciding metric counts each unit once, over a closed window.")
    return check(
        "open_windows",
        "warn",
        f"No closed window: {', '.join(still_open)}; values of units already counted change from look to look (B4).",
        "Give these metrics a `window_days`, or decide only at the planned end (`sequential.method`: fixed).",
    )


def _stays_open(spec: MetricSpec, facts: Facts) -> bool:
    """Whether any measure behind a metric runs until the look."""
    if spec.kind != "formula":
        return spec.window_days is None
    specs = {metric.metric_key: metric.spec for metric in facts.plan.metrics}
    names = parse(spec.formula).names if spec.formula else ()
    return any(_stays_open(specs[name], facts) for name in names if name in specs)
