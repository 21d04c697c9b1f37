"""Options of a plan that do not go together are refused when they are written down, with the place of each fault."""

from typing import Any

import pytest

from experiments import experiment, fact_source, metric
from experiments.database import Database
from experiments.definitions import Beliefs, Estimation, EventSource, PlanMetric, Role, Sequential, Trigger, Variant
from experiments.errors import InvalidDefinition
from experiments.plan_rules import plan_faults
from tests.experiments.shop import AT, draft, formula, mean, open_shop

pytestmark = pytest.mark.anyio
KNOWN = {
    "closed": mean("closed", window_days=7),
    "open": mean("open", window_days=None),
    "per_open": formula("per_open", "closed + open"),
    "p90": mean("p90", kind="quantile", quantile=0.9),
}
LOOKS = Estimation(sequential=Sequential(method="group_sequential"))
THREE = [Variant(key="a", weight=0.4, is_control=True), *(Variant(key=k, weight=0.3) for k in ("b", "c"))]


def places(metric_key: str = "closed", *, mde: float | None = None, **changes: Any) -> list[str]:
    metrics = [PlanMetric(metric_key=metric_key, role=Role.PRIMARY, mde=mde)]
    return [fault.pointer for fault in plan_faults(draft(metrics=metrics, **changes), KNOWN)]


def test_error_spending_needs_an_amount_of_information_to_spend_it_over():
    assert places(estimation=LOOKS) == ["/estimation/sequential"]
    assert places(estimation=LOOKS, planned_units=1000) == []
    assert places(estimation=LOOKS, mde=0.02) == []
    assert places() == []


@pytest.mark.parametrize("key", ["open", "per_open"])
def test_units_are_no_clock_for_open_ended_windows(key):
    assert places(key, estimation=LOOKS, planned_units=1000) == ["/metrics/0/mde"]
    assert places(key, estimation=LOOKS, planned_units=1000, mde=0.02) == []
    assert places(key, planned_units=1000) == []


def test_dunnett_compares_several_treatments():
    dunnett = Estimation(correction="dunnett")
    assert places(estimation=dunnett) == ["/estimation/correction"]
    assert places(estimation=dunnett, variants=THREE) == []


def test_summaries_say_nothing_about_quantiles():
    assert places("p90", data="summary") == ["/metrics/0/metric_key"]
    assert places("p90") == []


@pytest.mark.parametrize(
    ("beliefs", "scale", "engine", "method", "refused"),
    [
        ("flat", 0.05, "both", "always_valid", True),
        ("flat", 0.05, "bayesian", "group_sequential", True),
        ("flat", 0.05, "both", "fixed", False),
        ("flat", 0.05, "frequentist", "always_valid", False),
        ("stated", 0.5, "both", "always_valid", True),
        ("stated", 0.49, "both", "always_valid", False),
        ("learned", 1.0, "both", "always_valid", True),
        ("learned", 0.05, "bayesian", "always_valid", False),
    ],
)
def test_without_a_prior_nobody_may_look_before_the_end(beliefs, scale, engine, method, refused):
    estimation = Estimation(
        engine=engine, beliefs=Beliefs(prior=beliefs), prior_scale=scale, sequential=Sequential(method=method)
    )
    found = places(estimation=estimation, planned_units=1000)
    assert found == (["/estimation/beliefs/prior"] if refused else [])


@pytest.mark.parametrize(
    ("mean", "scale", "family", "prior", "engine", "refused"),
    [
        (1.0, 0.001, "normal", "stated", "bayesian", True),
        (-0.1, 0.05, "normal", "stated", "both", True),
        (0.0823, 0.05, "normal", "learned", "both", True),
        (0.0821, 0.05, "normal", "stated", "both", False),
        (0.0821, 0.05, "student_t4", "stated", "both", False),
        (0.2, 0.05, "student_t4", "stated", "both", True),
        (1.0, 0.001, "normal", "stated", "frequentist", False),
    ],
)
@pytest.mark.parametrize("method", ["always_valid", "fixed"])
def test_no_prior_is_stated_that_decides_without_data(mean, scale, family, prior, engine, refused, method):
    estimation = Estimation(
        engine=engine,
        beliefs=Beliefs(prior=prior, family=family),
        prior_mean=mean,
        prior_scale=scale,
        sequential=Sequential(method=method),
    )
    assert places(estimation=estimation, planned_units=1000) == (["/estimation/prior_mean"] if refused else [])


async def test_a_trigger_is_a_fact_source_of_the_experiments_unit(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await fact_source.create(
            session, spec=EventSource(key="visits", event="visit", unit_type="account"), actor="ada", at=AT
        )
        for source, word in (("nothing", "no fact source"), ("visits", "per account")):
            with pytest.raises(InvalidDefinition, match=word) as refused:
                spec = draft("triggered", trigger=Trigger(fact_source=source))
                await experiment.create(session, spec=spec, actor="ada", at=AT)
            assert [fault.pointer for fault in refused.value.errors] == ["/trigger/fact_source"]
        good = draft("triggered", trigger=Trigger(fact_source="orders"))
        assert (await experiment.create(session, spec=good, actor="ada", at=AT)).key == "triggered"


async def test_every_fault_of_a_plan_is_named_at_once(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await metric.create(session, spec=mean("p90", kind="quantile", quantile=0.9), actor="ada", at=AT)
        spec = draft(
            "wrong",
            data="summary",
            metrics=[PlanMetric(metric_key="p90", role=Role.PRIMARY)],
            estimation=Estimation(correction="dunnett", sequential=Sequential(method="group_sequential")),
        )
        with pytest.raises(InvalidDefinition) as refused:
            await experiment.create(session, spec=spec, actor="ada", at=AT)
    assert {fault.pointer for fault in refused.value.errors} == {
        "/metrics/0/metric_key",
        "/estimation/correction",
        "/estimation/sequential",
    }
