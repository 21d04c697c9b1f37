"""Make the two CSV files of this example again: a delivery service in twelve cities, and its help desk.

    python examples/launches/make_data.py

Same-day delivery began in three cities on 25 May; there it adds 6 % to orders (the truth). The new help centre went
live for everybody on 11 May and takes 10 % off the tickets. Cities share weekdays, seasons and the weather, each in its
own measure, and wander by themselves a little.
"""

import csv
import math
import random
from datetime import date, timedelta
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FIRST_DAY, DAYS = date(2026, 1, 5), 168
SAME_DAY, SAME_DAY_CITIES, MORE_ORDERS = date(2026, 5, 25), ("Aarhus", "Bergen", "Uppsala"), 0.06
HELP_CENTRE, FEWER_TICKETS = date(2026, 5, 11), 0.10
CITIES = {
    "Aarhus": 900,
    "Bergen": 780,
    "Copenhagen": 2400,
    "Gothenburg": 1500,
    "Helsinki": 1700,
    "Malmo": 850,
    "Oslo": 1900,
    "Stockholm": 2600,
    "Tampere": 620,
    "Trondheim": 560,
    "Turku": 540,
    "Uppsala": 680,
}
WEEK = (0.95, 0.93, 0.96, 1.0, 1.12, 1.1, 0.94)


def wandering(step: float, pull: float = 0.02) -> list[float]:
    """A path on the log scale that wanders, and is drawn back to zero a little."""
    path = [0.0]
    while len(path) < DAYS:
        path.append((1 - pull) * path[-1] + random.gauss(0, step))
    return path


def main(seed: int = 7) -> None:
    random.seed(seed)
    days = [FIRST_DAY + timedelta(days=day) for day in range(DAYS)]
    weather, season = wandering(0.012), [0.08 * math.sin(2 * math.pi * day / 120) for day in range(DAYS)]
    orders = []
    for city, size in CITIES.items():
        likes_weather, own = random.uniform(0.9, 1.1), wandering(0.001)
        for i, day in enumerate(days):
            lift = math.log1p(MORE_ORDERS) if city in SAME_DAY_CITIES and day >= SAME_DAY else 0.0
            log = likes_weather * weather[i] + season[i] + own[i] + random.gauss(0, 0.02) + lift
            orders.append((city, day, round(size * WEEK[day.weekday()] * math.exp(log))))
    desk = wandering(0.015)
    tickets = []
    for i, day in enumerate(days):
        lift = math.log1p(-FEWER_TICKETS) if day >= HELP_CENTRE else 0.0
        tickets.append(("", day, round(340 * WEEK[day.weekday()] * math.exp(desk[i] + random.gauss(0, 0.03) + lift))))
    write("orders.csv", orders)
    write("tickets.csv", tickets)


def write(name: str, rows: list[tuple[str, date, int]]) -> None:
    with (FOLDER / name).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("segment", "at", "value"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
