"""What the frequentist engine costs, in one run on one core, against the arithmetic itself and against others.

    python benchmarks/frequentist.py [--metrics 1000] [--segments 5] [--incumbent-metrics 20]

us_per_comparison  from ready moments to estimate with one covariate (CUPED), difference with interval and p-value, lift
                   with interval, and Benjamini-Hochberg over the metrics of each segment and variant.
ratio_to_floor     that over the same formulas on bare arrays, without any care for data that break them. At most 3.
gbstats_ratio, tea_tasting_ratio
                   their time per comparison over ours, on the same moments, each in an environment of its own, and on
                   fewer metrics because they take milliseconds; null where that cannot be made. At least 1000.
us_single_call     one metric, two arms, `stats.single.compare`. At most 50.
segments_ratio     50 segments of every metric over 50 times the metrics without segments. At most 1.2.
memory_ratio       peak memory per cell at four times the cells over that at one. At most 1.2: memory is linear.
us_per_stored_row  ready moments through `experiments.evidence.build` to rows committed to SQLite. At most 30.

One core means that the process is pinned to it; nothing here calls a threaded library.
"""

import argparse
import json
import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special as sc

# The folder of a script comes first, and `warehouse` is also the name of a benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from incumbents.environment import Unavailable, measure
from results.stored_rows import seconds_per_row

from stats.difference import Differences, difference
from stats.estimate import MetricShape, estimate
from stats.lift import Lifts, lift
from stats.moments import Floats, Moments
from stats.multiplicity import adjusted
from stats.single import compare

SHAPES = (MetricShape("m", "mean", value=0, covariates=(1,)),)
VARIANTS = 3
LIMITS = {
    "ratio_to_floor": ("<=", 3),
    "gbstats_ratio": (">=", 1000),
    "tea_tasting_ratio": (">=", 1000),
    "us_single_call": ("<=", 50),
    "segments_ratio": ("<=", 1.2),
    "memory_ratio": ("<=", 1.2),
    "us_per_stored_row": ("<=", 30),
}


def ready_moments(metrics: int, segments: int, variants: int = VARIANTS, seed: int = 1) -> Moments:
    """Cells (metrics, segments, variants) of a value and its pre-period, with effects of about a percent."""
    rng = np.random.default_rng(seed)
    cells = (metrics, segments, variants)
    count = rng.integers(1000, 100_000, cells)
    mean = rng.uniform(1, 10, (metrics, 1, 1, 2)) * (1 + rng.normal(0, 0.01, (*cells, 2)))
    sd = mean * rng.uniform(0.5, 2.0, (metrics, 1, 1, 2))
    correlation = np.eye(2) + np.array([[0, 1], [1, 0]]) * rng.uniform(0.2, 0.8, cells)[..., None, None]
    covariance = correlation * sd[..., :, None] * sd[..., None, :]
    return Moments(count, mean, covariance * (count - 1)[..., None, None], np.zeros((*cells, 2)))


def engine(moments: Moments) -> tuple[Differences, Lifts, Floats]:
    """Everything that an analysis asks of these cells."""
    estimates = estimate(moments, SHAPES)
    absolute, relative = difference(estimates), lift(estimates)
    return absolute, relative, adjusted(np.moveaxis(absolute.p_value[..., 0], 0, -1), "benjamini_hochberg")


def bare_arrays(moments: Moments) -> dict[str, Floats]:
    """The same formulas (METHODS A1, A3, A7, A11) as one would type them for data that are never wrong."""
    n, m, c = moments.count, moments.mean, moments.comoment
    per = 1 / (n * (n - 1.0))
    yy, xy, xx = c[..., 0, 0] * per, c[..., 0, 1] * per, c[..., 1, 1] * per
    theta = (xy.sum(-1) / xx.sum(-1))[..., None]
    own = yy - 2 * theta * xy + theta**2 * xx
    change = m[..., 1:, 0] - m[..., :1, 0] - theta * (m[..., 1:, 1] - m[..., :1, 1])
    v_t, v_c = own[..., 1:], own[..., :1]
    total = v_t + v_c
    error = np.sqrt(total)
    df = total**2 / (v_t**2 / (n[..., 1:] - 1) + v_c**2 / (n[..., :1] - 1))
    p = 2 * sc.stdtr(df, -np.abs(change / error))
    log10_p = np.log10(p)
    half = sc.stdtrit(df, 0.975) * error
    base, v_base = m[..., :1, 0], yy[..., :1]
    relative = change / base
    covariance = -(yy - theta * xy)[..., :1]
    lift_variance = total + relative**2 * v_base - 2 * relative * covariance
    lift_error = np.sqrt(lift_variance)
    log_lift, wide = np.log1p(relative), sc.ndtri(0.975) * lift_error / (base + change)
    ranked = np.moveaxis(p, 0, -1)
    order = np.argsort(ranked, axis=-1)
    stepped = np.take_along_axis(ranked, order, -1) * (ranked.shape[-1] / np.arange(1, ranked.shape[-1] + 1))
    smallest = np.minimum(np.minimum.accumulate(stepped[..., ::-1], axis=-1)[..., ::-1], 1)
    corrected = np.empty_like(ranked)
    np.put_along_axis(corrected, order, smallest, -1)
    return {
        "value": change,
        "ci_lower": change - half,
        "ci_upper": change + half,
        "p_value": p,
        "log10_p": log10_p,
        "lift": relative,
        "lift_standard_error": lift_error / base,
        "lift_lower": np.expm1(log_lift - wide),
        "lift_upper": np.expm1(log_lift + wide),
        "corrected": corrected,
    }


def check_agreement(moments: Moments) -> None:
    """The floor is only one if it computes the same numbers."""
    absolute, relative, corrected = engine(moments)
    floor = bare_arrays(moments)
    pairs = {
        "value": absolute.value,
        "ci_lower": absolute.ci_lower,
        "ci_upper": absolute.ci_upper,
        "p_value": absolute.p_value,
        "log10_p": absolute.log10_p,
        "lift": relative.value,
        "lift_standard_error": relative.standard_error,
        "lift_lower": relative.ci_lower,
        "lift_upper": relative.ci_upper,
    }
    for name, ours in pairs.items():
        np.testing.assert_allclose(ours[..., 0], floor[name], rtol=1e-8, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(corrected, floor["corrected"], rtol=1e-8, err_msg="corrected")


def alternately(*works: Callable[[], object], rounds: int = 15) -> list[float]:
    """Best CPU seconds of each, taken in turns so that a busy moment of the machine hits all of them."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - start)
    return best


def single_call_seconds(calls: int = 2000) -> float:
    one = ready_moments(1, 1, 2)[0, 0]
    timings = alternately(lambda: [compare(one, SHAPES[0]) for _ in range(calls)], rounds=5)
    return timings[0] / calls


def peak_bytes_per_cell(metrics: int, segments: int) -> float:
    """Highest memory that one analysis holds at a time, its results included and the moments not."""
    moments = ready_moments(metrics, segments)
    tracemalloc.start()
    engine(moments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / moments.count.size


def sums(moments: Moments) -> dict[str, Any]:
    """The moments as the sums that others take."""
    n, m, c = moments.count, moments.mean, moments.comoment
    arrays = {
        "n": n,
        "y": n * m[..., 0],
        "x": n * m[..., 1],
        "yy": c[..., 0, 0] + n * m[..., 0] ** 2,
        "xx": c[..., 1, 1] + n * m[..., 1] ** 2,
        "xy": c[..., 0, 1] + n * m[..., 0] * m[..., 1],
    }
    lists = {name: array.tolist() for name, array in arrays.items()}
    metrics, segments, variants = n.shape
    rows = [
        [[{name: lists[name][i][s][v] for name in lists} for v in range(variants)] for s in range(segments)]
        for i in range(metrics)
    ]
    return {"variants": variants, "metrics": rows}


def incumbent(name: str, moments: Moments) -> tuple[float | None, str]:
    """Seconds per comparison of another engine, and its versions; None and the reason where it cannot run."""
    try:
        answer = measure(name, sums(moments))
    except Unavailable as why:
        return None, str(why)
    theirs = np.array(answer["lifts"], dtype=float).reshape(*moments.cells[:-1], -1)
    ours = lift(estimate(moments, SHAPES))
    apart = float(np.median(np.abs(theirs - ours.value[..., 0]) / ours.standard_error[..., 0]))
    note = f"{answer['versions']}; lifts differ by a median of {apart:.2g} standard errors"
    return answer["seconds"] / theirs.size, note


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--incumbent-metrics", type=int, default=20, help="0: do not run them")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    moments = ready_moments(arguments.metrics, arguments.segments)
    comparisons = moments.count.size * (VARIANTS - 1) // VARIANTS
    check_agreement(moments)
    print(f"{comparisons} comparisons, one core, Python {platform.python_version()}, numpy {np.__version__}")
    ours, floor = alternately(lambda: engine(moments), lambda: bare_arrays(moments))
    plain, many = ready_moments(arguments.metrics, 1), ready_moments(arguments.metrics, 50)
    alone, segmented = alternately(lambda: engine(plain), lambda: engine(many), rounds=7)
    found: dict[str, float | None] = {
        "us_per_comparison": ours / comparisons * 1e6,
        "us_per_comparison_floor": floor / comparisons * 1e6,
        "ratio_to_floor": ours / floor,
        "us_single_call": single_call_seconds() * 1e6,
        "segments_ratio": segmented / (50 * alone),
        "memory_bytes_per_cell": peak_bytes_per_cell(arguments.metrics, arguments.segments),
    }
    larger = peak_bytes_per_cell(4 * arguments.metrics, arguments.segments)
    found["memory_ratio"] = larger / (found["memory_bytes_per_cell"] or 1)
    notes: dict[str, str] = {}
    few = moments[: arguments.incumbent_metrics]
    for name in ("gbstats", "tea_tasting") if arguments.incumbent_metrics else ():
        seconds, notes[f"{name}_ratio"] = incumbent(name, few)
        found[f"{name}_us_per_comparison"] = None if seconds is None else seconds * 1e6
        found[f"{name}_ratio"] = None if seconds is None else seconds / (ours / comparisons)
    stored = seconds_per_row()
    found["us_per_stored_row"] = sum(stored.values()) * 1e6
    notes["us_per_stored_row"] = ", ".join(f"{step} {1e6 * seconds:.1f}" for step, seconds in stored.items())
    report(found, notes)


def report(found: dict[str, float | None], notes: dict[str, str]) -> None:
    for name, value in found.items():
        shown = "null" if value is None else f"{value:.4g}"
        limit = ""
        if name in LIMITS:
            sign, bound = LIMITS[name]
            met = value is not None and (value <= bound if sign == "<=" else value >= bound)
            limit = f"{sign} {bound}  {'ok' if met else 'MISSED' if value is not None else 'not measured'}"
        print(f"{name:28} {shown:>10}  {limit:18} {notes.get(name, '')}".rstrip())
    print(json.dumps({name: None if value is None else round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
