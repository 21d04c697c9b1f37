"""When processes are killed: at moments of every order of magnitude, so that machines of any speed are hit at work."""

import math
import random


def moment_of_death(chance: random.Random, longest: float) -> float:
    """Seconds from 2 ms to `longest`, uniform on the log scale."""
    return math.exp(chance.uniform(math.log(0.002), math.log(longest)))
