"""Make the weekly values of the sales throughput example again: a team that calls more, in good weeks and in bad.

    python examples/north_stars/make_data.py

Half a year of touchpoints and of growth of the pipeline, in thousands of euros. In a few weeks more was lost than won.
"""

import csv
import random
from datetime import date, timedelta
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FIRST_WEEK, WEEKS = date(2026, 1, 5), 26


def main() -> None:
    draw = random.Random(4)
    touchpoints = [round(400 + 4 * week + draw.gauss(0, 25)) for week in range(WEEKS)]
    growth = [round(40 + draw.gauss(0, 35), 1) for _ in range(WEEKS)]
    throughput = [round(a / b, 3) for a, b in zip(touchpoints, growth, strict=True)]
    for name, values in (("touchpoints", touchpoints), ("pipeline_growth", growth), ("sales_throughput", throughput)):
        with (FOLDER / f"{name}_by_week.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("at", "value"))
            writer.writerows((FIRST_WEEK + timedelta(weeks=week), value) for week, value in enumerate(values))


if __name__ == "__main__":
    main()
