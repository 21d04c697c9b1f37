"""Kinds of metrics about order and days, from events to rows: what is found is what was put in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.definitions import Estimation, EventSource, FunnelStep, Measure, MetricSpec, Role
from experiments.result import ExperimentResult
from stats.moment_set import MomentSet
from tests.experiments import evidence_cases as evidence
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, slice_of, write_exposures, write_facts
from warehouse.extract import extract_experiment

type Yes = NDArray[np.bool_]
type Numbers = NDArray[np.float64]

BEFORE, AFTER, UNITS = 7, 14, 2400
VISITS, ORDERS = Measure(fact_source="visits"), Measure(fact_source="orders")
METRICS = (
    MetricSpec(
        key="second_week", name="Second week", kind="retention", measure=VISITS, delay_days=7, window_days=7,
        pre_period_days=7, likelihood="beta_binomial",
    ),
    MetricSpec(
        key="back_after_order", name="Back after an order", kind="retention", start=ORDERS, measure=VISITS,
        start_within_days=7, delay_days=0.5, window_days=5, pre_period_days=7,
    ),
    MetricSpec(
        key="ordered_at_once", name="Ordered at once", kind="funnel", window_days=7, pre_period_days=7,
        steps=[FunnelStep(measure=VISITS), FunnelStep(measure=ORDERS, within_days=0.5)],
    ),
    MetricSpec(
        key="visit_to_order", name="From visit to order", kind="funnel", funnel_of="first_step", window_days=7,
        steps=[FunnelStep(measure=VISITS), FunnelStep(measure=ORDERS)], pre_period_days=7,
    ),
    MetricSpec(
        key="days", name="Days with a visit", kind="participation", measure=VISITS, window_days=14, pre_period_days=7,
        covariates=[Measure(fact_source="orders", aggregation="sum"), ORDERS, ORDERS],
    ),
    MetricSpec(
        key="last_order", name="Last order", kind="mean", window_days=14, pre_period_days=7,
        measure=Measure(fact_source="orders", aggregation="last"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Days:
    """What units did on each of their days, the first `BEFORE` of them before exposure: a visit, an order an hour later
    (on a few days an order alone), its amount. All begin the experiment at the same moment.
    """

    visited: Yes
    ordered: Yes
    amount: Numbers

    @classmethod
    def drawn(cls, rng: np.random.Generator, treated: Yes) -> "Days":
        shape = (len(treated), BEFORE + AFTER)
        own = rng.beta(2, 6, len(treated))[:, None]
        moved = treated[:, None] & (np.arange(shape[1]) >= BEFORE)
        visited = rng.random(shape) < own * np.where(moved, 1.3, 1.0)
        ordered = rng.random(shape) < np.where(visited, np.where(moved, 0.42, 0.3), 0.01)
        return cls(visited, ordered, rng.integers(1, 20, shape) * np.where(moved, 1.2, 1.0))

    def values(self) -> dict[str, tuple[Numbers, Numbers | None]]:
        """Each metric per unit, with the denominator of a ratio."""
        visited, ordered, amount = (part[:, BEFORE:] for part in (self.visited, self.ordered, self.amount))
        day = np.arange(AFTER)
        started = ordered[:, :7].any(axis=1)
        first_order = np.where(started, ordered[:, :7].argmax(axis=1), AFTER)[:, None]
        returned = (visited & (day > first_order) & (day <= first_order + 5)).any(axis=1)
        entered = visited[:, :7].any(axis=1)
        first_visit = np.where(entered, visited[:, :7].argmax(axis=1), AFTER)[:, None]
        completed = (ordered[:, :7] & (day[:7] >= first_visit)).any(axis=1)
        last = AFTER - 1 - ordered[:, ::-1].argmax(axis=1)
        found: dict[str, tuple[Any, Any]] = {
            "second_week": (visited[:, 7:].any(axis=1), None),
            "back_after_order": (returned, started),
            "ordered_at_once": ((ordered & visited)[:, :7].any(axis=1), None),
            "visit_to_order": (completed, entered),
            "days": (visited.mean(axis=1), None),
            "last_order": (np.where(ordered.any(axis=1), np.take_along_axis(amount, last[:, None], 1)[:, 0], 0), None),
        }
        return {
            key: (top.astype(float), None if bottom is None else bottom.astype(float))
            for key, (top, bottom) in found.items()
        }


def level(values: tuple[Numbers, Numbers | None], chosen: Yes) -> tuple[float, float]:
    """The mean, or ratio of means, of the chosen units, and its variance by the textbook."""
    top, n = values[0][chosen], chosen.sum()
    if values[1] is None:
        return float(top.mean()), float(top.var(ddof=1) / n)
    bottom = values[1][chosen]
    ratio = top.mean() / bottom.mean()
    return float(ratio), float((top - ratio * bottom).var(ddof=1) / n / bottom.mean() ** 2)


@dataclass(frozen=True)
class Measured:
    days: Days
    treated: Yes
    moments: MomentSet
    plain: ExperimentResult
    adjusted: ExperimentResult


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("kinds")
    treated = np.arange(UNITS) % 2 == 1
    days = Days.drawn(np.random.default_rng(4), treated)
    arms = ("control", "treatment")

    def facts(happened: Yes, hour: float) -> list[Fact]:
        return [
            Fact(f"u{unit}", START + (day - BEFORE + hour / 24) * DAY, float(days.amount[unit, day]))
            for unit, day in zip(*np.nonzero(happened), strict=True)
        ]

    data = slice_of(
        [write_exposures(folder, [Exposure(f"u{i}", arms[int(treated[i])], START) for i in range(UNITS)])],
        {
            "visit": [write_facts(folder, facts(days.visited, 1), "visit")],
            "order": [write_facts(folder, facts(days.ordered, 2))],
        },
        data_as_of=START + 15 * DAY,
    )
    sources = (EventSource(key="visits", event="visit"), EventSource(key="orders", event="order"))
    plan = plan_of(METRICS, sources=sources)
    metrics = [metric.model_copy(update={"role": Role.PRIMARY}) for metric in plan.metrics]
    plain, adjusted = (
        plan.model_copy(update={"metrics": metrics, "estimation": Estimation(cuped=cuped)}) for cuped in (False, True)
    )
    moments = extract_experiment(plain, data)
    return Measured(days, treated, moments, evidence.document(plain, moments), evidence.document(adjusted, moments))


@pytest.mark.parametrize("key", [spec.key for spec in METRICS])
def test_the_effect_that_was_put_in_is_found_with_the_error_of_the_textbook(measured: Measured, key: str) -> None:
    row = evidence.row_of(measured.plain, key, "treatment")
    values = measured.days.values()[key]
    (control, error_c), (treatment, error_t) = (
        level(values, chosen) for chosen in (~measured.treated, measured.treated)
    )
    assert (row.mean_control, row.mean_treatment) == pytest.approx((control, treatment), rel=1e-12)
    assert row.difference == pytest.approx(treatment - control, rel=1e-9)
    assert row.difference_standard_error == pytest.approx(np.sqrt(error_c + error_t), rel=1e-9)
    rng, many = np.random.default_rng(5), np.arange(60_000) % 2 == 1
    true = Days.drawn(rng, many).values()[key]
    lift = level(true, many)[0] / level(true, ~many)[0] - 1
    assert row.ci_lower is not None and row.ci_upper is not None
    assert 0 < row.ci_lower < lift < row.ci_upper


@pytest.mark.parametrize("key", [spec.key for spec in METRICS])
def test_what_units_did_before_makes_the_estimate_more_precise(measured: Measured, key: str) -> None:
    plain, adjusted = (evidence.row_of(result, key, "treatment") for result in (measured.plain, measured.adjusted))
    assert adjusted.method.endswith("A7")
    assert adjusted.variance_reduction is not None and adjusted.variance_reduction > 0
    assert adjusted.difference is not None and plain.difference_ci_lower is not None
    assert plain.difference_ci_lower < adjusted.difference < (plain.difference_ci_upper or 0)


def test_methods_are_those_of_what_the_statistics_see(measured: Measured) -> None:
    used = {row.metric_key: row.method.split("+")[0] for row in measured.plain.rows}
    assert used == {
        "second_week": "A1", "back_after_order": "A4", "ordered_at_once": "A1", "visit_to_order": "A4", "days": "A1",
        "last_order": "A1",
    }  # fmt: skip


def test_shares_of_those_who_started_show_their_parts(measured: Measured) -> None:
    row = evidence.row_of(measured.plain, "visit_to_order", "treatment")
    top, bottom = measured.days.values()["visit_to_order"]
    assert row.ratio is not None and bottom is not None
    assert row.ratio.numerator.mean_control == pytest.approx(top[~measured.treated].mean(), rel=1e-12)
    assert row.ratio.denominator.mean_treatment == pytest.approx(bottom[measured.treated].mean(), rel=1e-12)


def test_a_retention_of_all_units_can_have_the_likelihood_of_a_proportion(measured: Measured) -> None:
    summary = measured.moments.units["second_week"]
    assert (summary.likelihood, summary.reason) == ("beta_binomial", "")


def test_a_covariate_that_says_what_another_says_is_dropped_with_a_note(measured: Measured) -> None:
    """A covariate twice is one column; one that is a multiple of another is collinear."""
    twice = METRICS[4].model_copy(
        update={
            "key": "twice",
            "covariates": [Measure(fact_source="visits", aggregation="distinct_days"), Measure(fact_source="never")],
        }
    )
    plan = plan_of([twice]).model_copy(update={"estimation": Estimation(cuped=True)})
    rng, arm = np.random.default_rng(1), np.arange(600) % 2
    before = rng.integers(0, 8, 600)
    days = rng.binomial(14, (before + 1) / 12)
    values = np.column_stack([days / 14, before / 7, before, np.zeros(600)])
    result = evidence.document(plan, evidence.moment_set(plan, values, arm))
    alone = plan_of([METRICS[4].model_copy(update={"key": "twice", "covariates": []})])
    alone = alone.model_copy(update={"estimation": Estimation(cuped=True)})
    once = evidence.document(alone, evidence.moment_set(alone, values[:, :2], arm))
    rows = [evidence.row_of(found, "twice", "treatment") for found in (result, once)]
    assert rows[0].standard_error == pytest.approx(rows[1].standard_error, rel=1e-9)
    (check,) = [check for check in result.checks if check.name == "covariate_adjustment"]
    assert check.status == "warn" and "collinear_covariates" in check.detail
