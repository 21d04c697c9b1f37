"""Rollouts of known effect over segments whose outcomes have levels of their own, common shocks and lasting noise."""

import numpy as np
import polars as pl

from stats.launch.contract import Panel
from stats.moments import Floats
from tests.shared_data import shared_path

NOISE = 0.03


def rollout(
    rng: np.random.Generator,
    *,
    units: int = 30,
    treated: int = 9,
    periods: int = 40,
    starts: tuple[int, ...] = (20, 24, 28),
    effect: float = 0.0,
    growth: float = 0.0,
    differing: float = 0.0,
    persistence: float = 0.6,
    drift: float = 0.0,
    louder: float = 1.0,
    uneven: float = 0.0,
    anticipated: float = 0.0,
    announced: int = 0,
    noise: float = NOISE,
) -> tuple[Panel, Floats]:
    """A panel and the true effects of its cells (N, T). The first `treated` units launch at `starts` in turn.

    `effect` differs between units by `differing` of itself and grows by `growth` per period. Noise is autoregressive,
    with a random walk of `drift`, and `louder` in treated units. `uneven` is the standard deviation of log sizes. Units
    react by `anticipated` in the 3 periods before their launch; `announced` of them are excluded.
    """
    shocks = rng.standard_normal((units, periods))
    error = np.empty_like(shocks)
    error[:, 0] = shocks[:, 0]
    for t in range(1, periods):
        error[:, t] = persistence * error[:, t - 1] + np.sqrt(1 - persistence**2) * shocks[:, t]
    error = noise * error + drift * np.cumsum(rng.standard_normal((units, periods)), axis=1)
    error[:treated] *= louder
    first = np.full(units, periods)
    first[:treated] = np.resize(starts, treated)
    since = np.arange(periods)[None, :] - first[:, None]
    own_launch = np.arange(units)[:, None] < treated
    coverage = (since >= 0).astype(np.float64)
    own = effect * (1 + differing * rng.standard_normal((units, 1)))
    true = coverage * (own + growth * np.maximum(since, 0))
    common = rng.standard_normal((units, 1)) + np.cumsum(0.02 * rng.standard_normal(periods))
    y = common + error + true + anticipated * ((since < 0) & (since >= -3) & own_launch)
    size = np.exp(uneven * rng.standard_normal(units))
    names = tuple(f"segment {place}" for place in range(units))
    excluded = (since < 0) & (since >= -announced) & own_launch
    return Panel(names, y, coverage, excluded, size / size.sum()), true


def average(panel: Panel, true: Floats) -> float:
    """The size-weighted mean of true effects over treated cells."""
    share = panel.weight[:, None] * (panel.coverage > 0)
    return float((share * true).sum() / share.sum())


def waves(before: Floats, after: Floats, treated: np.ndarray) -> Panel:
    """Units seen once before and once after, `treated` (N,) with the launch in between, all counting alike."""
    y = np.column_stack([before, after])
    coverage = np.column_stack([np.zeros(len(y)), np.asarray(treated, dtype=np.float64)])
    names = tuple(str(place) for place in range(len(y)))
    return Panel(names, y, coverage, np.zeros(y.shape, dtype=np.bool_), np.full(len(y), 1 / len(y)))


def fast_food() -> Panel:
    """Full-time equivalents of 410 restaurants around New Jersey's minimum wage of 1992 (Card & Krueger 1994)."""
    rows = pl.read_csv(shared_path("data", "quasi", "card_krueger_fastfood_full.csv"), infer_schema=False)

    def staff(wave: str) -> Floats:
        full, managers, part = (
            rows[name + wave].cast(pl.Float64, strict=False).to_numpy() for name in ("empft", "nmgrs", "emppt")
        )
        return np.asarray(full + managers + 0.5 * part, dtype=np.float64)

    return waves(staff(""), staff("2"), rows["state"].to_numpy() == "1")


def full_time_share() -> Panel:
    """The share of full-time staff in 358 of those restaurants (Imai 2017, "Quantitative Social Science", ch. 2)."""
    rows = pl.read_csv(shared_path("data", "quasi", "card_krueger_minwage_qss.csv"))

    def share(wave: str) -> Floats:
        full, part = (rows[name + wave].cast(pl.Float64).to_numpy() for name in ("full", "part"))
        return np.asarray(full / (full + part), dtype=np.float64)

    return waves(share("Before"), share("After"), rows["location"].to_numpy() != "PA")
