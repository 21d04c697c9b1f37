"""tea-tasting on metrics x segments x variants, from aggregates; runs in an environment of its own.

Reads the same inputs as `run_gbstats`. The aggregates are made before the clock starts.
"""

import json
import sys
import time
from importlib.metadata import version

import tea_tasting
from tea_tasting.aggr import Aggregates


def aggregates(arm):
    n = arm["n"]
    x, y = arm["x"] / n, arm["y"] / n
    return Aggregates(
        count_=n,
        mean_={"x": x, "y": y},
        var_={"x": (arm["xx"] - n * x * x) / (n - 1), "y": (arm["yy"] - n * y * y) / (n - 1)},
        cov_={("x", "y"): (arm["xy"] - n * x * y) / (n - 1)},
    )


def analyse(experiments):
    """Every treatment against control in every segment, then Benjamini-Hochberg over metrics, as their guide does."""
    metric = tea_tasting.Experiment(y=tea_tasting.Mean("y", "x"))
    results = {
        (m, s, v): metric.analyze({0: arms[0], 1: arms[v]}, control=0)
        for m, segments in enumerate(experiments)
        for s, arms in enumerate(segments)
        for v in range(1, len(arms))
    }
    for s, v in sorted({key[1:] for key in results}):
        tea_tasting.adjust_fdr({key[0]: found for key, found in results.items() if key[1:] == (s, v)})
    return results


def main():
    inputs = json.load(sys.stdin)
    experiments = [[[aggregates(arm) for arm in arms] for arms in segments] for segments in inputs["metrics"]]
    analyse(experiments[:1])
    start = time.process_time()
    results = analyse(experiments)
    seconds = time.process_time() - start
    variants = inputs["variants"]
    lifts = [
        [results[m, s, v]["y"].rel_effect_size for v in range(1, variants)]
        for m in range(len(experiments))
        for s in range(len(experiments[0]))
    ]
    versions = f"tea-tasting {version('tea-tasting')}, numpy {version('numpy')}, Python {sys.version.split()[0]}"
    print(json.dumps({"seconds": seconds, "lifts": lifts, "versions": versions}))


main()
