"""Which options of a plan go together, decided when they are written down (METHODS A6, A11, B2, B4, C5).

What one definition can check alone it does itself; these rules need the metrics that an experiment names.
"""

from collections.abc import Iterable, Iterator, Mapping

from experiments.definitions import (
    Estimation,
    ExperimentSpec,
    FactSourceSpec,
    MetricSpec,
    PlanMetric,
    Role,
    place_of,
)
from experiments.errors import FieldError
from stats.bayes.prior import FLAT_FROM, Family, Prior
from stats.formula import parse

_FEWEST_FOR_DUNNETT = 2


def plan_faults(spec: ExperimentSpec, known: Mapping[str, MetricSpec]) -> list[FieldError]:
    """Faults with the place of each; metrics that do not exist are somebody else's fault and are passed over."""
    return [
        *_corrections(spec),
        *_sequential(spec, known),
        *_beliefs(spec),
        *_summaries(spec, known),
        *_exposure_segments(spec),
    ]


def home_faults(spec: ExperimentSpec, sources: Iterable[FactSourceSpec]) -> list[FieldError]:
    """Whether one engine can read everything: tables of one connection, exposures among them, or no table at all."""
    if spec.data == "summary":
        return []
    homes: dict[str | None, list[str]] = {}
    for source in sources:
        homes.setdefault(place_of(source), []).append(source.key)
    if set(homes) <= {None}:
        return []
    if len(homes) > 1:
        places = ", ".join(
            f"{', '.join(keys)} in {'Northlift' if home is None else f'the connection `{home}`'}"
            for home, keys in sorted(homes.items(), key=lambda item: (item[0] or "", item[1]))
        )
        return [FieldError("/metrics", f"the fact sources live in different places ({places}): use those of one")]
    if spec.exposures is None:
        where = next(iter(homes))
        detail = f"the metrics are measured in the connection `{where}`, so exposures must be a table there: name it"
        return [FieldError("/exposures", detail)]
    return []


def _corrections(spec: ExperimentSpec) -> Iterator[FieldError]:
    treatments = len(spec.variants) - 1
    if spec.estimation.correction == "dunnett" and treatments < _FEWEST_FOR_DUNNETT:
        yield FieldError(
            "/estimation/correction", "`dunnett` compares several treatments with one control: use `holm` with one"
        )


def _sequential(spec: ExperimentSpec, known: Mapping[str, MetricSpec]) -> Iterator[FieldError]:
    """Error spending needs an amount of information to spend it over, and units are one only in closed windows (B4)."""
    if spec.estimation.sequential.method != "group_sequential":
        return
    primaries = [(i, item) for i, item in enumerate(spec.metrics) if item.role is Role.PRIMARY]
    if not primaries:
        return
    unsized = [(i, item) for i, item in primaries if item.mde is None]
    if len(unsized) == len(primaries) and spec.planned_units is None:
        yield FieldError(
            "/estimation/sequential",
            "`group_sequential` spends its error over planned information: give a primary metric an `mde`, "
            "or the experiment `planned_units`",
        )
    for i, item in unsized:
        if open_ended(item, known):
            yield FieldError(
                f"/metrics/{i}/mde",
                f"`{item.metric_key}` has no closed window, so units are no measure of its information: "
                "`group_sequential` needs its `mde`",
            )


def _beliefs(spec: ExperimentSpec) -> Iterator[FieldError]:
    """A prior may not decide alone, and posteriors without one mislead whoever looks early (C5)."""
    options = spec.estimation
    if options.engine == "frequentist":
        return
    yield from _convinced(options)
    if options.sequential.method == "fixed":
        return
    where = "/estimation/beliefs/prior"
    why = "with nothing to find, 28 daily looks show a chance to win above 95 % in 23 % of experiments"
    once = "look once (`sequential.method` fixed)"
    if options.beliefs.prior == "flat":
        yield FieldError(where, f"a flat prior cannot be monitored, {why}: {once}, or use a learned prior")
    elif options.prior_scale >= FLAT_FROM:
        scale = f"a stated prior as wide as {options.prior_scale:g} is flat in all but name and cannot be monitored"
        yield FieldError(where, f"{scale}, {why}: {once}, or state a `prior_scale` below {FLAT_FROM:g}")


def _convinced(options: Estimation) -> Iterator[FieldError]:
    """Whether the stated prior has the chance to win, or to lose, that decides before there are any data."""
    if options.beliefs.prior == "flat":
        return
    prior = Prior(Family(options.beliefs.family), options.prior_mean, options.prior_scale, "plan")
    chance = prior.chance_above_zero
    if max(chance, 1 - chance) >= options.beliefs.chance_to_win:
        yield FieldError(
            "/estimation/prior_mean",
            f"the stated prior decides without any data: it is {max(chance, 1 - chance):.4g} sure of the sign of the "
            f"effect, and the plan asks for {options.beliefs.chance_to_win:g}; state a mean nearer to 0 or a wider "
            "`prior_scale`",
        )


def open_ended(item: PlanMetric, known: Mapping[str, MetricSpec]) -> bool:
    """Whether units that are already counted can still change the metric."""
    spec = known.get(item.metric_key)
    if spec is None:
        return False
    if spec.formula is not None:
        parts = (known.get(name) for name in parse(spec.formula).names)
        return any(part is not None and part.window_days is None for part in parts)
    return spec.window_days is None


def _summaries(spec: ExperimentSpec, known: Mapping[str, MetricSpec]) -> Iterator[FieldError]:
    """A mean and a variance say nothing about quantiles."""
    if spec.data != "summary":
        return
    for i, item in enumerate(spec.metrics):
        if item.metric_key in known and known[item.metric_key].kind == "quantile":
            yield FieldError(f"/metrics/{i}/metric_key", "a quantile metric needs single units: use data = events")


def _exposure_segments(spec: ExperimentSpec) -> Iterator[FieldError]:
    """Exposures that are rows of a fact source carry the segments that are named, and no others."""
    if spec.exposures is None:
        return
    named = {name.lower() for name in spec.exposures.segments}
    wanted = [
        ("/cluster", [spec.cluster] if spec.cluster is not None else []),
        ("/segments", spec.segments),
        ("/estimation/stratify_by", spec.estimation.stratify_by),
    ]
    for pointer, names in wanted:
        if missing := [name for name in names if name.lower() not in named]:
            yield FieldError(pointer, f"`exposures.segments` names no column for {', '.join(missing)}")
