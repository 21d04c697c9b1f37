"""Columns of the plan as conditional aggregates over facts joined to exposures: one GROUP BY serves them all."""

from dataclasses import dataclass

from experiments.columns import Column
from experiments.definitions import Filter, Measure
from warehouse.engine import MICROSECONDS_A_DAY, Parameters, days_us, identifier
from warehouse.sources import FactRelation, predicate


@dataclass(frozen=True, slots=True)
class Span:
    """Microseconds relative to exposure: facts with `start` <= time since exposure < `end` (None: until the look)."""

    start: int
    end: int | None

    def condition(self, look: str) -> str:
        """SQL over `since` (time since exposure) and `at_us`; `look` is where open-ended spans end."""
        end = f"at_us < {look}" if self.end is None else f"since < {self.end}"
        return f"since >= {self.start} AND {end}"


def span_of(column: Column) -> Span:
    """The half-open period in which a column's facts lie."""
    if column.period == "pre":
        return Span(-days_us(column.pre_period_days), 0)
    start = days_us(column.delay_days)
    return Span(start, None if column.window_days is None else start + days_us(column.window_days))


class FactQuery:
    """What one fact source must deliver: inputs, each once, and an aggregate for every column of the plan."""

    def __init__(self, source: FactRelation, parameters: Parameters) -> None:
        self.source = source
        self.parameters = parameters
        self._inputs: dict[str, str] = {}
        self._filters: dict[str, str] = {}

    def aggregate(self, measure: Measure, condition: str) -> str:
        """SQL DOUBLE: the measure over the facts for which `condition` holds, 0 without such facts."""
        where = " AND ".join([condition, *(self._filter(item) for item in measure.filters)])
        return f"CAST(coalesce({self._raw(measure, where)}, 0) AS DOUBLE)"

    def _raw(self, measure: Measure, where: str) -> str:
        match measure.aggregation:
            case "sum":
                # Compensated, so that the sum of a unit's facts does not depend on the order threads found them in.
                return f"fsum(CASE WHEN {where} THEN {self._number(measure)} END)"
            case "max":
                # NaN and -inf must not hide behind a larger value: all that is not finite becomes +inf.
                value = self._number(measure)
                return (
                    f"max(CASE WHEN {where} THEN CASE WHEN isfinite({value}) THEN {value} ELSE 'inf'::DOUBLE END END)"
                )
            case "count":
                return f"count(CASE WHEN {where} THEN 1 END)"
            case "any":
                return f"max(CASE WHEN {where} THEN 1 END)"
            case "distinct_days":
                return f"count(DISTINCT CASE WHEN {where} THEN at_us // {MICROSECONDS_A_DAY} END)"

    def facts(self, *, earliest_us: int | None, latest_us: int) -> str:
        """SELECT of (unit_id, at_us, inputs) for the facts in [earliest, latest); those without a unit or a time are none."""
        inputs = "".join(f", {expression} AS {name}" for expression, name in self._inputs.items())
        unit = identifier(self.source.unit)
        bounds = [f"{unit} IS NOT NULL", self.source.time_test("<", self.parameters.add(latest_us))]
        if earliest_us is not None:
            bounds.append(self.source.time_test(">=", self.parameters.add(earliest_us)))
        return (
            f"SELECT CAST({unit} AS VARCHAR) AS unit_id, {self.source.time_us} AS at_us{inputs} "
            f"FROM {self.source.relation} WHERE {' AND '.join(bounds)}"
        )

    def _number(self, measure: Measure) -> str:
        return self._input(self.source.number(measure.column))

    def _filter(self, condition: Filter) -> str:
        key = condition.model_dump_json()
        if key not in self._filters:
            self._filters[key] = self._input(predicate(self.source, condition, self.parameters))
        return self._filters[key]

    def _input(self, expression: str) -> str:
        return self._inputs.setdefault(expression, f"i{len(self._inputs)}")
