"""Every experiment that ended is in a programme or missing for a reason, and so is every holdout (METHODS F1, F3)."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments import analysis_request, experiment, holdout, lifecycle, programme_plan, refresh
from experiments.database import Database
from experiments.definitions import HoldoutSpec, PlanMetric, Role
from experiments.errors import InvalidDefinition, NotFound, NotReady, VersionConflict
from experiments.evidence import programme_result
from experiments.plan import ProgrammePlan, document, load
from experiments.result import Persistence, ToplineImpact
from experiments.tables import Experiment
from tests.experiments.programmes import BEGAN, UNITS, analyse, conducted
from tests.experiments.shop import AT, draft, open_shop

pytestmark = pytest.mark.anyio

WHO: dict[str, Any] = {"actor": "ada", "at": AT}
HOLDOUT: dict[str, Any] = {
    "key": "autumn",
    "name": "Autumn",
    "experiment_key": "held",
    "metric_key": "revenue",
    "started_at": BEGAN,
}


async def planned(database: Database, **options: Any) -> ProgrammePlan:
    async with database.read() as session:
        return (await programme_plan.programme_plan(session, metric_key="revenue", at=AT, **options))[0]


async def test_winners_losers_and_what_has_no_effect_are_all_in_the_plan(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await conducted(session, "won", 0.05, ship=True, team="growth", owner="ada")
        await conducted(session, "lost", -0.03)
        await conducted(session, "short", 0.04, ship=True, days=3)
        await conducted(session, "mismatch", 0.2, units=(UNITS, 2 * UNITS))
        await conducted(session, "forgotten", 0.0, analysed=False)
        await conducted(session, "same", 0.0, purpose="aa")
        await conducted(session, "elsewhere", 0.0, metrics=[PlanMetric(metric_key="cost", role=Role.PRIMARY)])
        running = await experiment.create(session, spec=draft("running", data="summary"), **WHO)
        await lifecycle.start(session, experiment=running, **WHO)
    plan = await planned(database)
    effects = {each.experiment_key: each for each in plan.effects}
    assert {each.experiment_key: each.reason for each in plan.missing} == {
        "mismatch": "unreliable",
        "forgotten": "never_analysed",
    }
    assert sorted(effects) == ["lost", "short", "won"] and plan.started == 5
    won = effects["won"]
    assert won.log_lift == pytest.approx(np.log(1.05), abs=1e-9) and won.standard_error == pytest.approx(0.01, rel=0.05)
    assert (won.shipped, won.outcome, won.launch_key, won.team, won.owner) == (True, "ship", "won", "growth", "ada")
    assert (won.topline_source, won.topline_log_lift, won.variants) == ("everybody", won.log_lift, 1)
    assert (won.evidence_grade, won.bias_sd) == ("A", 0.0)
    short = effects["short"]
    assert short.evidence_grade == "B" and short.bias_sd == pytest.approx(0.25 * short.standard_error)
    assert not effects["lost"].shipped and effects["lost"].launch_key is None
    assert load(document(plan)) == plan
    with pytest.raises(NotFound):
        async with database.read() as session:
            await programme_plan.programme_plan(session, metric_key="nothing", at=AT)


async def test_an_effect_is_the_companys_where_its_share_was_measured(database: Database) -> None:
    share = ToplineImpact(
        metric_key="revenue", variant_key="new", source="measured", share=0.4, share_standard_error=0.01,
        share_of_units=0.3, log_lift=0.025, standard_error=0.004, lift=0.025, ci_lower=0.0, ci_upper=0.04,
        ci_level=0.95, naive_lift=0.015, reach=[], estimable=True,
    )  # fmt: skip
    blank: dict[str, Any] = dict.fromkeys(set(Persistence.model_fields) - {"curve"})
    lasting = Persistence(
        **blank | {"metric_key": "revenue", "variant_key": "new", "remaining": 0.4, "remaining_log_sd": 0.3}
        | {"lasting": 0.6, "lasting_log_sd": 0.2, "half_life_days": 9.0}
        | {"transient": False, "identified": True, "estimable": True}
    )  # fmt: skip
    async with database.write() as session:
        await open_shop(session)
        row = await conducted(session, "won", 0.05, ship=True)
        await analyse(session, row, 0.05, at=AT - timedelta(days=1), topline=[share], persistence=[lasting])
    effect = (await planned(database)).effects[0]
    assert effect.topline_source == "measured"
    # Of a ratio the share of its numerator says too little: the result has taken both its parts into account.
    assert (effect.topline_log_lift, effect.topline_standard_error) == pytest.approx((0.025, 0.004))
    assert effect.persistence is not None and effect.persistence.remaining == 0.6


async def test_a_plan_of_the_past_knows_what_was_known_then(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await conducted(session, "first", 0.05, ship=True)
        later = {"began": BEGAN + timedelta(days=60), "parent_key": "first", "relation": "replicates"}
        await conducted(session, "later", 0.02, ship=True, **later)
    assert [each.replicates for each in (await planned(database)).effects] == [None, "first"]
    async with database.read() as session:
        then = BEGAN + timedelta(days=29)
        plan, as_of = await programme_plan.programme_plan(session, metric_key="revenue", at=then)
    assert [(each.experiment_key, each.shipped) for each in plan.effects] == [("first", False)]
    assert as_of == then


async def test_a_programme_is_due_when_effects_decisions_or_holdouts_changed(database: Database) -> None:
    async def due() -> list[refresh.Due]:
        async with database.read() as session:
            found = await refresh.due(session, at=AT, every=timedelta(hours=1))
        return [each for each in found if each.kind == "programme"]

    async def ask() -> bool:
        async with database.write() as session:
            return (await analysis_request.of_programme(session, metric_key="revenue", **WHO))[1]

    async with database.write() as session:
        await open_shop(session)
    with pytest.raises(NotReady, match="No experiment"):
        await ask()
    async with database.write() as session:
        row = await conducted(session, "won", 0.05, ship=True)
        await conducted(session, "bad", 0.05, units=(UNITS, 2 * UNITS))
    assert await due() == []  # nobody asked for it, and no North Star is about it
    assert await ask() and not await ask()
    assert await due() == []
    async with database.write() as session:
        await analyse(session, await session.get_one(Experiment, row.id), 0.04, at=AT - timedelta(hours=5))
    again = await due()
    assert [each.subject_key for each in again] == ["revenue"]
    async with database.write() as session:
        assert (await refresh.submit_due(session, again[0], at=AT, max_attempts=5))[1]
    assert await due() == []
    async with database.write() as session:
        await conducted(session, "held", 0.03, purpose="holdout")
        await holdout.create(session, spec=HoldoutSpec.model_validate(HOLDOUT), **WHO)
    assert len(await due()) == 1


async def test_a_holdout_is_measured_by_its_experiment_and_set_against_its_launches(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        for i in range(5):
            await conducted(session, f"won-{i}", 0.05 + 0.001 * i, ship=True)
        await conducted(session, "before", 0.05, ship=True, began=BEGAN - timedelta(days=60))
        await conducted(session, "held", 0.30, days=100, purpose="holdout")
        await holdout.create(session, spec=HoldoutSpec.model_validate(HOLDOUT), **WHO)
    plan = await planned(database)
    assert "held" not in {each.experiment_key for each in [*plan.effects, *plan.missing]}
    held = plan.holdouts[0]
    assert held.launch_keys == [f"won-{i}" for i in range(5)] and held.share == 0.5
    assert held.log_lift == pytest.approx(np.log(1.3)) and held.reason is None
    found = programme_result(plan, analysis_id="a", data_as_of=AT, code_version="test").holdouts[0]
    assert found.claimed is not None and found.kappa == pytest.approx(np.log(1.3) / found.claimed)
    assert found.kappa_lower is not None and found.kappa_upper is not None
    assert found.kappa_lower < found.kappa < found.kappa_upper and not found.kappa_unbounded
    assert {check.name: check.status for check in found.checks} == {
        "sample_ratio": "pass", "contamination": "pass", "length": "pass", "precision": "pass",
        "time_live": "warn",
    }  # fmt: skip


async def test_a_holdout_names_what_exists_and_fits_and_keeps_its_people(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await conducted(session, "won", 0.05, ship=True)
        await conducted(session, "held", 0.03, purpose="holdout")

    async def refused(**changes: Any) -> str:
        with pytest.raises(InvalidDefinition) as problem:
            async with database.write() as session:
                await holdout.create(session, spec=HoldoutSpec.model_validate(HOLDOUT | changes), **WHO)
        assert problem.value.remedy
        return problem.value.errors[0].pointer

    assert await refused(experiment_key="nothing") == "/experiment_key"
    assert await refused(experiment_key="won") == "/experiment_key"
    assert await refused(metric_key="nothing") == "/metric_key"
    assert await refused(metric_key="cost") == "/metric_key"
    assert await refused(launch_keys=["won", "nothing"]) == "/launch_keys/1"
    async with database.write() as session:
        row = await holdout.create(session, spec=HoldoutSpec.model_validate(HOLDOUT), **WHO)
        released = HoldoutSpec.model_validate(HOLDOUT | {"released_at": AT})
        await holdout.update(session, holdout=row, spec=released, expected=1, **WHO)
        assert row.version == 2
        with pytest.raises(VersionConflict):
            await holdout.update(session, holdout=row, spec=HoldoutSpec.model_validate(HOLDOUT), expected=1, **WHO)
        with pytest.raises(InvalidDefinition):
            moved = HoldoutSpec.model_validate(HOLDOUT | {"experiment_key": "won"})
            await holdout.update(session, holdout=row, spec=moved, expected=2, **WHO)
    async with database.read() as session:
        assert [each.key for each in (await holdout.page(session, metric_key="revenue")).items] == ["autumn"]
        assert (await holdout.page(session, metric_key="cost")).items == []


async def test_a_share_that_is_not_known_makes_no_claim_on_the_company(database: Database) -> None:
    """Shorter than a week: the programme says that it counts as everybody, the ledger takes the launch as blind."""
    unknown: dict[str, Any] = dict.fromkeys(set(ToplineImpact.model_fields) - {"reach"})
    topline = ToplineImpact(
        **unknown | {"metric_key": "revenue", "variant_key": "new", "source": "measured", "ci_level": 0.95}
        | {"estimable": False, "reason": "no_full_week"}, reach=[],
    )  # fmt: skip
    async with database.write() as session:
        await open_shop(session)
        row = await conducted(session, "won", 0.05, ship=True)
        await analyse(session, row, 0.05, at=AT - timedelta(days=1), topline=[topline])
    effect = (await planned(database)).effects[0]
    assert (effect.topline_log_lift, effect.topline_standard_error, effect.topline_source) == (None, None, "everybody")
