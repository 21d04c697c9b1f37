"""F7 and F8: whether growth that nothing explains is gone, and where the North Star is heading."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from stats.ledger import collapsed
from stats.ledger.forecast import forecast
from tests.stats.ledger.companies import Story, company
from tests.stats.ledger.test_ahead import with_weeks
from tests.stats.ledger.test_ahead_simulated import GROWTH, HISTORY, PRIORS, QUARTER, WATCHED, alarms, growing
from tests.validation.cells import Cell, scaled

SEED = 20405
ALARMS, FORECASTS = "F7 alarms of stagnation", "F8 forecasts"
AHEAD = (1, 4, 13, 26)


def stagnation(part: float = 1.0) -> list[Cell]:
    """Two years of history and two that are watched, an alarm where the chance that the base no longer grows was above
    0.9 three weeks in a row. Without a fall there may be one false alarm in two years, even where growth is exactly at
    the floor; a base that turns from growing by 0.2 % to falling by 0.4 % a week must set it off within a year.
    """
    runs = scaled(8, part, 1)
    cells = []
    for name, growth in (("no growth: at the floor", 0.0), ("growth of 0.2 % a week", GROWTH)):
        counts = np.array([alarms(growing(SEED + seed, growth, growth), 0.0, seed).size for seed in range(runs)])
        mean, reach = float(counts.mean()), 3 * float(counts.std()) / float(np.sqrt(runs))
        case = {"base": name}
        cells.append(Cell(ALARMS, case, "false alarms in two years", mean, 1.0, runs, "at_most", within=reach))
    turn, delays = 2 * QUARTER, []
    for seed in range(runs):
        found = alarms(growing(SEED + seed, GROWTH, -2 * GROWTH), 0.0, seed)
        after = found[found >= turn]
        delays.append(int(after[0]) - turn if after.size else WATCHED)
    case = {"base": "turns from growing by 0.2 % to falling by 0.4 % a week"}
    noticed = float(np.mean(np.array(delays) <= 52))
    return [
        *cells,
        Cell(ALARMS, case, "noticed within a year", noticed, 0.8, runs, "at_least"),
        Cell(
            ALARMS, case, "weeks until the alarm, median", float(np.median(delays)), 52.0, runs, "at_most", within=0.0
        ),
    ]


def forecasts(part: float = 1.0) -> list[Cell]:
    """Companies drawn from the ledger's own priors, two years of history: what came, without another launch and with
    influences as on average, must lie anywhere in its forecast equally often ("ranks" is the Kolmogorov-Smirnov
    p-value), and within the 80 % band in 80 % of companies.
    """
    ahead, places = np.array(AHEAD) - 1, []
    for seed in range(SEED, SEED + scaled(60, part, 4)):
        data, truth = company(seed, Story(weeks=HISTORY + max(AHEAD), experiments=15, influences=1))
        fit = collapsed.fit(with_weeks(data, HISTORY), PRIORS, seed=seed, draws=1000)
        if fit.reason:
            continue
        remaining, weeks = truth.scalars["remaining"], truth.scalars["weeks"]
        age = np.maximum(HISTORY + ahead[:, None] - (data.coverage > 0).argmax(axis=0), 0)
        launched = data.coverage[HISTORY - 1] * (remaining + (1 - remaining) * np.exp(-age / weeks)) @ truth.theta
        came = (truth.level + truth.season + truth.noise)[HISTORY + ahead] + launched
        drawn = forecast(fit, max(AHEAD), seed=seed).log_values[:, ahead]
        places.append((drawn < came).mean(axis=0))
    cells = []
    for week, rank in zip(AHEAD, np.array(places).T, strict=True):
        case, runs = {"weeks ahead": str(week)}, len(rank)
        inside = float((np.abs(rank - 0.5) <= 0.4).mean())
        p = float(kstest(rank, "uniform").pvalue)
        cells.append(Cell(FORECASTS, case, "80 % band: coverage", inside, 0.8, runs, slack=0.02))
        cells.append(Cell(FORECASTS, case, "ranks", p, 0.001, runs, "at_least", within=0.0))
    return cells
