"""A measured launch as its page shows it. Pure: documents never change."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from app.charts.launch_forest import donors_chart, drawn_donors, goes_on, methods_forest
from app.charts.launch_periods import (
    MOST_NUMBERED,
    LaunchEvent,
    coverage_chart,
    cut_bands,
    drawn,
    gap_chart,
    path_chart,
)
from app.charts.launch_trust import (
    MOST_PLACEBOS,
    EventPicture,
    drawn_events,
    event_chart,
    event_picture,
    parting_chart,
    placebo_chart,
)
from app.charts.numbers import Tone, digits_for, percent
from app.charts.theme import Spec
from app.pages import formats, launch_words
from app.pages.launch_stages import Stage, by_arm, reach_of, stages_of, time_since
from app.pages.rollout_words import step_words
from app.pages.words import titled
from experiments.definitions import LaunchSpec
from experiments.result import EventPoint, LaunchEstimate, LaunchResult, MeasuredLaunch, PeriodPoint, Placebos

MOST_ROWS: Final = 400
FEWEST_PERIODS: Final = 3
"""With fewer there is no course over time to draw."""
FAR_APART: Final = 10
"""Times that trends may part as they never did before; more than that tells nothing more."""


@dataclass(frozen=True, slots=True)
class LaunchAnswer:
    """The answer in words: `bold` only where the grade lets a finding be said aloud.

    `kind`: `measured`, `believed` (grade U: the number is a prior) or `nothing`.
    """

    kind: Literal["measured", "believed", "nothing"]
    sentence: str
    tone: Tone
    bold: bool
    natural: Sequence[str]
    """The same in units of the series."""


@dataclass(frozen=True, slots=True)
class PlaceboPicture:
    placebos: Placebos
    chart: Spec
    summary: str


@dataclass(frozen=True, slots=True)
class MeasuredView:
    """One measurement of a launch. Pictures are None where the document has nothing to draw."""

    measured: MeasuredLaunch
    answer: LaunchAnswer
    lead: LaunchEstimate | None
    grade_sentence: str
    grade_reasons: Sequence[str]
    grade_remedies: Sequence[str]
    since: str
    stages: Sequence[Stage]
    stage_reach: float
    events: Sequence[LaunchEvent]
    path: Spec | None
    effect: Spec | None
    cut_bands: int
    """Periods whose band reaches beyond the picture of effects."""
    adds_up: bool
    cumulative: Spec | None
    coverage: Spec | None
    hidden_periods: int
    rows: Sequence[PeriodPoint]
    """The newest periods, for those who cannot see the pictures."""
    estimates: Sequence[LaunchEstimate]
    """Those that could be made, the leading one first, without the prior."""
    methods: Spec | None
    goes_on: bool
    """Whether an interval reaches beyond the picture of methods."""
    impossible: Sequence[LaunchEstimate]
    placebos: Sequence[PlaceboPicture]
    event_study: Spec | None
    event_sentence: str
    event_rows: Sequence[EventPoint]
    trend_sentence: str
    parting: Spec | None
    parting_sentence: str
    donors: Spec | None
    hidden_donors: int
    suspects: Sequence[str]


@dataclass(frozen=True, slots=True)
class LaunchView:
    """All measurements of a document by name, and the one that is shown."""

    document: LaunchResult
    choices: Sequence[tuple[str, str]]
    """(series key, series name)"""
    chosen: str
    shown: MeasuredView | None


@lru_cache(maxsize=64)
def stored_launch_view(result_id: str, body: bytes, spec: str, series_key: str, averages: frozenset[str]) -> LaunchView:
    """The view of a stored result, which never changes; drawing it takes a while. `spec` is the launch's JSON."""
    document, parsed = LaunchResult.model_validate_json(body), LaunchSpec.model_validate_json(spec)
    return launch_view(document, parsed, series_key=series_key, averages=averages)


def launch_view(
    document: LaunchResult, spec: LaunchSpec, *, series_key: str = "", averages: Collection[str] = ()
) -> LaunchView:
    """The measurement on a series; the primary one where there is none of that key.

    `averages` are series whose values do not add up over time: their effects are not either.
    """
    by_key = {item.series_key: item for item in document.measurements}
    item = by_key.get(series_key) or next(iter(document.measurements), None)
    return LaunchView(
        document=document,
        choices=[(other.series_key, other.series_name) for other in document.measurements],
        chosen=item.series_key if item else "",
        shown=measured_view(item, spec, adds_up=item.series_key not in averages) if item else None,
    )


def measured_view(item: MeasuredLaunch, spec: LaunchSpec, *, adds_up: bool = True) -> MeasuredView:
    """Everything that the page shows of one measurement."""
    lead = lead_of(item)
    adds_up = adds_up and not by_arm(item)
    said = answer(item, lead, spec.name, adds_up=adds_up)
    events = marked(events_of(spec))
    per = launch_words.PER_GRAIN[item.grain]
    unit = f", {item.unit}" if item.unit else ""
    stages = stages_of(item, spec, lead)
    timed = not stages and len(item.periods) >= FEWEST_PERIODS
    has_gap = timed and any(point.effect is not None for point in item.periods)
    study = event_picture(item.event_study)
    shown_donors = drawn_donors(item.donors)
    measured = [other for other in ordered(item.estimates) if other.lift is not None and other.method != "prior"]
    return MeasuredView(
        measured=item,
        answer=said,
        lead=lead,
        grade_sentence="" if said.kind == "nothing" else launch_words.grade_sentence(item.grade),
        grade_reasons=launch_words.grade_reasons(item.grade),
        grade_remedies=launch_words.grade_remedies(item.grade),
        since=time_since(item, spec),
        stages=stages,
        stage_reach=reach_of(stages),
        events=events,
        path=path_chart(item, events) if timed and any(point.actual is not None for point in item.periods) else None,
        effect=gap_chart(item, events, "effect", title=f"Effect {per}{unit}") if has_gap else None,
        cut_bands=cut_bands(item) if has_gap else 0,
        adds_up=adds_up,
        cumulative=gap_chart(item, events, "cumulative", title=f"Added up{unit}")
        if timed and adds_up and any(point.cumulative is not None for point in item.periods)
        else None,
        coverage=coverage_chart(item, events) if timed and any(point.coverage > 0 for point in item.periods) else None,
        hidden_periods=len(item.periods) - len(drawn(item)),
        rows=item.periods[-MOST_ROWS:][::-1],
        estimates=measured,
        methods=methods_forest(measured, launch_words.SHORT_METHODS, tone=said.tone, series_name=item.series_name)
        if measured
        else None,
        goes_on=goes_on(measured),
        impossible=[estimate for estimate in item.estimates if estimate.lift is None],
        placebos=[_placebos(found, item) for found in item.placebos if found.runs],
        event_study=event_chart(study, grain=item.grain, series_name=item.series_name) if study.values else None,
        event_sentence=event_sentence(study, item.grain),
        event_rows=drawn_events(item.event_study),
        trend_sentence=trend_sentence(item),
        parting=parting_chart(item.sensitivity, series_name=item.series_name)
        if item.sensitivity is not None and item.sensitivity.points
        else None,
        parting_sentence=parting_sentence(item),
        donors=donors_chart(item.donors, lift=lead.lift if lead else None, series_name=item.series_name)
        if shown_donors
        else None,
        hidden_donors=len(item.donors) - len(shown_donors),
        suspects=[donor.segment or "the series" for donor in item.donors if donor.suspect],
    )


def lead_of(item: MeasuredLaunch) -> LaunchEstimate | None:
    """The estimate of the method that was chosen before the data were seen."""
    return next((estimate for estimate in item.estimates if estimate.leads), None)


def ordered(estimates: Sequence[LaunchEstimate]) -> list[LaunchEstimate]:
    """The leading estimate first."""
    return sorted(estimates, key=lambda estimate: not estimate.leads)


def answer(
    item: MeasuredLaunch, lead: LaunchEstimate | None, launch_name: str, *, adds_up: bool = True
) -> LaunchAnswer:
    """The answer in one sentence with its uncertainty, and how loud it may be said."""
    if lead is None or lead.lift is None or lead.ci_lower is None or lead.ci_upper is None:
        because = launch_words.reason(lead.reason if lead else None)
        return LaunchAnswer(
            "nothing", f"What it did to {item.series_name} could not be measured. {because}", "neutral", False, ()
        )
    digits = digits_for(lead.ci_upper - lead.ci_lower)
    ends = f"{percent(lead.ci_lower, digits)} and {percent(lead.ci_upper, digits)}"
    if item.grade.grade == "U" or lead.method == "prior":
        because = f" {launch_words.reason(lead.reason)}" if lead.reason else ""
        usual = f"Launches like this one usually bring something between {ends}"
        whence = " ".join(launch_words.note(code) for code in lead.notes)
        said = f"Not measured on {item.series_name}.{because} {usual} ({formats.share(item.level)} of the belief)."
        return LaunchAnswer("believed", f"{said} {whence}".strip(), "neutral", False, ())
    tone = tone_of(item, lead)
    partly = any(0 < point.coverage < 1 for point in item.periods)
    reached = " for those who have it" if by_arm(item) else " at full coverage" if partly else ""
    size = percent(abs(lead.lift), digits).lstrip("+")
    if lead.ci_lower > 0 or lead.ci_upper < 0:
        moved = "rose" if lead.lift > 0 else "fell"
        verb = f"seems to have {'risen' if lead.lift > 0 else 'fallen'}" if item.grade.grade == "D" else moved
        sentence = f"{item.series_name} {verb} by {size}{reached}, somewhere between {ends}"
    else:
        sentence = (
            f"Whether {launch_name} moved {item.series_name} cannot be told: "
            f"{percent(lead.lift, digits)}{reached}, somewhere between {ends}"
        )
    said = f"{sentence} ({formats.share(item.level)} interval)."
    return LaunchAnswer("measured", said, tone, item.grade.grade in "ABC", natural(item, lead, adds_up=adds_up))


def tone_of(item: MeasuredLaunch, lead: LaunchEstimate | None) -> Tone:
    """`good` or `bad` in the sense of the series, only where the interval excludes zero and the grade is A, B or C."""
    if lead is None or lead.ci_lower is None or lead.ci_upper is None or item.grade.grade not in "ABC":
        return "neutral"
    if lead.ci_lower <= 0 <= lead.ci_upper:
        return "neutral"
    return "good" if (lead.ci_lower > 0) == (item.direction == "increase") else "bad"


def natural(item: MeasuredLaunch, lead: LaunchEstimate, *, adds_up: bool) -> list[str]:
    """The effect in units of the series: a period's, and all since the launch where values add up."""
    unit = f" {item.unit}" if item.unit else ""
    said: list[str] = []
    if lead.difference is not None and lead.difference_lower is not None:
        ends = formats.differences(lead.difference_lower, lead.difference_upper)
        each = "for each of them" if by_arm(item) else launch_words.PER_GRAIN[item.grain]
        said.append(f"{formats.gain(lead.difference)}{unit} {each} ({ends})")
    if adds_up and lead.cumulative is not None and lead.cumulative_lower is not None:
        ends = formats.differences(lead.cumulative_lower, lead.cumulative_upper)
        since = formats.plural(item.periods_after, item.grain)
        said.append(f"{formats.gain(lead.cumulative)}{unit} in {since} ({ends})")
    return said


def events_of(spec: LaunchSpec) -> list[LaunchEvent]:
    """What happened, in order of time: the announcement, the steps, and what else there was."""
    found = [LaunchEvent(0, step.at, "step", step_words(step)) for step in spec.rollout]
    if spec.announced_at is not None:
        found.append(LaunchEvent(0, spec.announced_at, "announced", "Announced"))
    found += [
        LaunchEvent(0, other.began_at, "other", other.name) for other in spec.confounders if other.began_at is not None
    ]
    return sorted(found, key=lambda event: event.at)


def marked(events: Sequence[LaunchEvent]) -> list[LaunchEvent]:
    """Events with their numbers. Of many steps only the first is marked: the strip of coverage shows them all."""
    steps = [event for event in events if event.kind == "step"]
    chosen = list(events)
    if len(events) > MOST_NUMBERED and len(steps) > 1:
        said = f"The first of {formats.plural(len(steps), 'step')}; the others are below"
        rest = [event for event in events if event.kind != "step"]
        chosen = sorted([replace(steps[0], text=said), *rest], key=lambda event: event.at)
    return [replace(event, number=number) for number, event in enumerate(chosen, start=1)]


def event_sentence(picture: EventPicture, grain: str) -> str:
    """What the picture of times around the launch cuts or leaves out."""
    said = []
    if picture.cut:
        said.append(f"Bars or bands of {formats.plural(picture.cut, grain)} reach beyond the picture.")
    if picture.bare:
        said.append(f"{formats.plural(picture.bare, grain)} have ones that are too wide to draw.")
    return " ".join(said)


def trend_sentence(item: MeasuredLaunch) -> str:
    """Whether those with the launch and those without ran side by side before it."""
    found = item.pre_trend
    if found is None:
        return ""
    seen = formats.plural(found.periods, item.grain)
    said = (
        f"Over {seen} before the launch, those with it and those without ran side by side"
        if found.passed
        else f"Over {seen} before the launch, those with it and those without moved apart"
    )
    facts = [formats.p_equals(found.p_value)] if found.p_value is not None else []
    if found.slope is not None and found.slope_lower is not None and found.slope_upper is not None:
        digits = digits_for(found.slope_upper - found.slope_lower)
        facts.append(
            f"{percent(found.slope, digits)} {launch_words.PER_GRAIN[item.grain]}, "
            f"{formats.between(found.slope_lower, found.slope_upper)}"
        )
    return f"{said} ({'; '.join(facts)})." if facts else f"{said}."


def parting_sentence(item: MeasuredLaunch) -> str:
    """How much worse than before the launch trends may have parted until the effect loses its sign."""
    found = item.sensitivity
    if found is None or not found.points:
        return ""
    if found.breakdown is None:
        return "Even if trends stayed as parallel as they were, the interval holds zero."
    if found.breakdown >= FAR_APART:
        return f"The effect keeps its sign even if trends parted {FAR_APART} times as much as they ever did before."
    return (
        f"The effect keeps its sign while trends part by at most {found.breakdown:.2g} times what they did before "
        "the launch; beyond that it may be nothing."
    )


def _placebos(found: Placebos, item: MeasuredLaunch) -> PlaceboPicture:
    places = "dates" if found.kind == "time" else "segments"
    method = launch_words.METHODS.get(found.method, titled(found.method))
    drawn_runs = min(len(found.runs), MOST_PLACEBOS)
    some = "" if drawn_runs == len(found.runs) else f" {drawn_runs} of {len(found.runs)} are drawn."
    chance = "" if found.p_value is None else f", {formats.p_equals(found.p_value)}"
    return PlaceboPicture(
        placebos=found,
        chart=placebo_chart(found, series_name=item.series_name),
        summary=f"{method} at {len(found.runs)} {places} where nothing happened (dots), and the launch "
        f"(line){chance}.{some}",
    )
