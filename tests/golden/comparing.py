"""What a golden case compares: a quantity of theirs with ours, equal or different for a reason that is written down."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from tests.shared_data import golden, golden_cases

EQUAL = 1e-8


@dataclass(frozen=True)
class Same:
    """Ours is theirs, to `rtol` relative."""

    quantity: str
    theirs: ArrayLike
    ours: ArrayLike
    rtol: float = EQUAL

    def check(self) -> None:
        np.testing.assert_allclose(self.ours, self.theirs, rtol=self.rtol, atol=1e-15, err_msg=self.quantity)


@dataclass(frozen=True)
class Differs:
    """Ours is `defined` (our definition worked out another way), and `apart` from theirs.

    The gap is the largest relative difference; that of the two ends of an interval is in parts of its width.
    """

    quantity: str
    theirs: ArrayLike
    ours: ArrayLike
    defined: ArrayLike
    apart: float
    why: str
    rtol: float = EQUAL

    @property
    def gap(self) -> float:
        ours, theirs = np.asarray(self.ours, dtype=float), np.asarray(self.theirs, dtype=float)
        size = theirs[1] - theirs[0] if theirs.shape == (2,) else np.abs(theirs)
        return float(np.max(np.abs(ours - theirs) / size))

    def check(self) -> None:
        np.testing.assert_allclose(self.ours, self.defined, rtol=self.rtol, atol=1e-15, err_msg=self.quantity)
        assert 0.9 * self.apart <= self.gap <= 1.1 * self.apart, (self.quantity, self.gap)


@dataclass(frozen=True)
class Behaves:
    """They answer with `theirs`, we with the code `ours`, which must be `expected`."""

    quantity: str
    theirs: str
    ours: str
    expected: str
    why: str

    def check(self) -> None:
        assert self.ours == self.expected, self.quantity


Comparison = Same | Differs | Behaves
Case = dict[str, Any]
Check = Callable[[Case], Iterable[Comparison]]


@dataclass
class Cases:
    """All cases of one source: what is compared, and what belongs elsewhere."""

    source: str
    elsewhere: dict[str, str]
    checks: dict[str, Check] = field(default_factory=dict)

    def compares(self, *names: str) -> Callable[[Check], Check]:
        """Register a function for cases by name."""

        def register(check: Check) -> Check:
            assert not self.checks.keys() & set(names), names
            self.checks.update(dict.fromkeys(names, check))
            return check

        return register

    def run(self, name: str) -> list[Comparison]:
        return list(self.checks[name](golden(self.source, name)))

    def check(self, name: str) -> None:
        comparisons = self.run(name)
        assert comparisons, f"{name} compares nothing"
        for comparison in comparisons:
            comparison.check()

    def check_complete(self) -> None:
        """Every case is compared, or named with the reason why not; none is in both or in neither."""
        names = [case["name"] for case in golden_cases(self.source)]
        assert len(set(names)) == len(names)
        assert not self.checks.keys() & self.elsewhere.keys()
        assert set(names) == self.checks.keys() | self.elsewhere.keys()


def normal_quantile(level: float = 0.95) -> float:
    return float(sc.ndtri(0.5 + level / 2))


def log_delta(t: float, c: float, v_t: float, v_c: float, covariance: float = 0.0, level: float = 0.95) -> list[float]:
    """A3 by hand: ends of the lift from the log of the ratio, `covariance` that of the two means."""
    error = np.sqrt(v_t / t**2 + v_c / c**2 - 2 * covariance / (t * c))
    ends = np.log(t / c) + np.array([-1, 1]) * normal_quantile(level) * error
    return [float(end) for end in np.expm1(ends)]


def fieller(t: float, c: float, v_t: float, v_c: float, level: float = 0.95) -> list[float]:
    """A3 by hand: the ratios t / c that a normal test does not reject, as lifts with the sign of the difference."""
    z = normal_quantile(level)
    roots = np.roots([c**2 - z**2 * v_c, -2 * t * c, t**2 - z**2 * v_t]).real
    return sorted(float(np.sign(c) * (root - 1)) for root in roots)
