"""A small company in a database, made by the real services: metrics, a North Star, experiments in every state."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import (
    analysis,
    api_key,
    decision,
    experiment,
    fact_source,
    launch,
    lease,
    lifecycle,
    metric,
    north_star,
)
from experiments.definitions import (
    DecisionSpec,
    EventSource,
    ExperimentSpec,
    InputMetric,
    LaunchSpec,
    Measure,
    MetricSpec,
    NorthStarSpec,
    Omtm,
    PlanMetric,
    RolloutStep,
    Target,
    Variant,
)
from experiments.freezing import baseline_plan, north_star_plan
from experiments.plan import document, plan_hash
from experiments.result import BaselineResult, Document, ExperimentResult, MetricBaseline
from experiments.tables import Experiment, ResultRow
from tests.app.documents import START, result, series

NOW = START + timedelta(days=40)
ACTOR = "ada"
HOSTILE = "<script>alert('owned')</script>"
ROW_COLUMNS = [name for name in ResultRow.model_fields if name not in ("id", "result_id", "experiment_key")]


@dataclass(frozen=True, slots=True)
class Keys:
    """One API key per scope."""

    read: str
    write: str
    ingest: str


async def issue_keys(session: AsyncSession, *, at: datetime = NOW) -> Keys:
    issued = {
        scope: (await api_key.issue(session, name=f"{scope} key", scopes=[scope], actor=ACTOR, at=at))[1]
        for scope in ("read", "write", "ingest")
    }
    return Keys(**issued)


async def define_metrics(session: AsyncSession, *, at: datetime = START) -> None:
    for event in ("session", "order", "refund", "load", "referral"):
        await fact_source.create(session, spec=EventSource(key=event, event=event), actor=ACTOR, at=at)

    def count(source: str) -> Measure:
        return Measure(fact_source=source, aggregation="count")

    def total(source: str) -> Measure:
        return Measure(fact_source=source, aggregation="sum")

    specs = [
        MetricSpec(
            key="orders", name="Orders per user", kind="mean", unit="orders", measure=count("order"), owner="Bo"
        ),
        MetricSpec(key="active_users", name="Active users", kind="proportion", measure=count("session")),
        MetricSpec(
            key="sessions_per_active_user",
            name="Sessions per active user",
            kind="ratio",
            numerator=count("session"),
            denominator=Measure(fact_source="session", aggregation="any"),
        ),
        MetricSpec(
            key="orders_per_session",
            name="Orders per session",
            kind="ratio",
            numerator=count("order"),
            denominator=count("session"),
        ),
        MetricSpec(key="refund_rate", name="Refund rate", kind="mean", direction="decrease", measure=total("refund")),
        MetricSpec(
            key="page_load", name="Page load time", kind="mean", unit="ms", direction="decrease", measure=total("load")
        ),
        MetricSpec(
            key="referrals", name="Referrals per user", kind="retention", delay_days=7, measure=count("referral")
        ),
    ]
    for spec in specs:
        await metric.create(session, spec=spec, actor=ACTOR, at=at)


async def define_north_star(session: AsyncSession, *, at: datetime = START) -> None:
    spec = NorthStarSpec(
        key="weekly_orders",
        name="Weekly orders",
        description="Orders that reached a customer, the moment value is felt.",
        metric_key="orders",
        formula="active_users * sessions_per_active_user * orders_per_session",
        input_metrics=[
            InputMetric(metric_key="active_users", aarrr_stage="acquisition", owner="Growth", target=6000),
            InputMetric(
                metric_key="sessions_per_active_user",
                aarrr_stage="retention",
                owner="Core",
                omtm=Omtm(owner="Core", ends_at=(NOW + timedelta(days=60)).date()),
            ),
            InputMetric(metric_key="orders_per_session", edge="driver", aarrr_stage="revenue", owner="Checkout"),
        ],
        owner="Ada",
        target=Target(value=18_000, at=(NOW + timedelta(days=80)).date()),
    )
    await north_star.create(session, spec=spec, actor=ACTOR, at=at)


def spec_of(key: str, name: str, **changes: Any) -> ExperimentSpec:
    return ExperimentSpec(
        **{
            "key": key,
            "name": name,
            "hypothesis": "If checkout is one page, more sessions end in an order, because each step loses people.",
            "owner": "Mira Lindqvist",
            "team": "Checkout",
            "tags": ["checkout", "mobile"],
            "variants": [
                Variant(key="control", name="Three steps", weight=0.5, is_control=True),
                Variant(key="treatment", name="One page", weight=0.5),
            ],
            "metrics": [
                PlanMetric(metric_key="orders", role="primary", mde=0.03),
                PlanMetric(metric_key="refund_rate", role="guardrail", non_inferiority_margin=0.05),
                PlanMetric(metric_key="page_load", role="secondary"),
                PlanMetric(metric_key="referrals", role="monitor"),
            ],
            "north_star_key": "weekly_orders",
            "segments": ["country"],
            "planned_units": 40_000,
            "planned_end_at": START + timedelta(days=35),
            **changes,
        }
    )


async def run(session: AsyncSession, spec: ExperimentSpec, *, at: datetime = START) -> Experiment:
    row = await experiment.create(session, spec=spec, actor=ACTOR, at=at)
    return await lifecycle.start(session, experiment=row, actor=ACTOR, at=at)


async def store(session: AsyncSession, kind: str, key: str, plan: dict[str, Any], body: Document, at: datetime) -> None:
    """Submit, claim and finish an analysis whose result is `body`, as a worker would."""
    row, _ = await analysis.submit(
        session,
        kind=kind,
        subject_key=key,
        experiment_id=(await experiment.get(session, key=key)).id if kind == "experiment" else None,
        plan_document=plan,
        data_as_of=at,
        seed=1,
        requested_by=ACTOR,
        at=at,
    )
    await lease.claim(session, analysis_id=row.id, owner="test", lease_seconds=30, at=at)
    stored = body.model_dump_json().encode()
    rows: list[dict[str, Any]] = []
    verdict = None
    if isinstance(body, ExperimentResult):
        verdict = body.verdict
        rows = [{"experiment_key": key, **{name: getattr(r, name) for name in ROW_COLUMNS}} for r in body.rows]
    kept = lease.StoredResult(stored, hashlib.sha256(stored).hexdigest(), verdict, rows)
    assert await lease.finish(session, analysis_id=row.id, owner="test", attempt=1, result=kept, at=at)


async def build(session: AsyncSession) -> None:
    """Everything a page can show."""
    await define_metrics(session)
    await define_north_star(session)
    running = await run(session, spec_of("checkout", "One-page checkout"))
    assert running.plan is not None
    await store(session, "experiment", "checkout", running.plan, result(), START + timedelta(days=28))
    broken = await run(session, spec_of("search-ranking", "Search ranking by margin", team="Search", tags=["search"]))
    assert broken.plan is not None
    unreliable = result(
        experiment_key="search-ranking",
        verdict="unreliable",
        verdict_variant=None,
        verdict_reasons=["10,400 to 9,200 units for 50:50 (p < 0.0001). Find out why before reading anything."],
        north_star=[],
        segment_models=[],
    )
    await store(session, "experiment", "search-ranking", broken.plan, unreliable, START + timedelta(days=28))
    stopped = await run(session, spec_of("wallet", "Wallet at checkout", team="Payments", tags=["payments"]))
    assert stopped.plan is not None
    await store(
        session, "experiment", "wallet", stopped.plan, result(experiment_key="wallet"), START + timedelta(days=20)
    )
    await lifecycle.stop(session, experiment=stopped, actor=ACTOR, at=START + timedelta(days=30))
    shipped = await run(session, spec_of("free-delivery", "Free delivery above 30 €"), at=START - timedelta(days=60))
    await lifecycle.stop(session, experiment=shipped, actor=ACTOR, at=START - timedelta(days=30))
    await decision.decide(
        session,
        experiment=shipped,
        spec=DecisionSpec(
            outcome="ship",
            shipped_variant="treatment",
            reason="Clear lift, margin holds.",
            learnings="The threshold matters more than the price: people add a second item.",
        ),
        actor=ACTOR,
        at=START - timedelta(days=29),
    )
    hostile = spec_of("hostile", f"Name {HOSTILE}", hypothesis=HOSTILE, owner=HOSTILE, tags=[HOSTILE[:60]])
    await experiment.create(session, spec=hostile, actor=ACTOR, at=NOW)
    await launch.create(
        session,
        spec=LaunchSpec(
            key="brand-campaign",
            name="Brand campaign",
            rollout=[
                RolloutStep(at=START - timedelta(days=90), coverage=0.2, mechanism="ordered"),
                RolloutStep(at=START - timedelta(days=80), coverage=1, mechanism="all_at_once"),
            ],
        ),
        actor=ACTOR,
        at=NOW,
    )
    star = document(await north_star_plan(session, key="weekly_orders"))
    await store(session, "north_star", "weekly_orders", star, series(), START)
    baselines = BaselineResult(
        analysis_id="0190f0c4-0000-7000-8000-000000000003",
        unit_type="user",
        data_as_of=START,
        metrics=[
            MetricBaseline(metric_key="orders", n=50_000, mean=2.0, sd=2.4, cuped_r_squared=0.3),
            MetricBaseline(metric_key="refund_rate", n=50_000, mean=0.05, sd=0.08, cuped_r_squared=0.0),
        ],
        cumulative_units=[1200 + 900 * day for day in range(28)],
        code_version="0.1.0",
    )
    plan = document(await baseline_plan(session, unit_type="user"))
    assert plan_hash(plan)
    await store(session, "baseline", "user", plan, baselines, START)
