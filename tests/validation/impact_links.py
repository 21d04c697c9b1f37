"""E9: what a move in an input has been worth in the North Star, when both are measured on the same people.

True slope 0.3; the two metrics of one person correlate by 0.8, which says nothing of effects.
"""

from __future__ import annotations

import numpy as np

from stats.company.listening.definitions import SAVES
from stats.company.listening.trials import SLOPE
from stats.programme.links import link, moment_slope, naive_slope
from tests.listening_plans import links_plan
from tests.stats.test_links import TRUE_SLOPE, history
from tests.validation.cells import Cell, scaled
from tests.validation.impact_screens import company_of

SEED = 20406
TABLE, SCREEN = "E9 slopes", "E9 links of whole companies"
SLACK, SLACK_WHERE_WEAK = 0.02, 0.1
NAIVE = {0.5: 0.50, 2.0: 0.68}
"""METHODS E9, whatever the number of experiments."""


def slopes(part: float = 1.0) -> list[Cell]:
    """Errors have "noise" times the variance of true effects. The raw scatter leans to the people's correlation,
    whatever the number of experiments; moments are right in the middle and noisy, so that they are judged by their
    median. The interval that Northlift shows must hold the slope. Where errors have twice the variance of effects its
    priors are felt even with 200 experiments: it is drawn towards no link, and its 80 % intervals hold this slope in
    two thirds to eight tenths of histories (the slack is 0.1 there); in whole companies, below, they hold what they
    say.
    """
    cells = []
    for noise, wrong in NAIVE.items():
        slack = SLACK if noise < 1 else SLACK_WHERE_WEAK
        for experiments in (60, 200):
            runs = scaled(160 if experiments == 60 else 60, part, 12)
            raw, moments, held = [], [], {0.8: 0, 0.95: 0}
            middle = []
            for child in np.random.SeedSequence([SEED, experiments, int(10 * noise)]).spawn(runs):
                estimate, covariance = history(np.random.default_rng(child), experiments, noise)
                raw.append(naive_slope(estimate) or 0.0)
                moments.append(moment_slope(estimate, covariance)[0])
                found = link(estimate, covariance).slope
                assert found is not None
                held[0.8] += found.lower_80 <= TRUE_SLOPE <= found.upper_80
                held[0.95] += found.lower_95 <= TRUE_SLOPE <= found.upper_95
                middle.append(found.median)
            known = np.array([each for each in moments if each is not None])
            low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
            case = {"noise": f"{noise:g}", "experiments": str(experiments)}
            # The median of noisy moments, by their own quartiles.
            reach = float(3 * 1.2533 * (high - low) / 1.349 / np.sqrt(runs)) + 0.01
            raw_reach = 3 * float(np.std(raw) / np.sqrt(runs)) + 0.015
            cells += [
                Cell(TABLE, case, "raw scatter: slope", float(np.mean(raw)), wrong, runs, within=raw_reach),
                Cell(TABLE, case, "moments: slope, median", float(median), TRUE_SLOPE, runs, within=reach),
                Cell(TABLE, case, "link: slope, mean", float(np.mean(middle)), TRUE_SLOPE, runs, "report"),
                Cell(TABLE, case, "link: coverage, 80 %", held[0.8] / runs, 0.8, runs, "at_least", slack),
                Cell(TABLE, case, "link: coverage, 95 %", held[0.95] / runs, 0.95, runs, "at_least", slack / 2),
            ]
    return cells


def companies(part: float = 1.0) -> list[Cell]:
    """The listening companies of the screens: what songs saved are worth in hours, learned from their 57 experiments,
    with errors of experiments' own sizes, a gamed input and pairs that were in each other's way.
    """
    runs = scaled(160, part, 8)
    held, raw, middle = {0.8: 0, 0.95: 0}, [], []
    for seed in range(SEED, SEED + runs):
        plan = links_plan(company_of(seed), (SAVES,))
        estimate = np.array([effect.log_lifts for effect in plan.effects])
        covariance = np.array([effect.covariance for effect in plan.effects])
        found = link(estimate, covariance)
        assert found.slope is not None
        held[0.8] += found.slope.lower_80 <= SLOPE <= found.slope.upper_80
        held[0.95] += found.slope.lower_95 <= SLOPE <= found.slope.upper_95
        raw.append(found.naive_slope or 0.0)
        middle.append(found.slope.median)
    case = {"input": "songs saved"}
    return [
        Cell(SCREEN, case, "link: coverage, 80 %", held[0.8] / runs, 0.8, runs, "at_least", 0.02),
        Cell(SCREEN, case, "link: coverage, 95 %", held[0.95] / runs, 0.95, runs, "at_least", 0.01),
        Cell(SCREEN, case, "link: slope, mean", float(np.mean(middle)), SLOPE, runs, "report"),
        Cell(SCREEN, case, "raw scatter: slope", float(np.mean(raw)), SLOPE, runs, "report"),
    ]
