"""D7: launches of every kind through the whole chain, from the recorded plan and the series to the printed answer.

Daily series of twelve segments, 98 days before the launch and 14 after it: a common level that walks, a week, and
AR(1) noise of each segment (standard deviation 1.5 %, correlation 0.3 unless another is named). Northlift chooses the
design, leaves out what it suspects, estimates, runs placebos and grades; nothing is told to it but the plan. "interval"
is the printed one of the leading estimate. Where the assumptions of a design hold, it must hold the truth in 95 % of
launches; where they do not, the grade must say so: METHODS I1 asks for coverage of 0.90, or a lower grade.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.definitions import Confounder
from experiments.plan import LaunchPlan
from experiments.result import MeasuredLaunch
from experiments.series_table import SeriesTable
from stats.moments import Floats
from tests.experiments.launch_cases import at, lead, measured, measurement, plan_of, series, step, table
from tests.validation.cells import Cell, scaled
from tests.validation.intervals import Intervals

SEED = 20306
GRADES, INTERVALS, BY_GRADE = "D7 grades given", "D7 printed intervals", "D7 printed intervals by grade"
SEGMENTS = ("at", "be", "ch", "de", "dk", "es", "fr", "it", "nl", "no", "pl", "se")
LAUNCH, DAYS = 98, 112
EFFECT, NOISE, RHO = 0.05, 0.015, 0.3
LASTING = 0.6
LETTERS = "ABCDU"
WHOLE = measurement(series(dimension=""))


@dataclass(frozen=True, slots=True)
class Launch:
    """A plan with its series, and what the launch really did, on the log scale."""

    plan: LaunchPlan
    tables: Mapping[str, SeriesTable]
    truth: float

    def measured(self) -> MeasuredLaunch:
        return measured(self.plan, self.tables, DAYS)


type Story = Callable[[np.random.Generator], Launch]


def logs(rng: np.random.Generator, *, drift: float = 0.0, rho: float = RHO) -> Floats:
    """(N, T) logarithms of outcomes without any launch; `drift` is the step of each segment's own walk."""
    segments = len(SEGMENTS)
    shock = rng.standard_normal((segments, DAYS))
    noise = np.empty_like(shock)
    noise[:, 0] = shock[:, 0]
    for t in range(1, DAYS):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * shock[:, t]
    common = np.cumsum(0.004 * rng.standard_normal(DAYS)) + 0.05 * np.sin(2 * np.pi * np.arange(DAYS) / 7)
    own = np.cumsum(drift * rng.standard_normal((segments, DAYS)), axis=1)
    size = np.log(rng.uniform(500, 2_000, (segments, 1)))
    return np.asarray(size + common + own + NOISE * noise)


def since(day: int, segments: slice | int) -> Floats:
    """(N, T) 1 from a day on in some segments."""
    path = np.zeros((len(SEGMENTS), DAYS))
    path[segments, day:] = 1.0
    return path


def by_segment(y: Floats) -> SeriesTable:
    return table(np.exp(y), SEGMENTS)


def in_total(y: Floats) -> SeriesTable:
    return table(np.exp(y).sum(axis=0, keepdims=True), [""])


def at_once(effect: float, *, drift: float = 0.0, rho: float = RHO) -> Story:
    """Everybody has it from the same day on; the level of all walks by `drift` a day on top of what it does anyway."""

    def story(rng: np.random.Generator) -> Launch:
        walk = np.cumsum(drift * rng.standard_normal(DAYS))
        tables = {"revenue": in_total(logs(rng, rho=rho) + walk + effect * since(LAUNCH, slice(None)))}
        return Launch(plan_of(step(LAUNCH, 1, "all_at_once"), measured=WHOLE), tables, effect)

    return story


def one_segment(
    *,
    effect: float = EFFECT,
    drift: float = 0.0,
    rho: float = RHO,
    parting: float = 0.0,
    reached: float = 0.0,
    early: int = 0,
    announced: bool = False,
    something_else: float = 0.0,
) -> Story:
    """Germany alone has the launch.

    It parts from the others by `parting` a day, two others have `reached` of the effect, people react `early` days
    before it, and `something_else` moved Germany on the same day, as is on record.
    """

    def story(rng: np.random.Generator) -> Launch:
        own = SEGMENTS.index("de")
        y = logs(rng, drift=drift, rho=rho) + effect * since(LAUNCH - early, own) + something_else * since(LAUNCH, own)
        y[own] += parting * np.arange(DAYS)
        y[:2] += reached * effect * since(LAUNCH, slice(0, 2))[:2]
        plan = plan_of(
            step(LAUNCH, 1, segments=["de"]),
            announced_at=at(LAUNCH - early) if announced else None,
            confounders=[Confounder(name="a campaign", began_at=at(LAUNCH), segments=["de"])] if something_else else [],
        )
        return Launch(plan, {"revenue": by_segment(y)}, effect)

    return story


def in_waves(mechanism: str) -> Story:
    """Three segments have it for four weeks, three more for eighteen days, six never."""

    def story(rng: np.random.Generator) -> Launch:
        y = logs(rng) + EFFECT * (since(LAUNCH - 14, slice(0, 3)) + since(LAUNCH - 4, slice(3, 6)))
        steps = (
            step(LAUNCH - 14, 1, mechanism, segments=SEGMENTS[:3]),
            step(LAUNCH - 4, 1, mechanism, segments=SEGMENTS[3:6]),
        )
        return Launch(plan_of(*steps), {"revenue": by_segment(y)}, EFFECT)

    return story


def controlled(rng: np.random.Generator) -> Launch:
    """One outcome for everybody, and two other series that it shares a level and a week with."""
    y = logs(rng)
    outcome = y[:1] + EFFECT * since(LAUNCH, 0)[:1]
    asked = measurement(series(dimension=""), controls=[series("other", ""), series("third", "")])
    tables = {"revenue": in_total(outcome), "other": in_total(y[1:2]), "third": in_total(y[2:3])}
    return Launch(plan_of(step(LAUNCH, 1, "all_at_once"), measured=asked), tables, EFFECT)


def switched(rng: np.random.Generator) -> Launch:
    """28 blocks of two days, half of them on."""
    states = rng.permutation(np.repeat([1.0, 0.0], 14))
    path = np.append(np.zeros(DAYS - 56), np.repeat(states, 2))
    steps = [step(DAYS - 56 + 2 * number, float(state), "random") for number, state in enumerate(states)]
    return Launch(plan_of(*steps, measured=WHOLE), {"revenue": in_total(logs(rng) + EFFECT * path)}, EFFECT)


def in_stages(lost: float = 0.0) -> Story:
    """Half of 8,000 users after a tenth of them; `lost` is the share of those with the launch that is not counted."""

    def story(rng: np.random.Generator) -> Launch:
        place, habit = rng.random(8_000), rng.gamma(4.0, 0.25, 8_000)
        n, total, variance = (np.full((2, DAYS), np.nan) for _ in range(3))
        for day, coverage in ((LAUNCH - 7, 0.1), (LAUNCH, 0.5)):
            counted = rng.random(8_000) >= lost * (place < coverage)
            for row, arm in enumerate((place < coverage, place >= coverage)):
                y = rng.poisson(5 * habit * np.where(place < coverage, np.exp(EFFECT), 1.0))[arm & counted]
                n[row, day], total[row, day], variance[row, day] = y.size, y.sum(), y.var(ddof=1)
        steps = step(LAUNCH - 7, 0.1, "random"), step(LAUNCH, 0.5, "random"), step(LAUNCH + 7, 1, "random")
        sent = SeriesTable(("on", "off"), tuple(at(t) for t in range(DAYS)), total, n, variance)
        return Launch(plan_of(*steps, measured=measurement(series(dimension="arm"))), {"revenue": sent}, EFFECT)

    return story


SOUND: dict[str, Story] = {
    "everybody at once, AR(1) 0.6, no effect": at_once(0.0, rho=LASTING),
    "everybody at once, drift, no effect": at_once(0.0, drift=0.006),
    "everybody at once, drift": at_once(EFFECT, drift=0.006),
    "one segment of 12": one_segment(),
    "one segment of 12, no effect": one_segment(effect=0.0),
    "one segment of 12, AR(1) 0.6": one_segment(rho=LASTING),
    "one segment of 12, all drift": one_segment(drift=0.006),
    "one segment of 12, announced a week before": one_segment(early=7, announced=True),
    "six segments in two waves": in_waves("ordered"),
    "six segments in two waves, by lot": in_waves("random"),
    "two other series that are untouched": controlled,
    "switched on and off by lot": switched,
    "in stages by lot": in_stages(),
}
SPOILED: dict[str, Story] = {
    "its trend parts by 0.03 % a day": one_segment(parting=0.0003),
    "its trend parts by 0.1 % a day": one_segment(parting=0.001),
    "its trend parts by 0.3 % a day": one_segment(parting=0.003),
    "two donors have half the effect": one_segment(reached=0.5),
    "two donors have the whole effect": one_segment(reached=1.0),
    "people react a week before, not on record": one_segment(early=7),
    "a campaign of 5 % on the same day, on record": one_segment(something_else=0.05),
    "in stages, 15 % of units with it are lost": in_stages(lost=0.15),
}


def sound(part: float = 1.0, names: Sequence[str] = tuple(SOUND)) -> list[Cell]:
    """What is as it should be: intervals hold the truth, and the grade is mostly that of the design. Good comparisons
    are graded down where a test of trends fails, which it does in one of twenty, where few placebos find too much by
    chance, and often where gaps between a segment and its donors last (correlation 0.6, drift): caution that costs a
    letter, not the truth.
    """
    cells = []
    by_letter: dict[str, Intervals] = defaultdict(Intervals)
    for number, name in enumerate(SOUND):
        if name not in names:
            continue
        case, said, letters = {"launch": name}, Intervals(), []
        for launch, document in _documents(SOUND[name], [SEED, 0, number], scaled(40, part, 2)):
            letters.append(document.grade.grade)
            if document.grade.grade != "U":
                _add(said, launch.truth, document)
                _add(by_letter[document.grade.grade], launch.truth, document)
        cells += _grades(case, letters)
        cells += [
            said.coverage(INTERVALS, case, "interval", "at_least", 0.0),
            said.width(INTERVALS, case, "interval"),
        ]
    for letter, said in sorted(by_letter.items()):
        case = {"grade": letter}
        cells += [
            said.coverage(BY_GRADE, case, "interval", "at_least", 0.0),
            said.width(BY_GRADE, case, "interval"),
        ]
    return cells


def spoiled(part: float = 1.0, names: Sequence[str] = tuple(SPOILED)) -> list[Cell]:
    """What is not as it should be: how often the grade falls, and how often the interval misses although it does not,
    which may be in one of ten launches. Trends that part are seen unless they part slowly, and units that are lost;
    donors that were reached are found by a test of their own and left out. A campaign that began on the same day
    cannot be told from the launch: the number is that of both, and the grade says what it is worth.
    """
    cells = []
    for number, name in enumerate(SPOILED):
        if name not in names:
            continue
        case, said, letters, deceived = {"launch": name}, Intervals(), [], []
        for launch, document in _documents(SPOILED[name], [SEED, 1, number], scaled(40, part, 2)):
            letter = document.grade.grade
            letters.append(letter)
            if letter != "U":
                _add(said, launch.truth, document)
            deceived.append(letter in "ABC" and not said.held[-1])
        cells += _grades(case, letters)
        if said.made:
            cells += [
                said.coverage(INTERVALS, case, "interval", "report", 0.0),
                said.bias(INTERVALS, case, "interval", "report"),
            ]
        share = float(np.mean(deceived))
        cells.append(Cell(INTERVALS, case, "misses with C or better", share, 0.1, len(deceived), "at_most", 0.0))
    return cells


def _documents(story: Story, seed: list[int], replications: int) -> list[tuple[Launch, MeasuredLaunch]]:
    launches = [story(np.random.default_rng([*seed, replication])) for replication in range(replications)]
    return [(launch, launch.measured()) for launch in launches]


def _add(said: Intervals, truth: float, document: MeasuredLaunch) -> None:
    row = lead(document)
    assert row.log_effect is not None and row.ci_lower is not None and row.ci_upper is not None
    said.add(truth, row.log_effect, float(np.log1p(row.ci_lower)), float(np.log1p(row.ci_upper)))


def _grades(case: dict[str, str], letters: list[str]) -> list[Cell]:
    return [
        Cell(GRADES, case, f"grade {letter}", letters.count(letter) / len(letters), 0.0, len(letters), "report")
        for letter in LETTERS
        if letter in letters
    ]
