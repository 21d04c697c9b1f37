"""Posterior intervals on synthetic companies whose true lifts are written down, under the default and learned priors.

Every company goes from data to documents as in `tests.system.company_coverage`.

    python -m pytest -m simulation -s tests/system/test_bayesian_company.py
"""

import os
import sys
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from stats.bayes.normal import posterior
from stats.bayes.population import FEWEST_EXPERIMENTS, population
from stats.company import generate
from tests.system.company_coverage import BROKEN, LEVEL, START, Cell, coverage, documents, experiments_of, true_lifts

COMPANIES = int(os.environ.get("NORTHLIFT_COMPANIES", "10"))
USERS = 20_000


@dataclass(frozen=True, slots=True)
class Past:
    """The best measured variant of an experiment that has ended, on the log scale, and what is true of it."""

    experiment_key: str
    variant_key: str
    log_lift: float
    standard_error: float
    truth: float


def company_cells(number: int) -> dict[str, list[Cell]]:
    """Cells of one company: HDIs of its documents (`default`), and of ended experiments under what the others teach."""
    company = generate(START.date(), seed=1000 + number, users=USERS)
    truth = true_lifts(company)
    records = [r for r in experiments_of(company) if r.spec["key"] != BROKEN and r.spec.get("purpose") != "aa"]
    ended = {record.spec["key"] for record in records if record.ended_at is not None}
    found: dict[str, list[Cell]] = {"default": [], "interval": [], "learned": []}
    past: dict[str, dict[str, Past]] = defaultdict(dict)
    for document in documents(company, records):
        key = document["experiment_key"]
        for row in document["rows"]:
            if row["segment"] is not None or row["hdi_lower"] is None or row["ci_lower"] is None:
                continue
            true = truth[key, row["variant_key"], row["metric_key"]]
            names = (number, key, row["variant_key"], row["metric_key"], true)
            found["default"].append(Cell(*names, row["posterior_lift"], row["hdi_lower"], row["hdi_upper"]))
            found["interval"].append(Cell(*names, row["lift"], row["ci_lower"], row["ci_upper"]))
            error = row["standard_error"] / (1 + row["lift"])
            known = past[row["metric_key"]].get(key)
            if key in ended and (known is None or error < known.standard_error):
                past[row["metric_key"]][key] = Past(key, row["variant_key"], np.log1p(row["lift"]), error, true)
    for metric, effects in past.items():
        if len(effects) <= FEWEST_EXPERIMENTS:
            continue
        taught = population([e.log_lift for e in effects.values()], [e.standard_error for e in effects.values()])
        for position, effect in enumerate(effects.values()):
            belief = posterior(
                np.array([effect.log_lift]),
                np.array([effect.standard_error]),
                taught.prior_without(position, metric),
                level=LEVEL,
            )
            numbers = (float(belief.lift[0]), float(belief.hdi_lower[0]), float(belief.hdi_upper[0]))
            found["learned"].append(
                Cell(number, effect.experiment_key, effect.variant_key, metric, effect.truth, *numbers)
            )
    return found


def squared_error(cells: list[Cell]) -> float:
    return float(np.mean([(np.log1p(cell.lift) - np.log1p(cell.truth)) ** 2 for cell in cells]))


@pytest.mark.simulation
@pytest.mark.timeout(3600)
def test_posterior_intervals_hold_the_truth_of_companies() -> None:
    """Default priors are narrower than some effects that these companies have; learned ones know better."""
    cells: dict[str, list[Cell]] = defaultdict(list)
    for number in range(COMPANIES):
        for name, found in company_cells(number).items():
            cells[name] += found
        told = ", ".join(f"{name} {coverage(found)[0]:.2%} of {len(found)}" for name, found in cells.items())
        sys.stdout.write(f"{number + 1} companies: {told}\n")
    best = {(c.company, c.experiment_key, c.variant_key, c.metric_key) for c in cells["learned"]}
    for name in ("default", "interval"):
        cells[f"{name}, same effects"] = [
            c for c in cells[name] if (c.company, c.experiment_key, c.variant_key, c.metric_key) in best
        ]
    for name, found in cells.items():
        share, error = coverage(found)
        width = np.mean([np.log1p(c.upper) - np.log1p(c.lower) for c in found])
        sys.stdout.write(
            f"{name}: {share:.2%} ± {error:.2%} of {len(found)}, width {width:.4f}, mse {squared_error(found):.3g}\n"
        )
    # Some effects of these companies are four times as large as the default prior expects, and it hides part of them.
    # Learned priors have seen such effects, though each has to do without the one that it is judged by.
    learned, error = coverage(cells["learned"])
    assert learned > LEVEL - 0.02 - 3 * error
    assert learned > coverage(cells["default, same effects"])[0]
    assert squared_error(cells["learned"]) < squared_error(cells["interval, same effects"])
