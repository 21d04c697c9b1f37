"""A14: does a test with the planned units, or at the smallest detectable effect, have the power that was promised?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.special as sc

from stats import always_valid
from stats.cluster_design import signal_with_clusters
from stats.difference import Differences, difference
from stats.equivalence import equivalence, non_inferiority
from stats.estimate import estimate
from stats.group_sequential import SpendingDesign, boundaries
from stats.metric_shape import MetricShape
from stats.moments import Bools, Moments
from stats.power import Design, equivalence_units, minimum_detectable_effect, non_inferiority_units
from tests.validation.cells import Cell, scaled, share
from tests.validation.sampling import cumulative, normal_moments

SEED = 20268
REPLICATIONS = 10_000
SLACK = 0.015
TABLE = "A14 power"
MEAN = [MetricShape("y", "mean", 0)]


def designs(part: float = 1.0) -> list[Cell]:
    cells = []
    for power in (0.8, 0.9):
        rng = np.random.default_rng([SEED, round(100 * power)])
        found = _fixed(rng, power, part) | _sequential(rng, power, part) | _margins(rng, power, part)
        for name, hits in found.items():
            case = {"design": name, "target": f"{power:.0%}"}
            cells.append(Cell(TABLE, case, "power", share(hits), power, len(hits), slack=SLACK))
    return cells


def _compare(
    rng: np.random.Generator, reps: int, treated: int, control: int, effect: float, rho: float = 0.0
) -> Differences:
    """Means of unit variance, with a covariate of correlation `rho` if that is not 0."""
    columns = 1 if rho == 0 else 2
    mean = np.zeros((2, columns))
    mean[1, 0] = effect
    covariance = np.array([[1.0, rho], [rho, 1.0]])[:columns, :columns]
    pair = normal_moments(rng, (reps, 2), [control, treated], mean, covariance)
    shape = MEAN if columns == 1 else [MetricShape("y", "mean", 0, covariates=(1,))]
    return difference(estimate(pair, shape))


def _fixed(rng: np.random.Generator, power: float, part: float) -> dict[str, Bools]:
    reps, units = scaled(REPLICATIONS, part), 2_000
    found: dict[str, Bools] = {}
    for split in (0.5, 0.2, 0.05):
        design = Design(power=power, treatment_share=split, control_share=1 - split)
        treated = round(units * split)
        for rho in (0.0, 0.7) if split == 0.5 else (0.0,):
            effect = float(minimum_detectable_effect(design, 1.0, units, rho**2))
            d = _compare(rng, reps, treated, units - treated, effect, rho)
            name = f"fixed, {split:.0%} treated" + (", CUPED" if rho else "")
            found[name] = (d.p_value < 0.05)[:, 0, 0]
    design = Design(power=power, comparisons=3)
    effect = float(minimum_detectable_effect(design, 1.0, units))
    found["fixed, Bonferroni over 3"] = (_compare(rng, reps, 1_000, 1_000, effect).p_value < 0.05 / 3)[:, 0, 0]
    for clusters in (12, 40):
        signal = float(signal_with_clusters(Design(power=power).critical, power, clusters))
        half = clusters // 2
        d = _compare(rng, reps, half, half, signal * np.sqrt(2 / half))
        found[f"fixed, {clusters} equal clusters"] = (d.p_value < 0.05)[:, 0, 0]
    return found


def _sequential(rng: np.random.Generator, power: float, part: float) -> dict[str, Bools]:
    """The always-valid design promises its power at the planned end alone; looks before add to it."""
    reps, looks, units = scaled(REPLICATIONS, part), 4, 2_000
    found: dict[str, Bools] = {}
    plans = {
        "always-valid, at the end": Design(power=power, monitoring="always_valid"),
        "O'Brien-Fleming, 4 looks": Design(power=power, monitoring="group_sequential"),
        "Pocock, 4 looks": Design(
            power=power, monitoring="group_sequential", spending=SpendingDesign(spending="pocock")
        ),
        "O'Brien-Fleming, binding futility": Design(
            power=power, monitoring="group_sequential", spending=SpendingDesign(futility="binding")
        ),
    }
    for name, design in plans.items():
        effect = float(minimum_detectable_effect(design, 1.0, units))
        mean = np.array([[0.0], [effect]])
        seen: Moments = cumulative(normal_moments(rng, (reps, looks, 2), units // looks // 2, mean, np.eye(1)))
        d = difference(estimate(seen, MEAN))
        z, n = (d.value / d.standard_error)[:, :, 0, 0], seen.count.sum(axis=-1)
        if design.monitoring == "always_valid":
            error = d.standard_error[:, -1, 0, 0]
            found[name] = always_valid.two_sided(d.value[:, -1, 0, 0], error**2, n[:, -1], units).p_value <= 0.05
            continue
        bounds = boundaries(design.sequential, design.sequential.planned)
        won = z >= bounds.upper
        lost = z < np.where(np.isnan(bounds.futility), -np.inf, bounds.futility)
        stopped = won | lost
        first = stopped.argmax(axis=1)
        found[name] = won[np.arange(reps), first] & stopped.any(axis=1)
    return found


def _margins(rng: np.random.Generator, power: float, part: float) -> dict[str, Bools]:
    reps = scaled(REPLICATIONS, part)
    one = Design(power=power, sides=1)
    found: dict[str, Bools] = {}
    for effect in (0.0, -0.03):
        arm = int(non_inferiority_units(one, 1.0, 0.1, effect).treatment)
        d = _compare(rng, reps, arm, arm, effect)
        p = non_inferiority(d.value, d.standard_error, d.df, 0.1)
        found[f"non-inferiority, true effect {effect:g}, margin 0.1"] = (p < 0.05)[:, 0, 0]
        arm = int(equivalence_units(replace(one), 1.0, 0.1, effect).treatment)
        d = _compare(rng, reps, arm, arm, effect)
        p = equivalence(d.value, d.standard_error, d.df, 0.1)
        found[f"equivalence, true effect {effect:g}, margin 0.1"] = (p < 0.05)[:, 0, 0]
    return found


def margins(part: float = 1.0) -> list[Cell]:
    """A10: a harm as large as the margin is declared safe in 5 %; "not significantly worse" declares it in most.

    Standard errors per margin 1, 2 and 3. Equivalence at the margin is a bound: both tests must reject.
    """
    cells = []
    reps = scaled(40_000, part, 1_000)
    table, units, margin = "A10 margins", 1_000, 0.1
    for number, size in enumerate((1, 2, 3, 6)):
        rng = np.random.default_rng([SEED, 10, number])
        sd = margin / size / np.sqrt(2 / units)
        mean = np.array([[1.0], [1.0 - margin]])
        pair = normal_moments(rng, (reps, 2), units, mean, np.array([[sd**2]]))
        d = difference(estimate(pair, MEAN))
        case = {"harm": "equal to the margin", "margin / se": str(size)}
        safe = non_inferiority(d.value, d.standard_error, d.df, margin) < 0.05
        same = equivalence(d.value, d.standard_error, d.df, margin) < 0.05
        not_worse = ~((d.p_value < 0.05) & (d.value < 0))
        expected = float(sc.ndtr(sc.ndtri(0.975) - size))
        cells += [
            Cell(table, case, "non-inferiority test says safe", share(safe), 0.05, reps, slack=0.004),
            Cell(table, case, "equivalence test says the same", share(same), 0.05, reps, "at_most", slack=0.004),
            Cell(table, case, '"not significantly worse" says safe', share(not_worse), expected, reps, slack=0.004),
        ]
    return cells
