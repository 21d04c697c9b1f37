"""Make the tour's two CSV files again: 1,500 users of a small shop, half of them with one-page checkout.

    python examples/tour/make_data.py

Everybody has sessions and some order. From their first exposure on, users with the new checkout order more often per
session (true lift 20 %) and visit as often as before, so orders per user rise by 20 % as well.
"""

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
STARTED_AT = datetime(2026, 6, 1, tzinfo=UTC)
USERS, DAYS_BEFORE, DAYS_AFTER = 1500, 14, 7
ORDERS_PER_SESSION, LIFT = 0.25, 0.20


def main(seed: int = 2026) -> None:
    random.seed(seed)
    exposures, events = [], []
    for number in range(USERS):
        user = f"u{number:04d}"
        variant = random.choice(("control", "one_page"))
        exposed_at = STARTED_AT + timedelta(minutes=random.randrange(7 * 24 * 60))
        country = random.choice(("DE", "FR", "IT"))
        exposures.append(("one_page_checkout", user, variant, exposed_at.isoformat(), country))
        sessions_per_day = random.gammavariate(2.0, 0.12)
        for day in range(-DAYS_BEFORE, DAYS_AFTER):
            if random.random() > sessions_per_day:
                continue
            at = exposed_at + timedelta(days=day, minutes=random.randrange(1, 24 * 60))
            events.append(("session", user, at.isoformat(), ""))
            lifted = LIFT if variant == "one_page" and day >= 0 else 0.0
            if random.random() < ORDERS_PER_SESSION * (1 + lifted):
                value = round(random.lognormvariate(3.4, 0.5), 2)
                events.append(("order", user, (at + timedelta(minutes=5)).isoformat(), value))
    write("exposures.csv", ("experiment_key", "unit_id", "variant_key", "exposed_at", "segment_country"), exposures)
    write("events.csv", ("event", "unit_id", "occurred_at", "value"), sorted(events, key=lambda row: row[2]))


def write(name: str, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with (FOLDER / name).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
