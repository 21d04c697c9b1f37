"""Do tests reject 5 % of true nulls, do 95 % intervals of the lift cover? Estimators A1 to A4, A7 and A8 on I1's grid.

Size is that of the difference under no effect (a 95 % interval of the difference covers in the other cases), coverage
that of the interval of a lift of 10 % which every unit has. Replications share units between splits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stats.difference import difference
from stats.estimate import Estimates, estimate
from stats.lift import lift
from stats.metric_shape import MetricShape
from stats.moments import Bools, Floats, Ints, Moments
from stats.proportion import refine_small_counts
from stats.skewness import difference_skewness, ratio_skewness, too_skewed
from stats.stratification import estimate_stratified
from tests.validation.cells import Cell, Rule, scaled, share
from tests.validation.populations import POPULATIONS, SIZES, Population, label, splits_of
from tests.validation.sampling import arms, blocks, gathered, joined, scaled_treatment

SEED = 20261
LIFT = 0.1
LEVEL = 0.95
CORRELATION = 0.7
SHARES, FACTORS = (0.4, 0.3, 0.2, 0.1), (0.5, 1.0, 1.5, 2.5)


def _cells(
    table: str,
    case: dict[str, str],
    null: Estimates,
    effect: Estimates,
    warned: Bools,
    skewness: float | None,
) -> list[Cell]:
    d = difference(null, LEVEL)
    up = lift(effect, LEVEL, difference(effect, LEVEL).df)
    made = d.estimable[:, 0, 0]
    p, t = d.p_value[:, 0, 0], d.value[:, 0, 0]
    reps = int(made.sum())
    cells = [
        Cell(
            table,
            case,
            "size",
            share(p[made] < 1 - LEVEL),
            1 - LEVEL,
            reps,
            warned=share(warned[made]),
            skewness=skewness,
            extra={"below": share((p < 0.05)[made] & (t[made] < 0)), "above": share((p < 0.05)[made] & (t[made] > 0))},
        )
    ]
    there = up.estimable[:, 0, 0]
    if there.mean() >= 0.05:
        low, high = up.ci_lower[there, 0, 0], up.ci_upper[there, 0, 0]
        refused = 1 - share(there)
        cells.append(
            Cell(
                table,
                case,
                "lift coverage",
                share((low <= LIFT) & (high >= LIFT)),
                LEVEL,
                int(there.sum()),
                warned=share(warned[there]),
                skewness=skewness,
                extra={"refused": refused, "fieller": share(up.interval_kind[there, 0, 0] == "fieller")},
            )
        )
    return cells


def _skewed(pair: Moments, shapes: Sequence[MetricShape]) -> Bools:
    known = np.fmax(difference_skewness(pair, shapes), ratio_skewness(pair, shapes))
    return np.asarray(too_skewed(known)[:, 0, 0])


def _replications(n: int, part: float, most: tuple[int, int, int]) -> int:
    return scaled(most[SIZES.index(n)], part)


def _rng(population: Population, n: int, table: int) -> np.random.Generator:
    return np.random.default_rng([SEED, table, POPULATIONS.index(population), n])


def means(part: float = 1.0, sizes: Sequence[int] = SIZES) -> list[Cell]:
    """A1 and A3 on means of everything that is not 0/1."""
    shapes, cells = [MetricShape("y", "mean", 0)], []
    for population in (p for p in POPULATIONS if not p.name.startswith("Bernoulli")):
        for n in sizes:
            rng, bounds = _rng(population, n, 1), (*splits_of(n), n)

            def draw(r: int) -> list[Floats]:
                z = rng.standard_normal((r, n))  # noqa: B023 -- used before the next turn
                w = rng.standard_normal((r, n)) if population.name == "zero-inflated" else z  # noqa: B023
                return [population.transform(z, w)]  # noqa: B023

            segments = gathered(_replications(n, part, (10_000, 10_000, 2_500)), n, bounds, [population.mean], draw)
            for s, treated in enumerate(splits_of(n), 1):
                pair = arms(segments, s)
                case = {"population": population.name, **label(n, treated)}
                effect = estimate(scaled_treatment(pair, [1 + LIFT]), shapes)
                gamma = population.skewness_of_difference(treated, n - treated)
                cells += _cells("A1, A3 means", case, estimate(pair, shapes), effect, _skewed(pair, shapes), gamma)
    return cells


def proportions(part: float = 1.0, sizes: Sequence[int] = SIZES) -> list[Cell]:
    """A2: Welch where counts are large; Newcombe's interval and exact or score p-values where one is below 10.

    Tests of small counts may reject less than 5 %, never more: their sizes are bounds. Each pair of counts is
    evaluated once.
    """
    shapes, cells = [MetricShape("y", "proportion", 0)], []
    for number, p in enumerate((0.5, 0.05, 0.01, 0.001)):
        for n in sizes:
            for treated in splits_of(n):
                rng = np.random.default_rng([SEED, 2, number, n, treated])
                reps = scaled(10_000, part)
                counts = np.array([n - treated, treated])
                hits = rng.binomial(counts, p, (reps, 2))
                tables, which = np.unique(hits, axis=0, return_inverse=True)
                pair = _binary(tables, counts)
                found = estimate(pair, shapes)
                plain = difference(found, LEVEL)
                refined, small = refine_small_counts(plain, pair, shapes, LEVEL)
                fine = refined.estimable[which, 0, 0]
                few = small[which, 0, 0]
                skewed = _skewed(pair, shapes)[which]
                gamma = (1 - 2 * p) / np.sqrt(p * (1 - p)) * (treated**-2 - (n - treated) ** -2)
                gamma /= (1 / treated + 1 / (n - treated)) ** 1.5
                rejected = np.where(fine, refined.p_value[which, 0, 0] < 1 - LEVEL, False)
                covered = np.where(
                    fine, (refined.ci_lower[which, 0, 0] <= 0) & (refined.ci_upper[which, 0, 0] >= 0), True
                )
                case = {"population": f"Bernoulli {p:g}", **label(n, treated)}
                warned = share(skewed | ~fine)
                mostly_exact = share(few) > 0.01
                kind: Rule = "at_most" if mostly_exact else "equal"
                # Where small counts are exact the skewness of the difference does not matter.
                skewness = None if mostly_exact else float(gamma)
                extra = {"small counts": share(few)}
                cells.append(
                    Cell(
                        "A2 proportions",
                        case,
                        "size",
                        share(rejected),
                        0.05,
                        reps,
                        kind,
                        warned=warned,
                        skewness=skewness,
                        extra=extra,
                    )
                )
                cells.append(
                    Cell(
                        "A2 proportions",
                        case,
                        "coverage",
                        share(covered),
                        LEVEL,
                        reps,
                        "at_least" if mostly_exact else "equal",
                        warned=warned,
                        skewness=skewness,
                        extra=extra,
                    )
                )
    return cells


def _binary(hits: Ints, counts: Ints) -> Moments:
    """Moments of 0/1 columns with so many ones, (r, V) of (V,) units."""
    p = hits / counts
    return Moments(
        np.broadcast_to(counts, hits.shape).copy(),
        p[..., None],
        (counts * p * (1 - p))[..., None, None],
        (counts * p * (1 - p) * (1 - 2 * p))[..., None],
    )


def ratios(part: float = 1.0, sizes: Sequence[int] = SIZES) -> list[Cell]:
    """A4: value per session, of users with 1 to 5 sessions whose average value is a draw from the population."""
    shapes, cells = [MetricShape("r", "ratio", 0, 1)], []
    for population in POPULATIONS:
        for n in sizes:
            rng, bounds = _rng(population, n, 4), (*splits_of(n), n)

            def draw(r: int) -> list[Floats]:
                z, w = rng.standard_normal((2, r, n))  # noqa: B023
                sessions = rng.integers(1, 6, (r, n)).astype(np.float64)  # noqa: B023
                return [population.transform(z, w) * sessions, sessions]  # noqa: B023

            segments = gathered(
                _replications(n, part, (10_000, 4_000, 1_000)), n, bounds, [3 * population.mean, 3.0], draw
            )
            # The influence of a user is sessions times the deviation of its value: E d^3 over (E d^2)^1.5.
            third, second = population.third * 45.0, population.variance * 11.0
            for s, treated in enumerate(splits_of(n), 1):
                pair = arms(segments, s)
                inverse = (1 / treated**2 - 1 / (n - treated) ** 2) / (1 / treated + 1 / (n - treated)) ** 1.5
                case = {"population": population.name, **label(n, treated)}
                effect = estimate(scaled_treatment(pair, [1 + LIFT, 1.0]), shapes)
                cells += _cells(
                    "A4 ratios",
                    case,
                    estimate(pair, shapes),
                    effect,
                    _skewed(pair, shapes),
                    third / second**1.5 * inverse,
                )
    return cells


def adjusted_means(part: float = 1.0, sizes: Sequence[int] = SIZES) -> list[Cell]:
    """A7: means adjusted by the unit's own pre-period value, correlated 0.7 before the transform."""
    shapes, cells = [MetricShape("y", "mean", 0, covariates=(1,))], []
    mix = np.sqrt(1 - CORRELATION**2)
    for population in POPULATIONS:
        for n in sizes:
            rng, bounds = _rng(population, n, 7), (*splits_of(n), n)

            def draw(r: int) -> list[Floats]:
                z, w, u, v = rng.standard_normal((4, r, n))  # noqa: B023
                after = population.transform(CORRELATION * z + mix * u, CORRELATION * w + mix * v)  # noqa: B023
                return [after, population.transform(z, w)]  # noqa: B023

            segments = gathered(_replications(n, part, (10_000, 4_000, 600)), n, bounds, [population.mean] * 2, draw)
            for s, treated in enumerate(splits_of(n), 1):
                pair = arms(segments, s)
                case = {"population": population.name, **label(n, treated)}
                effect = estimate(scaled_treatment(pair, [1 + LIFT, 1.0]), shapes)
                gamma = population.skewness_of_difference(treated, n - treated)
                cells += _cells("A7 adjusted means", case, estimate(pair, shapes), effect, _skewed(pair, shapes), gamma)
    return cells


def stratified_means(part: float = 1.0, sizes: Sequence[int] = SIZES) -> list[Cell]:
    """A8: four strata of random sizes whose values differ by factors from 0.5 to 2.5."""
    shapes, cells = [MetricShape("y", "mean", 0)], []
    w = np.array(SHARES)
    factors = np.array(FACTORS)
    for population in POPULATIONS:
        raw = [population.mean, population.variance + population.mean**2]
        raw.append(population.third + 3 * population.mean * raw[1] - 2 * population.mean**3)
        m1, m2, m3 = (float(w @ factors ** (k + 1)) * raw[k] for k in range(3))
        mixed = Population("", population.transform, m1, m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3)
        for n in sizes:
            rng, bounds = _rng(population, n, 8), (*splits_of(n), n)
            position = np.searchsorted(bounds, np.arange(n), side="right")
            parts = []
            for r in blocks(_replications(n, part, (5_000, 2_000, 400)), n):
                stratum = np.searchsorted(np.cumsum(w)[:-1], rng.random((r, n)))
                values = population.transform(*rng.standard_normal((2, r, n))) * factors[stratum]
                cell = (np.arange(r)[:, None] * len(bounds) + position) * len(w) + stratum
                parts.append(Moments.from_rows(values.reshape(-1, 1), cell.ravel(), (r, len(bounds), len(w))))
            segments = joined(parts)
            for s, treated in enumerate(splits_of(n), 1):
                pair = arms(segments, s)
                by_stratum = Moments(
                    *(np.swapaxes(getattr(pair, f), 1, 2) for f in ("count", "mean", "comoment", "third"))
                )
                case = {"population": population.name, **label(n, treated)}
                effect = estimate_stratified(scaled_treatment(by_stratum, [1 + LIFT]), shapes)
                whole = by_stratum.merge_axis(1)
                gamma = mixed.skewness_of_difference(treated, n - treated)
                cells += _cells(
                    "A8 stratified means",
                    case,
                    estimate_stratified(by_stratum, shapes),
                    effect,
                    _skewed(whole, shapes),
                    gamma,
                )
    return cells
