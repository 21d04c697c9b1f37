"""D2: rollouts over segments in waves, with effects that grow, and noise of segments that lasts.

Panels of 40 periods with shocks that all segments share. Truths are averages over treated cells. "two-way regression"
is the usual regression on segment and period effects and the state of the launch, with errors clustered by segment: it
takes cells that already have the launch for comparisons, and is shown for what Northlift never does.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from stats.launch.contract import Panel
from stats.launch.group_time import group_time
from stats.launch.imputation import imputation
from stats.launch.rollout_order import permuted_order
from stats.launch.trends import pre_trend, relative_magnitudes
from stats.moments import Floats
from tests.launch.rollout_panels import average, rollout
from tests.validation.cells import Cell, Rule, scaled
from tests.validation.intervals import LEVEL, Intervals, shares_below

SEED = 20302
WITHOUT_NOISE = "D2 growing effects without noise"
TABLE = "D2 rollouts in waves"
ANTICIPATION = "D2 anticipation"
TRENDS = "D2 trends that part"
ORDER = "D6 order drawn by lot"
DRAWS = 99
"""Of the bands' bootstrap, which takes no part here."""
SLACK = 0.015
GROWING = {"effect": 0.1, "growth": 0.01}
CASES: dict[str, dict[str, object]] = {
    "9 of 30 segments": {},
    "9 of 30, AR(1) 0.9": {"persistence": 0.9},
    "9 of 30, drift": {"drift": 0.01},
    "9 of 30, unequal sizes": {"uneven": 1.0},
    "20 of 40": {"treated": 20, "units": 40},
    "5 of 20": {"treated": 5, "units": 20},
    "3 of 20": {"treated": 3, "units": 20},
}


def two_way_regression(panel: Panel) -> tuple[float, float, float]:
    """The coefficient of the state and its 95 % interval, on a panel without gaps (errors CR1, t with N - 1)."""
    state, y = _within(panel.coverage), _within(panel.y)
    units = len(y)
    size = float((state**2).sum())
    effect = float((state * y).sum()) / size
    scores = (state * (y - effect * state)).sum(axis=1)
    error = float(np.sqrt(units / (units - 1) * (scores**2).sum())) / size
    half = float(sc.stdtrit(units - 1, 0.5 + LEVEL / 2)) * error
    return effect, effect - half, effect + half


def _within(values: Floats) -> Floats:
    return np.asarray(values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean())


def growing_effects(part: float = 1.0) -> list[Cell]:
    """A rollout without noise to 30 of 40 segments, with effects that begin at 0.40 and grow by 0.11 a period. The
    average of treated cells is 1.257, as in METHODS D2; the regression finds two thirds of it (0.839), the others all.
    """
    del part  # nothing is drawn
    panel, true = rollout(
        np.random.default_rng([SEED, 0]),
        units=40,
        treated=30,
        periods=30,
        starts=(10, 15, 20),
        effect=0.4025,
        growth=0.1131,
        noise=1e-6,
    )
    truth = average(panel, true)
    found = {
        "imputation": imputation(panel, seed=SEED, draws=DRAWS).effect,
        "group-time": group_time(panel, seed=SEED, draws=DRAWS).effect,
        "two-way regression": two_way_regression(panel)[0],
    }
    rules: dict[str, Rule] = {"two-way regression": "report"}
    return [
        Cell(WITHOUT_NOISE, {"method": method}, "effect", effect, truth, 1, rules.get(method, "equal"), within=0.001)
        for method, effect in found.items()
    ]


def waves(part: float = 1.0) -> list[Cell]:
    """Coverage and bias with noise, for effects that begin at 0.1 and grow by 0.01 a period."""
    cells = []
    for number, (name, case) in enumerate(CASES.items()):
        cells += _cells(TABLE, {"panel": name}, case | GROWING, [SEED, 1, number], scaled(400, part, 12))
    return cells


def anticipation(part: float = 1.0) -> list[Cell]:
    """Segments react by 0.05 in the three periods before their launch. With the announcement on record those periods
    are left out and nothing is lost; without it every estimator is off, most the one that compares with the last period
    before the launch: `grades` shows what becomes of such launches.
    """
    cells = []
    for number, (name, announced) in enumerate([("announced and left out", 3), ("not on record", 0)]):
        story: dict[str, object] = {"effect": 0.1, "anticipated": 0.05, "announced": announced}
        cells += _cells(
            ANTICIPATION, {"anticipation": name}, story, [SEED, 2, number], scaled(300, part, 12), spoiled=not announced
        )
    return cells


def _cells(
    table: str,
    case: dict[str, str],
    story: dict[str, object],
    seed: list[int],
    replications: int,
    *,
    spoiled: bool = False,
) -> list[Cell]:
    said = {name: Intervals() for name in ("imputation", "group-time", "two-way regression")}
    for replication in range(replications):
        panel, true = rollout(np.random.default_rng([*seed, replication]), **story)  # type: ignore[arg-type]  # as data
        truth = average(panel, true)
        said["imputation"].of(truth, imputation(panel, seed=replication, draws=DRAWS))
        said["group-time"].of(truth, group_time(panel, seed=replication, draws=DRAWS))
        said["two-way regression"].add(truth, *two_way_regression(panel))
    cells = []
    for name, intervals in said.items():
        shown = spoiled or name == "two-way regression"
        cells.append(intervals.coverage(table, case, name, "report" if shown else "at_least", SLACK))
        cells.append(intervals.bias(table, case, name, "report" if shown else "equal"))
    return cells


def parting_trends(part: float = 1.0) -> list[Cell]:
    """Treated segments part from the others by 0.001 to 0.004 a period, before the launch and after it, without any
    effect. The trend test must not fail parallel segments more often than it says; how often it sees the parting is
    shown, and is why passing it is weak evidence. Bounds that allow for as much parting as there was (m = 1) must hold
    the truth where the estimate's own interval no longer does.
    """
    cells = []
    for slope in (0.0, 0.001, 0.002, 0.004):
        case, own, bounded = {"parting per period": f"{slope:g}"}, Intervals(), Intervals()
        failed = []
        replications = scaled(300, part, 12)
        for replication in range(replications):
            rng = np.random.default_rng([SEED, 3, round(slope * 1000), replication])
            panel, _ = rollout(rng, starts=(24,), units=20, treated=5)
            panel.y[panel.treated] += slope * np.arange(panel.y.shape[1])
            found = imputation(panel, seed=replication, draws=DRAWS)
            bounds = relative_magnitudes(panel, found, m=(1.0,))
            own.of(0.0, found)
            bounded.add(0.0, found.effect, float(bounds.lower[0]), float(bounds.upper[0]))
            failed.append(pre_trend(panel).p_value)
        parallel = slope == 0.0
        share = float(np.mean(np.array(failed) < 0.05))
        cells += [
            Cell(
                TRENDS,
                case,
                "trend test fails",
                share,
                0.05,
                replications,
                "at_most" if parallel else "report",
                0.01,
            ),
            own.coverage(TRENDS, case, "imputation", "at_least" if parallel else "report", SLACK),
            bounded.coverage(TRENDS, case, "with as much parting as before", "at_least", SLACK),
        ]
    return cells


def order_by_lot(part: float = 1.0) -> list[Cell]:
    """Where the order of segments was drawn by lot, the p-value counts orders that could have been drawn. It must be
    uniform whatever the noise: here segments differ in loudness by a factor of e, and walk.
    """
    p = []
    for replication in range(scaled(400, part, 20)):
        rng = np.random.default_rng([SEED, 4, replication])
        panel, _ = rollout(rng, units=16, treated=8, periods=24, starts=(8, 12, 16), drift=0.02)
        panel.y[:] *= np.exp(rng.standard_normal((16, 1)))
        p.append(permuted_order(panel, seed=replication, draws=39))
    return shares_below(p, ORDER, {"noise": "walks, unequally loud"}, "imputation", "equal", 0.005)
