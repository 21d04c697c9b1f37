"""When processes are killed: at moments of every order of magnitude, so that machines of any speed are hit at work."""

import math
import random

SHORTEST = 0.002


def moment_of_death(chance: random.Random, longest: float) -> float:
    """Seconds from 2 ms to `longest`, uniform on the log scale."""
    return math.exp(chance.uniform(math.log(SHORTEST), math.log(longest)))


class Moments:
    """Moments of death, shorter ones after one that came too late: however fast the machine is, most are in time."""

    def __init__(self, chance: random.Random, longest: float) -> None:
        self._chance, self._most = chance, longest
        self._longest = longest
        self.killed = 0

    def another(self) -> float:
        return moment_of_death(self._chance, self._longest)

    def came(self, moment: float, *, in_time: bool) -> None:
        """Whether something was hit at that moment, or was over."""
        if in_time:
            self.killed += 1
            self._longest = min(self._most, 1.1 * self._longest)
        else:
            self._longest = max(2 * SHORTEST, moment / 1.5)
