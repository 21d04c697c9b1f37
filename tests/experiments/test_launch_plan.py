"""The plan of a launch: versions pinned, what its experiment measured and how surely, what is usual for the metric."""

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from math import log, log1p
from statistics import NormalDist
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import decision, experiment, launch, lifecycle, metric
from experiments.database import Database
from experiments.definitions import DecisionSpec, ExperimentSpec
from experiments.errors import NotReady
from experiments.evidence import learned_prior_result
from experiments.launch_plan import launch_plan, series_of
from experiments.plan import LaunchPlan, MeasuredBefore, PriorEvidence, PriorPlan, document, load, plan_hash
from experiments.result import AmendmentNote, Check, ExperimentResult
from experiments.tables import Experiment, Launch, Result
from tests.app.complete_document import monitor
from tests.app.documents import result, row
from tests.experiments.launches import BEGUN, DAY, define_metrics, define_series, record_launch
from tests.workers.shop import EXPERIMENT

pytestmark = pytest.mark.anyio

STARTED, STOPPED = BEGUN - 40 * DAY, BEGUN - 12 * DAY
ROW = row("orders", "Orders per user")
Z = NormalDist().inv_cdf(0.975)


async def plan_of(session: AsyncSession, key: str = "same-day") -> LaunchPlan:
    return await launch_plan(session, await launch.get(session, key=key))


async def test_a_plan_pins_its_series_their_metrics_and_the_facts_behind_them(database: Database) -> None:
    async with database.write() as session:
        await define_metrics(session)
        await define_series(session, "orders", source="facts", metric_key="orders_formula")
        await define_series(session, "visits", metric_key="active_users")
        await define_series(session, "weather", role="regressor")
        measurements = [
            {"series_key": "orders", "regressors": ["weather"]},
            {"series_key": "visits", "controls": ["orders"]},
        ]
        await record_launch(session, measurements=measurements, announced_at=BEGUN - DAY)
    async with database.read() as session:
        plan = await plan_of(session)
        assert document(await plan_of(session)) == document(plan)
    assert load(document(plan)) == plan
    orders, visits = plan.measurements
    assert [each.metric_key for each in orders.outcome.metrics] == [
        "orders_formula",
        "active_users",
        "orders_per_active",
    ]
    assert [each.spec.key for each in orders.regressors] == ["weather"] and visits.controls == [orders.outcome]
    assert visits.outcome.metrics == [] and visits.outcome.version == 1
    assert [source.key for source in plan.fact_sources] == ["orders", "sessions"]
    assert set(series_of(plan)) == {"orders", "visits", "weather"}
    assert plan.measured_since == plan.announced_at == BEGUN - DAY
    assert orders.experiment is None and orders.prior is None

    async with database.write() as session:
        row = await metric.get(session, key="active_users")
        spec = metric.spec_of(row).model_copy(update={"name": "Active"})
        await metric.update(session, metric=row, spec=spec, expected=None, actor="tests", at=BEGUN)
        newer = await plan_of(session)
    assert newer.measurements[0].outcome.metrics[1].version == 2
    assert plan_hash(document(newer)) != plan_hash(document(plan))


async def test_a_launch_that_names_no_series_cannot_be_measured(database: Database) -> None:
    async with database.write() as session:
        await record_launch(session, measurements=[])
    async with database.read() as session:
        with pytest.raises(NotReady) as refused:
            await plan_of(session)
    assert refused.value.errors[0].pointer == "/measurements" and refused.value.remedy


async def test_other_launches_on_the_same_series_at_about_the_same_time_are_in_the_plan(database: Database) -> None:
    def to(segments: list[str], *steps: tuple[int, float]) -> list[dict[str, Any]]:
        each = {"mechanism": "ordered", "segments": segments}
        return [each | {"at": BEGUN + day * DAY, "coverage": coverage} for day, coverage in steps]

    async with database.write() as session:
        await define_series(session, "orders", dimension="country")
        await define_series(session, "visits")
        await record_launch(session, rollout=to(["de"], (0, 1)))
        elsewhere = [{"series_key": "visits"}]
        await record_launch(session, key="long-before", rollout=to(["de"], (-15, 1)))
        await record_launch(session, key="just-before", rollout=to(["de", "fr"], (-60, 0.1), (-14, 1)))
        await record_launch(session, key="tried-out", rollout=to([], (3, 0.5), (9, 0)))
        await record_launch(session, key="long-after", rollout=to(["de"], (28, 1)))
        await record_launch(session, key="on-another-series", rollout=[to([], (1, 1))[0]], measurements=elsewhere)
        (measured,) = (await plan_of(session)).measurements
    known = [(each.name, each.began_at, each.ended_at, each.segments) for each in measured.beside]
    assert known == [
        ("launch just-before", BEGUN - 14 * DAY, None, ["de", "fr"]),
        ("launch tried-out", BEGUN + 3 * DAY, BEGUN + 9 * DAY, []),
    ]


@dataclass(frozen=True)
class Course:
    """How an experiment went, and what a launch may take from it: `standard_error` on the log scale."""

    plan: dict[str, Any]
    facts: dict[str, Any]
    standard_error: float = 0.01 / 1.03
    log_lift: float = log1p(0.03)
    result: dict[str, Any] | None = None
    stopped: bool = True
    waited: timedelta = 8 * DAY


ENDS = {"planned_end_at": STOPPED}
FIXED = {"estimation": {"sequential": {"method": "fixed"}}}
ANY_LOOK = log(1.0591 / 1.0012) / (2 * Z)
GROUPS = monitor(
    metric_key="orders", variant_key="treatment", stopped_for="efficacy", estimate=0.02, ci_lower=0.0, ci_upper=0.04
)
COURSES: dict[str, Course] = {
    "ended as planned": Course(ENDS, {"stopped_early": False, "peeked": False, "clusters": None, "days": 28.0}),
    "ended early": Course({"planned_end_at": STOPPED + DAY}, {"stopped_early": True, "peeked": False}, ANY_LOOK),
    "windows still open": Course(ENDS, {"stopped_early": False, "peeked": False}, ANY_LOOK, waited=6 * DAY),
    "a fixed plan ended early": Course(
        FIXED | {"planned_end_at": STOPPED + DAY}, {"stopped_early": True, "peeked": True}, ANY_LOOK
    ),
    "a fixed plan without a length": Course(FIXED, {"stopped_early": False, "peeked": True}, ANY_LOOK),
    "a fixed plan with its units": Course(FIXED | {"planned_units": 20_000}, {"peeked": False}),
    "still running": Course(ENDS, {"stopped_early": True, "days": 20.0}, ANY_LOOK, stopped=False),
    "stopped by a group-sequential bound": Course(
        ENDS, {"stopped_early": True, "peeked": False}, log(1.04) / (2 * Z), log1p(0.02), {"sequential": [GROUPS]}
    ),
    "clustered and triggered": Course(
        ENDS | {"cluster": "team", "trigger": {"fact_source": "sessions"}}, {"clusters": 20_050, "triggered": True}
    ),
    "amended, with failed checks": Course(
        ENDS,
        {"amended": True, "failed_checks": ["sample_ratio"], "warned_checks": ["novelty"], "verdict": "unreliable"},
        result={
            "verdict": "unreliable",
            "amendments": [AmendmentNote(at=STARTED, actor="a", reason="r", changed=["/planned_units"])],
            "checks": [
                Check(name="sample_ratio", status="fail", detail="."),
                Check(name="novelty", status="warn", detail="."),
                Check(name="crossover", status="pass", detail="."),
            ],
        },
    ),
}


async def ran(session: AsyncSession, key: str, course: Course) -> Experiment:
    """An experiment that went like this, with its result."""
    base = EXPERIMENT | {"north_star_key": None, "segments": []}
    spec = ExperimentSpec.model_validate(base | {"key": key, "name": key} | course.plan)
    row = await experiment.create(session, spec=spec, actor="tests", at=STARTED)
    await lifecycle.start(session, experiment=row, actor="tests", at=STARTED)
    data_as_of = STOPPED - 8 * DAY
    if course.stopped:
        data_as_of = STOPPED + course.waited
        await lifecycle.stop(session, experiment=row, actor="tests", at=STOPPED)
    changes: dict[str, Any] = {"rows": [ROW], "sequential": [], "amendments": [], "checks": []} | (course.result or {})
    await keep(session, result(experiment_key=key, data_as_of=data_as_of, **changes))
    return row


async def keep(session: AsyncSession, found: ExperimentResult) -> None:
    body = found.model_dump_json().encode()
    session.add(
        Result(
            kind="experiment",
            subject_key=found.experiment_key,
            verdict=found.verdict,
            data_as_of=found.data_as_of,
            body=body,
            etag=hashlib.sha256(body).hexdigest(),
            created_at=found.data_as_of,
        )
    )
    await session.flush()


async def before(session: AsyncSession, experiment_key: str, **fields: Any) -> MeasuredBefore | None:
    """What the plan of a launch of this experiment has from it."""
    recorded = await record_launch(session, experiment_key=experiment_key, **{"key": experiment_key, **fields})
    return (await launch_plan(session, recorded)).measurements[0].experiment


async def test_the_plan_has_what_the_experiment_measured_by_the_interval_that_fits_how_it_ended(
    database: Database,
) -> None:
    async with database.write() as session:
        await define_metrics(session)
        await define_series(session, "orders", metric_key="orders")
        for number, (name, course) in enumerate(COURSES.items()):
            await ran(session, f"course-{number}", course)
            found = await before(session, f"course-{number}", shipped_variant="treatment")
            assert found is not None, name
            assert {key: getattr(found, key) for key in course.facts} == course.facts, name
            assert (found.log_lift, found.standard_error) == pytest.approx(
                (course.log_lift, course.standard_error), rel=1e-9
            ), name
            assert (found.metric_key, found.variant_key) == ("orders", "treatment")


async def test_only_the_shipped_variant_of_the_newest_result_on_the_metric_of_the_series_speaks(
    database: Database,
) -> None:
    ended = COURSES["ended as planned"]
    unknown = ROW.model_copy(update={"lift": None, "standard_error": None, "estimable": False, "reason": "x"})
    in_germany = ROW.model_copy(update={"segment_dimension": "country", "segment": "DE"})
    async with database.write() as session:
        await define_metrics(session)
        await define_series(session, "orders", metric_key="orders")
        await define_series(session, "something", metric_key="active_users")
        await define_series(session, "nameless")
        await ran(session, "one", ended)
        assert await before(session, "one", key="only-one-could-ship") is not None
        for key in ("something", "nameless"):
            assert await before(session, "one", key=key, measurements=[{"series_key": key}]) is None
        assert await before(session, "one", key="control", shipped_variant="control") is None
        newer = ROW.model_copy(update={"lift": 0.05})
        await keep(session, result(experiment_key="one", rows=[newer], data_as_of=BEGUN))
        found = await before(session, "one", key="newer", shipped_variant="treatment")
        assert found is not None and found.log_lift == pytest.approx(log1p(0.05))
        for number, rows in enumerate(([unknown], [in_germany], [])):
            await ran(session, f"silent-{number}", replace(ended, result={"rows": rows}))
            assert await before(session, f"silent-{number}") is None
        await ran(session, "alike", replace(ended, plan=ended.plan | {"purpose": "aa"}))
        assert await before(session, "alike") is None


async def test_the_plan_has_the_learned_prior_of_the_metric_without_its_own_experiment(database: Database) -> None:
    effects = [
        PriorEvidence(
            experiment_key=key, variant_key="new", stratum=None, log_lift=0.01 * (number % 5), standard_error=0.01
        )
        for number, key in enumerate(["checkout", *(f"past-{i}" for i in range(11))])
    ]
    learned = learned_prior_result(
        PriorPlan(metric_key="orders", version=1, effects=effects),
        analysis_id="a",
        data_as_of=STARTED,
        code_version="t",
    )
    async with database.write() as session:
        await define_metrics(session)
        await define_series(session, "orders", metric_key="orders")
        body = learned.model_dump_json().encode()
        session.add(
            Result(kind="prior", subject_key="orders", data_as_of=STARTED, body=body, etag="e", created_at=STARTED)
        )
        tested = await ran(session, "checkout", COURSES["ended as planned"])
        _, shipped = await decision.decide(
            session,
            experiment=tested,
            spec=DecisionSpec(outcome="ship", shipped_variant="treatment", reason="It won."),
            actor="tests",
            at=BEGUN + timedelta(hours=1),
        )
        assert isinstance(shipped, Launch)
        linked = (await launch_plan(session, shipped)).measurements[0]
        alone = (await launch_plan(session, await record_launch(session))).measurements[0]
    assert alone.prior is not None and alone.prior.experiments == 12 and alone.experiment is None
    assert linked.prior is not None and linked.prior.experiments == 11 and linked.experiment is not None
