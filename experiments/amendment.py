"""Amendments: changing a frozen plan in the open. Every later result lists them (METHODS H1)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, freezing, lifecycle
from experiments.definitions import ExperimentSpec
from experiments.errors import FieldError, InvalidDefinition, NotReady
from experiments.experiment import ADMINISTRATIVE, write_spec
from experiments.plan import AnalysisPlan, document, plan_hash
from experiments.tables import Amendment, Experiment
from experiments.validation import parse

_UNAMENDABLE = ("key", "unit_type", "data")


async def amend(
    session: AsyncSession,
    *,
    experiment: Experiment,
    reason: str,
    changes: Mapping[str, Any],
    actor: str,
    at: datetime,
    refresh_definitions: bool = False,
    expected: int | None = None,
) -> Amendment:
    """Write the top-level fields in `changes` into the definition and freeze it again.

    What was planned keeps its pinned definitions unless `refresh_definitions`. New weights or a new coverage begin a
    new phase of a running experiment. Raises `NotReady` for a draft or an archived experiment, `InvalidDefinition` for
    what cannot be amended or when nothing would change, `PlanIncomplete`, `VersionConflict`.
    """
    if experiment.plan is None or experiment.plan_hash is None or experiment.status == "archived":
        raise NotReady(
            f"`{experiment.key}` is {experiment.status}: only a started experiment has a plan to amend",
            remedy="Edit a draft with PATCH; archived experiments stay as they are.",
        )
    before = parse(ExperimentSpec, experiment.spec)
    after = parse(ExperimentSpec, {**experiment.spec, **changes})
    _refuse_another_experiment(before, after, changes)
    pinned = None if refresh_definitions else AnalysisPlan.model_validate(experiment.plan)
    old_plan, old_hash = experiment.plan, experiment.plan_hash
    edited = Experiment(key=experiment.key, name=after.name, spec=after.model_dump(mode="json"))
    plan = document(await freezing.freeze(session, edited, pinned=pinned))
    differences = [*_texts(before, after), *diff(old_plan, plan, "/plan")]
    if not differences:
        raise InvalidDefinition(
            "The amendment changes nothing", remedy="Send the fields to change with their new values in `changes`."
        )
    amendment = Amendment(
        experiment_id=experiment.id,
        at=at,
        actor=actor,
        reason=reason,
        changes=differences,
        plan_hash_before=old_hash,
        plan_hash_after=plan_hash(plan),
    )
    await write_spec(
        session, experiment=experiment, spec=after, expected=expected, at=at, plan=plan, plan_hash=plan_hash(plan)
    )
    allocation_changed = after.variants != before.variants or after.coverage != before.coverage
    if experiment.status == "running" and allocation_changed:
        await lifecycle.change_phase(session, experiment=experiment, moment=at)
    session.add(amendment)
    audit.record(
        session,
        actor=actor,
        action="experiment.amended",
        subject_type="experiment",
        subject_key=experiment.key,
        at=at,
        before={"plan_hash": old_hash},
        after={"plan_hash": amendment.plan_hash_after, "reason": reason, "changes": differences},
    )
    await session.flush()
    return amendment


async def of(session: AsyncSession, *, experiment: Experiment) -> Sequence[Amendment]:
    """All amendments, oldest first."""
    statement = sa.select(Amendment).where(col(Amendment.experiment_id) == experiment.id)
    return (await session.scalars(statement.order_by(col(Amendment.at), col(Amendment.id)))).all()


def diff(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Every place where two JSON documents differ, as `{path, before, after}`. Lists of things with keys (variants,

    metrics) are compared by key, so that inserting one is one difference.
    """
    if before == after:
        return
    left, right = _keyed(before), _keyed(after)
    if left is None or right is None:
        yield {"path": path, "before": before, "after": after}
        return
    for name in [*left, *(name for name in right if name not in left)]:
        yield from diff(left.get(name), right.get(name), f"{path}/{name}")


def _keyed(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for key in ("metric_key", "key"):
            if all(key in item for item in value):
                return {str(item[key]): item for item in value}
    return None


def _texts(before: ExperimentSpec, after: ExperimentSpec) -> Iterator[dict[str, Any]]:
    """What was registered but is no part of the plan document."""
    if before.hypothesis != after.hypothesis:
        yield {"path": "/hypothesis", "before": before.hypothesis, "after": after.hypothesis}


def _refuse_another_experiment(before: ExperimentSpec, after: ExperimentSpec, changes: Mapping[str, Any]) -> None:
    errors = [
        FieldError(f"/changes/{field}", "cannot be amended")
        for field in _UNAMENDABLE
        if getattr(before, field) != getattr(after, field)
    ]
    arms = [{(variant.key, variant.is_control) for variant in spec.variants} for spec in (before, after)]
    if arms[0] != arms[1]:
        errors.append(FieldError("/changes/variants", "variants cannot be added, removed, or take over as control"))
    if (before.exposures is None) != (after.exposures is None):
        errors.append(FieldError("/changes/exposures", "exposures stay where they are: sent, or in a fact source"))
    errors += [
        FieldError(f"/changes/{field}", "is not part of the plan: PATCH the experiment")
        for field in changes
        if field in ADMINISTRATIVE
    ]
    if errors:
        raise InvalidDefinition(
            f"{errors[0].pointer}: {errors[0].detail}",
            remedy="What changes the meaning of the data needs a new experiment; `parent_key` keeps the lineage.",
            errors=errors,
        )
