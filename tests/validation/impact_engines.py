"""F6: two engines, one posterior. Importance sampling over the scalars, and the written-out density by NUTS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stats.bayes.models.fit import fit
from stats.bayes.models.ledger import LedgerQuestion, ledger_fit
from stats.bayes.sampling.compiled import compile_program
from stats.bayes.sampling.contract import Sampling
from stats.ledger import collapsed
from tests.bayes.stories.ledger import PRIORS, make_ledger
from tests.bayes.test_ledger_sampled import SCALES, quantities
from tests.validation.cells import Cell

SEED = 20407
TABLE = "F6 engines"
PATIENT = Sampling(patience_seconds=300.0)
COMPANIES = ((False, 4.0), (True, 4.0), (False, np.inf), (True, np.inf))
CHANCES = (0.05, 0.5, 0.95)
ALLOWED = 0.02
"""METHODS F6 lets quantiles differ by Monte-Carlo error; from seed to seed importance sampling is a little coarser."""
ALLOWED_SCALES = 0.05


def engines(part: float = 1.0) -> list[Cell]:
    """Four companies of 60 experiments, with and without a holdout, effects t4 and normal. Where the 5 %, 50 % and 95 %
    quantiles of the one engine lie among the draws of the other: by quantity the largest distance, beyond which lie
    Monte-Carlo errors of both. Tails of scales are allowed 0.05: importance sampling puts the 5 % quantile of the
    level's steps now where NUTS has 3 %, now where it has 10 %. R is how many independent draws both are worth.
    """
    cells = []
    for number, (holdout, nu) in enumerate(COMPANIES[: max(1, round(len(COMPANIES) * part))]):
        priors = replace(PRIORS, nu=nu)
        data, _ = make_ledger(np.random.default_rng(SEED + number), holdout=holdout, priors=priors)
        found = fit(LedgerQuestion(data, priors), compile_program, PATIENT, seed=SEED + number)
        assert found.status == "ok" and found.diagnostics is not None, found.reason
        sampled = quantities(ledger_fit(found, data, priors, SEED + number))
        quick = collapsed.fit(data, priors, seed=SEED + number)
        case = {"holdout": "yes" if holdout else "no", "effects": "normal" if nu == np.inf else "t4"}
        size = 1 / (1 / quick.diagnostics["ess"] + 2 / found.diagnostics.ess_bulk)
        for name, draws in quantities(quick).items():
            # The distance at which each of the three would be three standard errors off, in its own errors.
            below = np.array([(sampled[name] <= np.quantile(draws, chance)).mean() for chance in CHANCES])
            error = np.sqrt(np.array(CHANCES) * (1 - np.array(CHANCES)) / size)
            worst = int(np.argmax(np.abs(below - CHANCES) / error))
            allowed = ALLOWED_SCALES if name in SCALES else ALLOWED
            cells.append(
                Cell(
                    TABLE, case, f"{name}: chance of its {CHANCES[worst]:.0%} quantile", float(below[worst]),
                    CHANCES[worst], round(size), within=3 * float(error[worst]) + allowed,
                )
            )  # fmt: skip
        count = float(found.diagnostics.divergences)
        cells.append(Cell(TABLE, case, "divergences", count, 0.0, round(size), "at_most", within=0.0))
    return cells
