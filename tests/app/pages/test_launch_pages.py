"""The pages of launches: what a person reads in a growth review, for every outcome a measurement can have."""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from html import unescape

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app.pages import launch_words
from app.pages.launch_stages import stages_of
from app.pages.launch_view import (
    LaunchAnswer,
    answer,
    events_of,
    lead_of,
    marked,
    measured_view,
    ordered,
    parting_sentence,
)
from app.pages.rollout_words import reach
from experiments import analysis, launch, launch_effects, launch_overview, lease, series
from experiments.definitions import Eligible, LaunchMeasurement, LaunchSpec, RolloutStep, SeriesSpec
from experiments.evidence.launch.design import Why
from experiments.freezing import north_star_plan
from experiments.plan import PriorPlan, document
from experiments.result import DesignOption, LaunchResult, MeasuredLaunch
from experiments.tables import Analysis
from stats.launch import grade
from stats.launch.reasons import LaunchReason
from tests.app.complete_beliefs import learned_prior
from tests.app.documents import START
from tests.app.documents import series as north_star_series
from tests.app.launch_documents import (
    FIRST,
    before_after,
    estimate,
    launch_result,
    launch_spec,
    measured,
    not_estimable,
    staged,
    unmeasured,
)
from tests.app.pages.conftest import Reader, application, browsing
from tests.app.pages.test_pages import Structure
from tests.app.world import HOSTILE, define_metrics, define_north_star, store

pytestmark = pytest.mark.anyio

AT_ONCE = [RolloutStep(at=FIRST, coverage=1, mechanism="all_at_once")]
BY_LOT = [
    RolloutStep(at=FIRST, coverage=0.5, mechanism="random"),
    RolloutStep(at=FIRST + timedelta(days=7), coverage=1, mechanism="random"),
]
PLAIN = {"announced_at": None, "confounders": [], "rollout": AT_ONCE}


def answered(item: MeasuredLaunch) -> LaunchAnswer:
    return answer(item, lead_of(item), launch_spec().name)


def sentence(item: MeasuredLaunch) -> str:
    return answered(item).sentence.replace("\u00a0", " ")


async def put(session: AsyncSession, spec: LaunchSpec, document: LaunchResult | None) -> None:
    """A launch and, as a worker would store it, what was measured."""
    await launch.create(session, spec=spec, actor="ada", at=FIRST - timedelta(days=10))
    if document is None:
        return
    row, _ = await analysis.submit(
        session,
        kind="launch",
        subject_key=spec.key,
        experiment_id=None,
        plan_document={"kind": "launch", "launch_key": spec.key},
        data_as_of=START,
        seed=1,
        requested_by="ada",
        at=START,
    )
    await lease.claim(session, analysis_id=row.id, owner="test", lease_seconds=30, at=START)
    body = document.model_dump_json().encode()
    etag = hashlib.sha256(body).hexdigest()
    kept = lease.StoredResult(body, etag, None, launch_effects.flat(document))
    assert await lease.finish(session, analysis_id=row.id, owner="test", attempt=1, result=kept, at=START)


async def shipped(session: AsyncSession) -> None:
    """Launches of every outcome, and the series that they are measured on."""
    for spec in (
        SeriesSpec(key="revenue", name="Revenue", dimension="country", unit="€"),
        SeriesSpec(key="temperature", name="Temperature", role="regressor", aggregation="mean"),
        SeriesSpec(key="signups", name="Sign-ups", dimension="country"),
    ):
        await series.create(session, spec=spec, actor="ada", at=FIRST - timedelta(days=20))
    on_signups = {**PLAIN, "measurements": [LaunchMeasurement(series_key="signups")]}

    def on(key: str, item: MeasuredLaunch) -> LaunchResult:
        return launch_result(
            item.model_copy(update={"series_key": "signups", "series_name": "Sign-ups"}), launch_key=key
        )

    on_both = [LaunchMeasurement(series_key="revenue"), LaunchMeasurement(series_key="signups")]
    await put(session, launch_spec(measurements=on_both), launch_result(measured(), before_after()))
    await put(session, launch_spec(key="homepage", name="Homepage", **on_signups), on("homepage", before_after()))
    await put(session, launch_spec(key="tv", name="Television", **on_signups), on("tv", unmeasured()))
    await put(session, launch_spec(key="tiny", name="Tiny", **on_signups), on("tiny", not_estimable()))
    await put(session, launch_spec(key="ready", name=HOSTILE, description=HOSTILE, **on_signups), None)
    await put(session, launch_spec(key="soon", name="Soon", **on_signups), None)
    await put(session, launch_spec(key="blind", name="Blind", **PLAIN, measurements=[]), None)
    later = [RolloutStep(at=START + timedelta(days=900), coverage=1, mechanism="all_at_once")]
    await put(session, launch_spec(key="someday", name="Someday", **{**PLAIN, "rollout": later}, measurements=[]), None)
    half = launch_spec(key="half", name="Half", **{**PLAIN, "rollout": BY_LOT}, measurements=on_signups["measurements"])
    await put(session, half, on("half", staged()))


async def north_star_with_past_experiments(session: AsyncSession) -> None:
    await define_metrics(session)
    await define_north_star(session)
    star = document(await north_star_plan(session, key="weekly_orders"))
    await store(session, "north_star", "weekly_orders", star, north_star_series(), START)
    learned = document(PriorPlan(metric_key="orders", version=3, effects=[]))
    await store(session, "prior", "orders", learned, learned_prior(), START)


@pytest.fixture(scope="module")
async def growth(module_sqlite_url: str, redis_url: str) -> AsyncIterator[Reader]:
    """Signed in to write, where launches of every outcome were recorded; tests add to it and change nothing there."""
    async with browsing(application(module_sqlite_url, redis_url)) as reader:
        async with reader.database.write() as session:
            await shipped(session)
            await north_star_with_past_experiments(session)
        assert (await reader.sign_in(reader.keys.write)).status_code == 303
        yield reader


def texts(page: str) -> Iterator[str]:
    for part in re.split(r"<[^>]+>", re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)):
        if part.strip():
            yield unescape(part).strip()


def test_the_answer_is_one_sentence_with_its_interval() -> None:
    assert sentence(measured()) == (
        "Revenue rose by 4.1 % at full coverage, somewhere between +1.1 % and +7.1 % (95 % interval)."
    )
    fallen = measured(estimates=[estimate("did", -0.05, leads=True)])
    assert sentence(fallen).startswith("Revenue fell by 5.0 % at full coverage, somewhere between −8.0 % and −2.0 %")


def test_effects_on_an_average_are_not_added_up_over_time() -> None:
    item = measured()
    total = answer(item, lead_of(item), "Launch").natural
    average = answer(item, lead_of(item), "Launch", adds_up=False).natural
    assert [text.replace("\u00a0", " ") for text in total] == [
        "+164 € a day (+44.0 to +284)",
        "+6,888 € in 42 days (+1,848 to +11,928)",
    ]
    assert average == total[:1]
    shown = measured_view(item, launch_spec(), adds_up=False)
    assert shown.cumulative is None
    assert shown.effect is not None


def test_an_interval_that_holds_zero_is_not_said_to_be_a_move() -> None:
    assert sentence(before_after()).startswith("Whether Delivery on the next day moved Sign-ups cannot be told: +2.0 %")


@pytest.mark.parametrize(
    ("letter", "direction", "tone", "bold"),
    [
        ("A", "increase", "good", True),
        ("B", "decrease", "bad", True),
        ("C", "increase", "good", True),
        ("D", "increase", "neutral", False),
        ("U", "increase", "neutral", False),
    ],
)
def test_only_grades_a_to_c_are_said_aloud_and_in_colour(letter: str, direction: str, tone: str, bold: bool) -> None:
    item = measured(direction=direction)
    said = answered(item.model_copy(update={"grade": item.grade.model_copy(update={"grade": letter})}))
    assert (said.tone, said.bold) == (tone, bold)


def test_a_move_of_grade_d_only_seems_to_be_one() -> None:
    item = before_after(estimates=[estimate("structural", 0.2, 0.05, leads=True)])
    assert sentence(item).startswith("Sign-ups seems to have risen by 20.0 % at full coverage, somewhere between")


def test_what_was_not_measured_shows_what_is_usual_and_says_that_it_is_no_measurement() -> None:
    assert (answered(unmeasured()).kind, answered(unmeasured()).natural) == ("believed", ())
    assert sentence(unmeasured()) == (
        "Not measured on Revenue. No period since the launch is complete. Launches like this one usually bring "
        "something between −3.8 % and +4.2 % (95 % of the belief). It is a wide guess: nothing was learned of this "
        "metric yet."
    )


def test_where_nothing_is_estimable_the_reason_is_said_and_no_number() -> None:
    shown = measured_view(not_estimable(), launch_spec())
    assert (shown.methods, shown.path, shown.placebos, shown.grade_sentence) == (None, None, [], "")
    said = sentence(not_estimable())
    assert said == "What it did to Revenue could not be measured. There is too little history before the launch."
    assert len(shown.impossible) == 3


def test_the_leading_method_comes_first_whatever_its_place_in_the_document() -> None:
    found = [estimate("structural", 0.06), estimate("imputation", 0.04, leads=True)]
    assert [item.method for item in ordered(found)] == ["imputation", "structural"]


@pytest.mark.parametrize(
    ("breakdown", "said"),
    [
        (None, "Even if trends stayed as parallel as they were, the interval holds zero."),
        (0.7018, "The effect keeps its sign while trends part by at most 0.7 times what they did before the launch"),
        (100.0, "The effect keeps its sign even if trends parted 10 times as much as they ever did before."),
    ],
)
def test_how_far_trends_may_have_parted_is_one_sentence(breakdown: float | None, said: str) -> None:
    found = measured().sensitivity
    assert found is not None
    item = measured(sensitivity=found.model_copy(update={"breakdown": breakdown}))
    assert parting_sentence(item).startswith(said)


def test_every_code_of_the_statistics_has_words() -> None:
    assert {code.value for code in LaunchReason} <= set(launch_words.REASONS)
    remedies = {code for codes in grade._BETTER_DESIGN.values() for code in codes} | set(grade._REMEDIES.values())
    assert set(grade._REMEDIES) <= set(launch_words.GRADE_REASONS)
    assert remedies <= set(launch_words.RAISED_BY)
    assert {code.value for code in Why} <= set(launch_words.WHY)


def test_why_a_design_is_not_possible_is_said_with_its_numbers() -> None:
    seldom = DesignOption(
        design="switchback",
        possible=False,
        chosen=False,
        why="too_few_changes",
        numbers={"changes": 2.0, "needed": 4.0},
    )
    assert launch_words.why(seldom) == "It was switched on and off too seldom: 2 changes, 4 are needed."
    without = seldom.model_copy(update={"numbers": {}})
    assert launch_words.why(without) == "It was switched on and off too seldom: – changes, – are needed."
    assert launch_words.why(seldom.model_copy(update={"why": "too_little_history"})).startswith("There is too little")
    assert launch_words.parameter("donor[New York]") == "Moves with New York"


def test_the_reach_of_a_launch_never_claims_everybody_where_only_segments_are_on_record() -> None:
    def said(spec: LaunchSpec, days: int) -> str:
        return reach(spec, FIRST + timedelta(days=days)).replace("\u00a0", " ")

    spec = launch_spec()
    assert said(spec, -1) == "not yet"
    assert said(spec, 1) == "DE: 100 %"
    assert said(spec, 20) == "DE, FR: 100 %"
    countries = ["AT", "BE", "CH", "DE", "DK"]
    many = [
        RolloutStep(
            at=FIRST + timedelta(days=place), coverage=0.2 * (place + 1), mechanism="random", segments=[country]
        )
        for place, country in enumerate(countries[:4])
    ]
    wide = launch_spec(rollout=many, eligible=Eligible(dimension="country", segments=countries))
    assert said(wide, 20) == "4 of 5 segments: 20 % to 80 %"
    back = [*AT_ONCE, RolloutStep(at=FIRST + timedelta(days=5), coverage=0, mechanism="all_at_once")]
    assert said(launch_spec(rollout=back), 20) == "0 %"
    gone = [step.model_copy(update={"segments": ["DE"]}) for step in back]
    assert said(launch_spec(rollout=gone), 20) == "taken back"


async def test_the_page_reads_from_the_answer_down_to_the_facts(growth: Reader) -> None:
    text = (await growth.http.get("/launches/faster-delivery")).text
    places = [
        text.index(f'id="{name}"')
        for name in ("answer", "over-time", "methods", "trust", "comparison", "checks", "design", "rollout")
    ]
    assert places == sorted(places)
    said = " ".join(texts(text)).replace("\u00a0", " ")
    assert "Revenue rose by 4.1 %" in said
    assert "Grade C" in said
    assert "Next time, draw the order of segments by lot." in said
    assert "Segments got it at different times; this method needs one time." in said
    assert "NL moved at the launch without having it, and was left out." in said
    assert "/v1/launches/faster-delivery/results/latest" in text


async def test_each_measurement_has_its_own_address(growth: Reader) -> None:
    text = (await growth.http.get("/launches/faster-delivery", params={"series": "signups"})).text
    assert "Grade D" in text
    assert 'href="/launches/faster-delivery?series=revenue"' in text
    assert "verdict-sentence" not in text
    unknown = (await growth.http.get("/launches/faster-delivery", params={"series": "nothing"})).text
    assert "Grade C" in unknown


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("homepage", "Whether Homepage moved Sign-ups cannot be told"),
        ("tv", "Prior, not a measurement"),
        ("tiny", "could not be measured"),
        ("ready", "Measure now"),
        ("blind", "Say what to measure it on"),
        ("someday", "Nothing is recorded yet that it could be measured on"),
        ("half", "Stage by stage"),
    ],
)
async def test_every_outcome_has_a_page_that_a_screen_reader_can_use(growth: Reader, key: str, said: str) -> None:
    answer = await growth.http.get(f"/launches/{key}")
    assert answer.status_code == 200
    assert said in unescape(answer.text).replace("\u00a0", " ")
    assert HOSTILE not in answer.text
    page = Structure()
    page.feed(answer.text)
    assert (page.faults, page.open) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert all(table["caption"] and table["scoped"] for table in page.tables)


async def test_the_list_says_what_each_launch_did_and_how_much_to_believe_it(growth: Reader) -> None:
    said = " ".join(texts((await growth.http.get("/launches")).text)).replace("\u00a0", " ")
    assert (
        "Delivery on the next day Bo C +4.1 % (+1.1 % to +7.1 %) Revenue and 1 more 27 Jul 2026 DE, FR: 100 %" in said
    )
    assert "not measured; such launches bring −3.8 % to +4.2 %" in said
    assert "There is too little history before the launch." in said
    assert "not measured yet" in said
    assert "Blind Bo U not measured: nothing to measure it on" in said
    assert "Someday Bo – not measured: nothing to measure it on" in said


async def test_the_grade_of_a_launch_can_be_shown_wherever_it_is_named(newcomer: Reader) -> None:
    async with newcomer.database.write() as session:
        await shipped(session)
    async with newcomer.database.read() as session:
        found = await launch_overview.grades(session, launch_keys=["faster-delivery", "homepage", "soon"])
        nothing = await launch_overview.grades(session, launch_keys=[])
        effects = await launch_overview.primary_effects(session, launch_keys=["faster-delivery"])
        usual = await launch_overview.usual_effect(session)
    assert (found, nothing) == ({"faster-delivery": "C", "homepage": "D"}, {})
    assert [(effect.series_key, effect.lift) for effect in effects.values()] == [("revenue", 0.041)]
    assert usual is None
    text = (await newcomer.http.get("/launches/blind")).text
    assert "nothing was recorded that it could be measured on" in text
    assert "past experiments" not in text


def test_a_launch_by_stages_has_numbers_for_each_and_no_course_over_time() -> None:
    shown = measured_view(staged(), launch_spec(rollout=BY_LOT))
    assert (shown.path, shown.effect, shown.cumulative, shown.coverage) == (None, None, None, None)
    assert shown.since == "1 stage, 7 days"
    (stage,) = shown.stages
    assert (stage.began_at, stage.until, stage.with_it, stage.without_it) == (FIRST, BY_LOT[1].at, 3.09, 3.0)
    lead = staged().estimates[0]
    assert (stage.lift, stage.lower, stage.upper) == (lead.lift, lead.ci_lower, lead.ci_upper)
    assert shown.answer.sentence.replace("\u00a0", " ").startswith("Sessions rose by 3.0 % for those who have it, ")
    assert shown.answer.natural == ["+0.0900 sessions for each of them (+0.0600 to +0.120)"]


def test_several_stages_have_an_interval_each_and_very_many_are_a_course_over_time() -> None:
    first = staged().periods[0]
    second = first.model_copy(update={"at": first.at + timedelta(days=7), "coverage": 0.8})
    steps = [*BY_LOT[:1], BY_LOT[1].model_copy(update={"coverage": 0.8})]
    shown = measured_view(staged(periods=[first, second], periods_after=2), launch_spec(rollout=steps))
    assert [stage.until for stage in shown.stages] == [BY_LOT[1].at, None]
    assert shown.since == "2 stages, 14 days"
    for stage in shown.stages:
        assert stage.lift == pytest.approx(0.03)
        assert (stage.lower, stage.upper) == (pytest.approx(3.09 / 3.03 - 1), pytest.approx(3.09 / 2.97 - 1))
    both = staged(periods=[first, first.model_copy(update={"at": first.at - timedelta(days=1)})])
    days = stages_of(both, launch_spec(rollout=BY_LOT), None)
    assert [(stage.until - stage.began_at).days for stage in days if stage.until] == [1, 1]
    many = [first.model_copy(update={"at": first.at + timedelta(days=day)}) for day in range(13)]
    assert stages_of(staged(periods=many), launch_spec(rollout=BY_LOT), None) == []


def test_of_dozens_of_steps_only_the_first_is_marked() -> None:
    steps = [
        RolloutStep(at=FIRST + timedelta(hours=12 * place), coverage=place % 2, mechanism="random")
        for place in range(40)
    ]
    events = marked(events_of(launch_spec(rollout=steps)))
    assert [(event.number, event.kind) for event in events] == [(1, "other"), (2, "announced"), (3, "step")]
    assert events[-1].text == "The first of 40 steps; the others are below"
    few = marked(events_of(launch_spec(rollout=steps[:10])))
    assert [event.kind for event in few].count("step") == 10


async def test_a_launch_of_which_nothing_was_recorded_says_what_would_give_it_a_grade(growth: Reader) -> None:
    said = " ".join(texts((await growth.http.get("/launches/blind")).text)).replace("\u00a0", " ")
    assert "Grade U: not measured Not measured: nothing was recorded that it could be measured on." in said
    assert "Next time, keep some segments back for a while." in said
    assert "What past experiments did to Orders per user: 95 % of such effects lie between −" in said
    later = " ".join(texts((await growth.http.get("/launches/someday")).text))
    assert "Name a series before it begins" in later
    assert "Next time" not in later
    assert "Grade U" not in later


async def test_launches_on_the_curve_have_their_grade_and_their_effect_where_one_was_measured(growth: Reader) -> None:
    page = (await growth.http.get("/")).text
    said = " ".join(texts(page[page.index("launch-list") :])).replace("\u00a0", " ")
    assert "Delivery on the next day 27 Jul 2026 Grade C +4.1 %  (+1.1 to +7.1) Revenue" in said
    assert "Television 27 Jul 2026 Grade U: not measured" in said
    assert "Blind 27 Jul 2026 Grade U: not measured" in said
    assert "Someday" not in said


async def test_measuring_is_one_button_that_submits_one_analysis(growth: Reader) -> None:
    for _ in range(2):
        answer = await growth.submit("/launches/soon/analyses")
        assert (answer.status_code, answer.headers["location"]) == (303, "/launches/soon")
    async with growth.database.read() as session:
        statement = sa.select(Analysis).where(col(Analysis.subject_key) == "soon")
        found = (await session.scalars(statement)).all()
    assert [(row.kind, row.state) for row in found] == [("launch", "queued")]
    text = (await growth.http.get("/launches/soon")).text
    assert "Waiting for a worker" in text
    assert "Measure now" not in text
    assert "hx-refresh" not in (await growth.http.get("/launches/soon/progress")).headers
    assert "measuring now" in (await growth.http.get("/launches")).text
    assert (await growth.submit("/launches/soon/cancel")).status_code == 303
    assert (await growth.http.get("/launches/soon/progress")).headers["hx-refresh"] == "true"


async def test_what_cannot_be_measured_is_refused_with_what_is_missing(growth: Reader) -> None:
    answer = await growth.submit("/launches/blind/analyses")
    assert answer.status_code == 409
    assert "of no series" in answer.text


async def test_who_may_only_read_sees_everything_and_changes_nothing(growth: Reader) -> None:
    await growth.sign_in(growth.keys.read)
    text = (await growth.http.get("/launches/ready")).text
    assert "Measure now" not in text
    assert "/edit" not in text
    assert "Record a launch" not in (await growth.http.get("/launches")).text
    for path in ("/launches/ready/analyses", "/launches/ready/cancel"):
        assert (await growth.submit(path)).status_code == 403
    await growth.sign_in(growth.keys.write)
    assert (await growth.http.post("/launches/ready/analyses", data={"csrf_token": "forged"})).status_code == 403


async def test_a_launch_that_nobody_recorded_has_no_page(growth: Reader) -> None:
    assert (await growth.http.get("/launches/nothing")).status_code == 404
    assert (await growth.http.get("/launches/nothing/progress")).status_code == 404
    assert (await growth.submit("/launches/nothing/analyses")).status_code == 404
    assert (await growth.submit("/launches/nothing/cancel")).status_code == 404
