"""E5 to E8: from people reached to the company, what lasts, what a year brings, and two measurements of one effect.

Sampling distributions with truths that are fixed, except where it says that they are drawn.
"""

from __future__ import annotations

import numpy as np

from stats.persistence import persistence
from stats.projection import fading_effect, project
from tests.stats import test_blend, test_persistence, test_topline
from tests.stats.test_projection import LEVEL as WEEKLY
from tests.stats.test_projection import WEEKS, calibration
from tests.validation.cells import Cell, Rule, scaled

SEED = 20402
TOPLINE, LASTING, A_YEAR, BLEND = "E5 toplines", "E6 what lasts", "E7 projections", "E8 blends"
SHARES, WEIGHTS = (0.01, 0.05, 0.2), (0.3, 1.0, 3.0, 5.0)
CONSTANTS = (1.5, 3.0, 5.0, 8.0, 14.0)
BIASES, PAST = (0.0, 0.004, 0.008, 0.015), (5, 10, 40)
SLACK = 0.01
"""METHODS I1."""


def toplines(part: float = 1.0) -> list[Cell]:
    """A share of the users can be reached, who are lighter or heavier than others; 20,000 users by arm, a lift of 10 %
    of those reached. "diluted" is what Northlift says of the company; multiplying the lift by the share of people
    instead ("naive") is off wherever the reached are not average. METHODS E5's example is 10 %, three times heavier.
    """
    cells = []
    grid = [(r, weight, 20_000, 0.1) for r in SHARES for weight in WEIGHTS]
    for r, weight, n, lift in [*grid, (0.1, 3.0, 3750, 0.06)]:
        runs = scaled(800, part, 40)
        rng = np.random.default_rng([SEED, int(1000 * r), int(10 * weight)])
        trials = [test_topline.trial(rng, n, r, weight, lift) for _ in range(runs)]
        truth = float(np.log1p(r * weight / (r * weight + 1 - r) * lift))
        case = {"reached": f"{r:.0%}", "their weight": f"{weight:g}", "users by arm": f"{n:,}"}
        rules: dict[str, Rule] = {"diluted": "equal", "everyone": "report", "naive": "report"}
        for name, rule in rules.items():
            held = test_topline.coverage_of(name, trials, truth)
            cells.append(Cell(TOPLINE, case, f"{name}: coverage", held, 0.95, runs, rule, SLACK))
        errors = [float(np.mean([each[name][1] for each in trials])) for name in ("diluted", "everyone")]
        cells.append(Cell(TOPLINE, case, "error / error of all users", errors[0] / errors[1], 1.0, runs, "report"))
    return cells


def lasting(part: float = 1.0) -> list[Cell]:
    """Effects by day of exposure: 5 % at the start, 2 % in the long run, 28 days. "mean of all days" is the usual
    answer. A prior about no effect makes intervals of noisy days hold more than they promise ("≥"). "drawn": start and
    long run from the model's own prior and time constants from 1.5 to 14 days; 80 % intervals hold what they say.
    """
    cells = []
    for constant in CONSTANTS:
        for noise, daily in (("usual", 0.008), ("high", 0.0148)):
            runs = scaled(300, part, 40)
            got = test_persistence.replicate(0.05, 0.02, constant, runs, daily=daily, seed=SEED + int(10 * constant))
            case = {"time constant": f"{constant:g} d", "daily noise": noise}
            cells += [
                Cell(LASTING, case, "long run: coverage", got["covers"], 0.95, runs, "at_least", SLACK),
                Cell(LASTING, case, "long run: bias", got["bias"], 0.0, runs, within=0.004),
                Cell(LASTING, case, "mean of all days: coverage", got["mean_covers"], 0.95, runs, "report"),
                Cell(LASTING, case, "mean of all days: bias", got["mean_bias"], 0.0, runs, "report"),
            ]
    return [*cells, *_drawn(part)]


def projections(part: float = 1.0) -> list[Cell]:
    """What a change brings in 52 weeks. "steady": the effect, whose share it reaches, how much is realised, how long it
    survives and the company's level are all uncertain and drawn as the priors say. "fading": an effect that was seen to
    wear off by day of exposure, start and long run drawn from the prior of E6. Eighty-percent intervals.
    """
    runs = scaled(800, part, 60)
    case = {"effect": "steady"}
    held = calibration(runs, SEED, 600)
    return [Cell(A_YEAR, case, "gain of a year: coverage", held, 0.8, runs, slack=SLACK), *_fading_year(part)]


def blends(part: float = 1.0) -> list[Cell]:
    """A direct measurement with an error of 1 %, and one through the tree with 0.3 % and a bias (its standard deviation
    is in the table) that 5 to 40 past experiments tell something of. 95 % intervals of the blend, of the tree alone, by
    inverse variance, and with the bias estimated as if known; the error of the blend beside that of the direct one. A
    bias that hardly stands out from the noise of past gaps costs two points (the slack is 0.03 there).
    """
    cells = []
    small: Rule = "at_most"
    for bias in BIASES:
        for past in PAST:
            runs = scaled(600, part, 60)
            got = test_blend.replicate(past, bias, runs, seed=SEED + int(1e5 * bias) + past)
            case = {"bias of the tree": f"{bias:.1%}", "past experiments": str(past)}
            cells.append(Cell(BLEND, case, "blend: coverage", got["blend"], 0.95, runs, "at_least", 0.03))
            ratio, rule = got["rmse_ratio"], small if bias < 0.01 else "report"
            cells.append(Cell(BLEND, case, "blend: error / direct", ratio, 0.75, runs, rule, within=0.1))
            for name in ("tree", "inverse_variance", "plug_in"):
                what = f"{name.replace('_', ' ')}: coverage"
                cells.append(Cell(BLEND, case, what, got[name], 0.95, runs, "report"))
    return cells


def _truth(rng: np.random.Generator) -> tuple[float, float, float]:
    """Start, long run and time constant as E6 holds them for possible: its log-normal has 1.5 and 14 days as tenths."""
    middle, sd = np.log(1.5 * 14) / 2, np.log(14 / 1.5) / 2 / 1.2815515655446004
    constant = float(np.clip(np.exp(middle + sd * rng.standard_normal()), 1.5, 14))
    return 0.05 * rng.standard_normal(), 0.05 * rng.standard_normal(), constant


def _drawn(part: float) -> list[Cell]:
    rng, runs, covariance = np.random.default_rng([SEED, 6]), scaled(600, part, 60), test_persistence.noise()
    held = {"start": 0, "long run": 0}
    for _ in range(runs):
        start, long_run, constant = _truth(rng)
        effects = rng.multivariate_normal(test_persistence.course(start, long_run, constant), covariance)
        fit = persistence(effects, covariance, test_persistence.DAYS)
        for name, found, true in (("start", fit.start, start), ("long run", fit.long_run, long_run)):
            assert found is not None
            held[name] += found.lower <= true <= found.upper
    case = {"time constant": "drawn", "daily noise": "usual"}
    return [
        Cell(LASTING, case, f"{name}: coverage, 80 %", count / runs, 0.8, runs, slack=SLACK)
        for name, count in held.items()
    ]


def _fading_year(part: float) -> list[Cell]:
    rng, runs, covariance = np.random.default_rng([SEED, 7]), scaled(400, part, 60), test_persistence.noise()
    held = {False: list[bool](), True: list[bool]()}
    for seed in range(runs):
        start, long_run, constant = _truth(rng)
        effects = rng.multivariate_normal(test_persistence.course(start, long_run, constant), covariance)
        fit = persistence(effects, covariance, test_persistence.DAYS)
        rate, half_life = 0.9 * np.exp(0.35 * rng.standard_normal()), 104 * np.exp(0.7 * rng.standard_normal())
        weeks = np.arange(WEEKS) + 0.5
        effect = test_persistence.course(start, long_run, constant, 7 * weeks)
        gain = float((WEEKLY * np.expm1(rate * effect * 2 ** (-weeks / half_life))).sum())
        got = project(fading_effect(fit, weeks=WEEKS, seed=seed, draws=1000), baseline=WEEKLY, seed=seed)
        held[fit.transient].append(got.lower_80 <= gain <= got.upper_80)
    return [
        Cell(A_YEAR, {"effect": f"fading, {how}"}, "gain of a year: coverage", float(np.mean(each)), 0.8, len(each),
             slack=0.03 if transient else SLACK)
        for transient, how in ((False, "by its course"), (True, "by its long run alone"))
        if (each := held[transient])
    ]  # fmt: skip
