"""The process that samples answers without importing what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import json, sys
from workers.models.quick_start import load_when_used
for name in ("numpy.f2py", "numpy.ma", "numpy.testing", "scipy.special"):
    load_when_used(name)
import numpy as np
import scipy.special as sc
import stats.bayes.models.catalog
from stats.bayes.diagnostics import diagnose
from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.prior import Prior
BetaBinomialQuestion(np.full(3, 1e4), np.array([900.0, 950.0, 990.0]), Prior.default()).data()
diagnose({"x": np.random.default_rng(1).standard_normal((4, 500))}, 0)
names = ("scipy.linalg", "numpy.ma.core", "numpy.f2py.crackfortran", "pymc", "numba")
heavy = [name for name in names if name in sys.modules]
used = [float(sc.ndtr(0.0)), np.ma.array([1.0, 2.0], mask=[0, 1]).sum(), type(sc).__name__, names[0] in sys.modules]
print(json.dumps([heavy, used]))
"""


def test_what_is_not_used_is_not_imported_and_what_is_used_is_all_there() -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == [[], [0.5, 1.0, "module", True]]
