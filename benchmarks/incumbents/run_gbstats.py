"""gbstats on metrics x segments x variants, through the function GrowthBook calls; runs on gbstats' own Python.

Reads {"variants": V, "metrics": [[[{n, y, yy, x, xx, xy}, per variant], per segment], per metric]} from standard input:
units, sums, sums of squares and of products of a value y and its pre-period x.
"""

import json
import sys
import time
from importlib.metadata import version

from gbstats.gbstats import process_experiment_results

UNUSED = (
    "m0_denominator_sum",
    "m0_denominator_sum_squares",
    "m0_main_denominator_sum_product",
    "m0_denominator_pre_sum",
    "m0_denominator_pre_sum_squares",
    "m0_main_post_denominator_pre_sum_product",
    "m0_main_pre_denominator_post_sum_product",
    "m0_main_pre_denominator_pre_sum_product",
    "m0_denominator_post_denominator_pre_sum_product",
)


def request(metrics, variants):
    ids = [str(v) for v in range(variants)]
    settings, queries = {}, []
    for m, segments in enumerate(metrics):
        key = f"m{m}"
        settings[key] = {
            "id": key,
            "name": key,
            "statistic_type": "mean_ra",
            "main_metric_type": "count",
            "covariate_metric_type": "count",
        }
        rows = [
            {
                "dimension": f"s{s}",
                "variation": ids[v],
                "users": arm["n"],
                "count": arm["n"],
                "m0_id": key,
                "m0_main_sum": arm["y"],
                "m0_main_sum_squares": arm["yy"],
                "m0_covariate_sum": arm["x"],
                "m0_covariate_sum_squares": arm["xx"],
                "m0_main_covariate_sum_product": arm["xy"],
                **dict.fromkeys(UNUSED, 0),
            }
            for s, arms in enumerate(segments)
            for v, arm in enumerate(arms)
        ]
        queries.append({"rows": rows, "metrics": [key], "sql": ""})
    analysis = {
        "var_names": ids,
        "var_ids": ids,
        "weights": [1 / variants] * variants,
        "stats_engine": "frequentist",
        "difference_type": "relative",
        "max_dimensions": 1000,
    }
    if "num_goal_metrics" in settings_fields():
        analysis["num_goal_metrics"] = len(metrics)
    return {"metrics": settings, "analyses": [analysis], "query_results": queries}


def settings_fields():
    from gbstats.models.settings import AnalysisSettingsForStatsEngine

    return AnalysisSettingsForStatsEngine.__dataclass_fields__


def main():
    inputs = json.load(sys.stdin)
    metrics, variants = inputs["metrics"], inputs["variants"]
    process_experiment_results(request(metrics[:1], variants))
    data = request(metrics, variants)
    start = time.process_time()
    results = process_experiment_results(data)
    seconds = time.process_time() - start
    lifts = []
    for result in results:
        by_name = {d["dimension"]: d for d in result["analyses"][0]["dimensions"]}
        for s in range(len(metrics[0])):
            lifts.append([arm["expected"] for arm in by_name[f"s{s}"]["variations"][1:]])
    print(
        json.dumps(
            {
                "seconds": seconds,
                "lifts": lifts,
                "versions": f"gbstats {version('gbstats')}, numpy {version('numpy')}, pandas {version('pandas')}, "
                f"Python {sys.version.split()[0]}",
            }
        )
    )


main()
