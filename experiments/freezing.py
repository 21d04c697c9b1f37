"""Freezing: from definitions that live on to a plan that does not change (METHODS H1).

A plan is complete: it pins the version of every metric it needs (those of the team, those its formulas name, those of
the North Star's tree), the fact sources as they are, and all options. Its SHA-256 names it in every result.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import fact_source, learned_prior, metric, north_star, tree_gaps
from experiments.definitions import ExperimentSpec, FactSourceSpec, NorthStarSpec, PlanMetric, Role
from experiments.errors import FieldError, InvalidDefinition, NotFound, PlanIncomplete
from experiments.metric import Known
from experiments.places import by_place
from experiments.plan import AnalysisPlan, BaselinePlan, NorthStarPlan, PlannedMetric, PlannedNorthStar
from experiments.plan_rules import home_faults, plan_faults
from experiments.tables import Experiment
from stats.formula import parse


async def freeze(session: AsyncSession, experiment: Experiment, *, pinned: AnalysisPlan | None = None) -> AnalysisPlan:
    """The plan of an experiment as it is defined now. Changes nothing.

    With `pinned` (the plan that is amended), whatever was in it keeps the very definition and prior it had. Raises
    `PlanIncomplete` without a primary metric, `InvalidDefinition` for a metric or North Star that does not exist.
    """
    spec = ExperimentSpec.model_validate(experiment.spec)
    if not any(item.role is Role.PRIMARY for item in spec.metrics):
        raise PlanIncomplete(
            "The experiment has no primary metric",
            remedy="Give at least one metric the role `primary`: it is what the verdict is about.",
            errors=[FieldError("/metrics", "needs at least one metric with the role `primary`")],
        )
    await check(session, spec=spec)
    kept = {item.metric_key: Known(item.spec, item.version) for item in pinned.metrics} if pinned else {}
    known = await metric.all_known(session) | kept
    guide = await _north_star(session, spec, pinned)
    planned = await _with_priors(session, spec, _planned(spec, known, guide.spec if guide else None), pinned)
    before = {source.key: source for source in pinned.fact_sources} if pinned else {}
    sources = await sources_of(session, planned, before, _sources_beside(spec))
    _refuse(home_faults(spec, sources))
    return AnalysisPlan(
        experiment_key=spec.key,
        unit_type=spec.unit_type,
        data=spec.data,
        variants=sorted(spec.variants, key=lambda variant: not variant.is_control),
        metrics=planned,
        fact_sources=sources,
        north_star=guide,
        segments=spec.segments,
        purpose=spec.purpose,
        coverage=spec.coverage,
        north_star_share=spec.north_star_share,
        cluster=spec.cluster,
        trigger=spec.trigger,
        exposures=spec.exposures,
        two_way_segments=spec.two_way_segments,
        planned_units=spec.planned_units,
        planned_end_at=spec.planned_end_at,
        estimation=spec.estimation,
    )


async def check(session: AsyncSession, *, spec: ExperimentSpec) -> None:
    """Whether everything the definition names exists and is about its unit. Raises `InvalidDefinition`."""
    known = await metric.all_known(session, archived=True)
    errors: list[FieldError] = []
    for position, item in enumerate(spec.metrics):
        pointer = f"/metrics/{position}/metric_key"
        if item.metric_key not in known:
            errors.append(FieldError(pointer, f"there is no metric `{item.metric_key}`"))
            continue
        definition = known[item.metric_key].spec
        unit = await metric.unit_type_of(session, spec=definition, known=known)
        if spec.data == "events" and metric.only_summaries(definition, known):
            errors.append(FieldError(pointer, f"`{item.metric_key}` has no measure: only summaries can feed it"))
        elif unit not in (None, spec.unit_type):
            errors.append(
                FieldError(pointer, f"`{item.metric_key}` is per {unit}, the experiment per {spec.unit_type}")
            )
    if spec.north_star_key is not None:
        errors += await _faults_of_north_star(session, spec)
    errors += await _faults_of_sources(session, spec)
    faults = plan_faults(spec, {key: item.spec for key, item in known.items()})
    if not errors:
        guide = None
        if spec.north_star_key is not None:
            guide = north_star.spec_of(await north_star.get(session, key=spec.north_star_key))
        sources = await sources_of(session, _planned(spec, known, guide), {}, _sources_beside(spec))
        faults += home_faults(spec, sources)
    if errors:
        raise InvalidDefinition(
            f"The experiment refers to what it cannot use: {errors[0].detail}",
            remedy="Register what is missing first, or correct the keys under `errors`.",
            errors=[*errors, *faults],
        )
    _refuse(faults)


def _refuse(faults: Sequence[FieldError]) -> None:
    if faults:
        raise InvalidDefinition(
            f"Options of the plan do not go together: {faults[0].detail}",
            remedy="Change the options under `errors`; each says what would do.",
            errors=faults,
        )


async def north_star_plan(session: AsyncSession, *, key: str, weeks: int = 156) -> NorthStarPlan:
    """The plan of a North Star's weekly series, as long as a ledger looks back (F6), at its current version.

    Its facts may be in several places: totals are made where each source is. Raises `NotFound`.
    """
    row = await north_star.get(session, key=key)
    spec = north_star.spec_of(row)
    known = await metric.all_known(session, archived=True)
    planned = [pin(PlanMetric(metric_key=k, role=Role.MONITOR), known) for k in north_star.metric_keys_of(spec)]
    return NorthStarPlan(
        north_star=PlannedNorthStar(version=row.version, spec=spec),
        metrics=planned,
        fact_sources=await sources_of(session, planned, {}),
        weeks=weeks,
    )


async def baseline_plan(session: AsyncSession, *, unit_type: str, weeks: int = 8) -> BaselinePlan:
    """The plan of the history of all metrics per this unit. Raises `NotFound` when there is none.

    Formulas are among them, except those that name a metric of another unit or an archived one. Metrics whose parts are
    in several places (`places.by_place`) are not.
    """
    known = await metric.all_known(session)
    ever = (await metric.all_known(session, archived=True)).keys()
    of_unit = [
        key
        for key, item in sorted(known.items())
        if item.spec.kind != "formula" and await metric.unit_type_of(session, spec=item.spec, known=known) == unit_type
    ]
    formulas = ((key, item.spec.formula) for key, item in sorted(known.items()) if item.spec.formula is not None)
    of_unit += [key for key, formula in formulas if set(parse(formula, ever).names) <= set(of_unit)]
    planned = [pin(PlanMetric(metric_key=key, role=Role.MONITOR), known) for key in of_unit]
    plan = BaselinePlan(
        unit_type=unit_type, metrics=planned, fact_sources=await sources_of(session, planned, {}), weeks=weeks
    )
    measured = {item.metric_key for place in by_place(plan).values() for item in place.metrics}
    if not measured:
        raise NotFound(f"There is no metric per {unit_type}", remedy="Register a metric on facts of this unit first.")
    return plan.model_copy(update={"metrics": [item for item in planned if item.metric_key in measured]})


async def _faults_of_north_star(session: AsyncSession, spec: ExperimentSpec) -> list[FieldError]:
    assert spec.north_star_key is not None
    try:
        row = await north_star.get(session, key=spec.north_star_key)
    except NotFound:
        return [FieldError("/north_star_key", f"there is no North Star `{spec.north_star_key}`")]
    known = await metric.all_known(session, archived=True)
    unit = await metric.unit_type_of(session, spec=known[north_star.spec_of(row).metric_key].spec, known=known)
    if unit == spec.unit_type:
        return []
    return [FieldError("/north_star_key", f"`{row.key}` is per {unit}, the experiment per {spec.unit_type}")]


def _sources_beside(spec: ExperimentSpec) -> set[str]:
    """The sources that an experiment names itself."""
    return {named.fact_source for named in (spec.trigger, spec.exposures) if named is not None}


async def _faults_of_sources(session: AsyncSession, spec: ExperimentSpec) -> list[FieldError]:
    known = await fact_source.by_keys(session, keys=_sources_beside(spec))
    faults = []
    for field, named in (("trigger", spec.trigger), ("exposures", spec.exposures)):
        if named is None:
            continue
        pointer, source = f"/{field}/fact_source", known.get(named.fact_source)
        if source is None:
            faults.append(FieldError(pointer, f"there is no fact source `{named.fact_source}`"))
        elif source.unit_type != spec.unit_type:
            unit = f"`{source.key}` is per {source.unit_type}, the experiment per {spec.unit_type}"
            faults.append(FieldError(pointer, unit))
    return faults


async def _north_star(
    session: AsyncSession, spec: ExperimentSpec, pinned: AnalysisPlan | None
) -> PlannedNorthStar | None:
    if spec.north_star_key is None:
        return None
    if pinned is not None and pinned.north_star is not None and pinned.north_star.spec.key == spec.north_star_key:
        return pinned.north_star
    row = await north_star.get(session, key=spec.north_star_key)
    guide = north_star.spec_of(row)
    gaps = await tree_gaps.past_gaps(session, spec=guide, besides=spec.key)
    return PlannedNorthStar(version=row.version, spec=guide, past_gaps=gaps)


def _planned(spec: ExperimentSpec, known: Mapping[str, Known], guide: NorthStarSpec | None) -> list[PlannedMetric]:
    """The team's metrics, then what the tree and the formulas need besides, as `monitor`."""
    wanted = {item.metric_key: item for item in spec.metrics}

    def also(keys: Iterable[str]) -> None:
        for key in keys:
            wanted.setdefault(key, PlanMetric(metric_key=key, role=Role.MONITOR))

    if guide is not None:
        also(north_star.metric_keys_of(guide))
    for key in list(wanted):
        formula = known[key].spec.formula
        if formula is not None and spec.data == "events":  # a summary brings the value of the formula itself
            also(parse(formula).names)
    return [pin(item, known) for item in wanted.values()]


def pin(item: PlanMetric, known: Mapping[str, Known]) -> PlannedMetric:
    """The metric with the version of its definition that is known."""
    current = known[item.metric_key]
    return PlannedMetric(
        metric_key=item.metric_key,
        version=current.version,
        role=item.role,
        direction=item.direction or current.spec.direction,
        mde=item.mde,
        non_inferiority_margin=item.non_inferiority_margin,
        spec=current.spec,
    )


async def _with_priors(
    session: AsyncSession, spec: ExperimentSpec, planned: list[PlannedMetric], pinned: AnalysisPlan | None
) -> list[PlannedMetric]:
    """The metrics with the learned priors that they have now; those of the amended plan keep what they had.

    A metric without one keeps None: the prior that the plan states then stands (METHODS C3).
    """
    if spec.estimation.beliefs.prior != "learned":
        return planned
    kept = {}
    if pinned is not None and pinned.estimation.beliefs.prior == "learned":
        kept = {item.metric_key: item.prior for item in pinned.metrics}
    new = [item.metric_key for item in planned if item.metric_key not in kept]
    priors = kept | await learned_prior.pinned(session, metric_keys=new, experiment_key=spec.key, team=spec.team)
    return [item.model_copy(update={"prior": priors.get(item.metric_key)}) for item in planned]


async def sources_of(
    session: AsyncSession,
    planned: Sequence[PlannedMetric],
    pinned: Mapping[str, FactSourceSpec],
    also: Set[str] = frozenset(),
) -> list[FactSourceSpec]:
    """The fact sources of these metrics and `also` these, by key; the pinned ones as they were."""
    keys = {measure.fact_source for item in planned for measure in metric.measures_of(item.spec).values()} | also
    sources = dict[str, FactSourceSpec]()
    while missing := keys - sources.keys():
        found = await fact_source.by_keys(session, keys=missing - pinned.keys())
        found |= {key: pinned[key] for key in missing & pinned.keys()}
        sources |= found
        # Also those that say whose the facts of these are; a key that is not there was never registered.
        keys = {spec.unit_mapping.fact_source for spec in found.values() if spec.unit_mapping is not None}
    return [sources[key] for key in sorted(sources)]
