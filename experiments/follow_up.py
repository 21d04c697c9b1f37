"""The draft of an experiment that follows another one: what reviews propose becomes a pre-filled form (METHODS H5)."""

import re
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import experiment
from experiments.definitions import ExperimentSpec
from experiments.tables import Experiment

type Relation = Literal["iterates", "replicates"]

_LONGEST_KEY: Final = 63
_LONGEST_NAME: Final = 200
_COUNTED: Final = re.compile(r"^(.*?)([-_])(\d{1,3})$")
_NAMED: Final = re.compile(r" \((?:iteration|replication)(?: \d+)?\)$")
_WORD: Final = {"iterates": "iteration", "replicates": "replication"}
_WITHOUT_A_FIELD: Final = ("prior_mean", "srm_threshold", "seed")
"""Options of the estimation that the form does not ask for."""


async def follow_up(session: AsyncSession, *, parent: Experiment, relation: Relation) -> ExperimentSpec:
    """The parent's definition under the next free key, without the parent's dates. Registers nothing.

    A replication asks the same question of new units; an iteration starts from the same answers and is meant to be
    edited. What was planned in units stays, the day of the end does not: it lies in the past.
    """
    spec = experiment.spec_of(parent)
    key, number = await _free_key(session, parent.key)
    count = f" {number}" if number > 2 else ""
    ending = f" ({_WORD[relation]}{count})"
    return spec.model_copy(
        update={
            "key": key,
            "name": _NAMED.sub("", spec.name)[: _LONGEST_NAME - len(ending)] + ending,
            "planned_end_at": None,
            "parent_key": parent.key,
            "relation": relation,
        }
    )


def with_unseen_options(document: dict[str, Any], draft: ExperimentSpec) -> dict[str, Any]:
    """What was typed into a form, with what the draft says and no form asks for.

    Directions of metrics, where exposures are read, filters of the trigger, the declared share of the North Star, and
    the options of the estimation without a field stay as in the draft, as long as what they belong to does.
    """
    drafted = draft.model_dump(mode="json", exclude_none=True)
    directions = {item["metric_key"]: item.get("direction") for item in drafted["metrics"]}
    metrics = [
        ({"direction": direction} if (direction := directions.get(item.get("metric_key"))) else {}) | item
        for item in document.get("metrics", [])
    ]
    unseen = {name: drafted["estimation"][name] for name in _WITHOUT_A_FIELD}
    kept = {"metrics": metrics, "estimation": unseen | document.get("estimation", {})}
    trigger, was = document.get("trigger"), drafted.get("trigger")
    if trigger and was and trigger["fact_source"] == was["fact_source"]:
        kept["trigger"] = was
    if document.get("data") != "summary" and "exposures" in drafted:
        kept["exposures"] = drafted["exposures"]
    if document.get("data") == "summary" and "north_star_share" in drafted:
        kept["north_star_share"] = drafted["north_star_share"]
    return document | kept


async def _free_key(session: AsyncSession, key: str) -> tuple[str, int]:
    """`checkout` is followed by `checkout-2`, that by `checkout-3`; whatever is taken is passed over."""
    counted = _COUNTED.match(key)
    stem, joint, number = (counted[1], counted[2], int(counted[3]) + 1) if counted else (key, "-", 2)
    if not counted and "_" in key and "-" not in key:
        joint = "_"
    stem = stem[: _LONGEST_KEY - 5]
    statement = sa.select(col(Experiment.key)).where(col(Experiment.key).startswith(f"{stem}{joint}", autoescape=True))
    taken = set(await session.scalars(statement))
    while f"{stem}{joint}{number}" in taken:
        number += 1
    return f"{stem}{joint}{number}", number
