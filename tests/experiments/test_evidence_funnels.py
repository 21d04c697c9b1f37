"""Steps of a funnel: what each share and each effect says, from counts that anybody can count (METHODS A2, A4, A5)."""

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from experiments.definitions import Estimation
from experiments.result import FunnelStepEffect, StepShare
from tests.experiments.evidence_cases import (
    cluster_set,
    column,
    columns_of,
    document,
    moment_set,
    plan_of,
    planned,
    row_of,
    spec,
)

NAMES = ("Basket", "Address", "Payment", "Order")
STEPS = [{"name": name, "measure": column(name)} for name in NAMES]
ARM = np.arange(3000) % 2


def funnel(key="funnel", **extra):
    return planned(spec(key, "funnel", steps=STEPS, window_days=7, **extra), "primary")


def walked(chances, seed=1, arm=ARM):
    """(units, 4) of 0 and 1: who got how far; `chances` (arms, steps) of going on."""
    rng = np.random.default_rng(seed)
    return np.cumprod(rng.random((len(arm), 4)) < np.asarray(chances)[arm], axis=1).astype(float)


def in_columns(plan, reached):
    """The steps in the order of the plan's columns: the last comes first, then those on the way."""
    place = {"entered": 0, "step2": 1, "step3": 2}
    return reached[:, [place.get(name.rpartition(".")[2], 3) for name in columns_of(plan) if name != "cluster_size"]]


def steps_of(metric, reached, arm=ARM, **estimation) -> list[FunnelStepEffect]:
    plan = plan_of([metric], estimation=Estimation(cuped=False, **estimation))
    row = row_of(document(plan, moment_set(plan, in_columns(plan, reached), arm)), metric.metric_key)
    assert row.funnel is not None
    last = row.funnel[-1].reached
    assert (last.lift, last.ci_lower, last.ci_upper) == (row.lift, row.ci_lower, row.ci_upper)
    assert (last.difference, last.difference_ci_lower) == (row.difference, row.difference_ci_lower)
    return row.funnel


def is_share(share: StepShare, reached, base) -> None:
    """Both shares are counted, with the score interval of statsmodels; so is their difference."""
    for name, mine in (("control", ARM == 0), ("treatment", ARM == 1)):
        x, n = reached[mine].sum(), base[mine].sum()
        low, high = proportion_confint(x, n, method="wilson")
        found = [getattr(share, name + end) for end in ("", "_lower", "_upper")]
        assert found == pytest.approx([x / n, low, high], rel=1e-9), name
    assert share.difference == pytest.approx(share.treatment - share.control, abs=1e-12)
    assert share.difference_ci_lower < share.difference < share.difference_ci_upper


REACHED = walked([[0.6, 0.5, 0.8, 0.7], [0.6, 0.6, 0.8, 0.7]])
EVERYBODY = np.ones(len(ARM))


def test_every_step_has_its_share_of_all_units_and_of_the_step_before() -> None:
    steps = steps_of(funnel(), REACHED)
    assert [(step.step, step.name) for step in steps] == list(enumerate(NAMES, 1))
    assert steps[0].passed is None
    for i, step in enumerate(steps):
        is_share(step.reached, REACHED[:, i], EVERYBODY)
        if i:
            is_share(step.passed, REACHED[:, i], REACHED[:, i - 1])
    moved = steps[1].passed
    assert moved.ci_lower > 0 and all(step.passed.ci_lower < 0 < step.passed.ci_upper for step in steps[2:])


def test_the_error_of_a_share_of_the_step_before_is_that_of_those_who_got_there() -> None:
    step = steps_of(funnel(), REACHED)[2].passed
    errors = []
    for mine in (ARM == 0, ARM == 1):
        n = REACHED[mine, 1].sum()
        share = REACHED[mine, 2].sum() / n
        errors.append(share * (1 - share) / n)
    half = (step.difference_ci_upper - step.difference_ci_lower) / 2
    assert half == pytest.approx(1.96 * np.sqrt(sum(errors)), rel=0.01)


def test_of_those_who_took_the_first_step_both_shares_of_the_second_are_one() -> None:
    steps = steps_of(funnel(funnel_of="first_step"), REACHED)
    is_share(steps[0].reached, REACHED[:, 0], EVERYBODY)
    assert [step.of for step in steps] == ["units"] + ["first_step"] * 3
    assert steps[1].reached == steps[1].passed
    for i in (1, 2, 3):
        is_share(steps[i].reached, REACHED[:, i], REACHED[:, 0])
        is_share(steps[i].passed, REACHED[:, i], REACHED[:, i - 1])


def test_few_who_go_on_are_judged_by_newcombe_and_nobody_has_an_interval_too() -> None:
    few = walked([[0.5, 0.02, 1, 0], [0.5, 0.01, 1, 0]], seed=4)
    steps = steps_of(funnel(), few)
    counts = [few[arm == ARM].sum(axis=0) for arm in (1, 0)]
    step = steps[1].passed
    low, high = confint_proportions_2indep(
        counts[0][1], counts[0][0], counts[1][1], counts[1][0], compare="diff", method="newcomb"
    )
    assert [step.difference_ci_lower, step.difference_ci_upper] == pytest.approx([low, high], rel=1e-9)
    everybody, nobody = steps[2].passed, steps[3].passed
    assert everybody.control == 1 and everybody.control_lower < 1 and everybody.control_upper == 1
    assert nobody.control == 0 and nobody.control_upper > 0
    for step in (everybody, nobody):
        assert step.difference_ci_lower < 0 < step.difference_ci_upper
        assert step.lift is None and step.reason is not None


def test_few_who_could_go_on_are_judged_by_newcombe_however_many_of_them_do() -> None:
    """A ratio of so few is refused (A4); refusing forty of whom half go on, but not forty of whom five do, is odd."""
    few = walked([[0.03, 0.5, 1, 1], [0.03, 0.5, 1, 1]], seed=2)
    counts = [few[arm == ARM].sum(axis=0) for arm in (1, 0)]
    assert all(10 <= count[1] <= count[0] - 10 for count in counts)
    step = steps_of(funnel(), few)[1].passed
    low, high = confint_proportions_2indep(
        counts[0][1], counts[0][0], counts[1][1], counts[1][0], compare="diff", method="newcomb"
    )
    assert [step.difference_ci_lower, step.difference_ci_upper] == pytest.approx([low, high], rel=1e-9)


def test_the_last_step_is_the_metric_also_where_few_take_it() -> None:
    few = walked([[0.5, 0.5, 0.5, 0.02], [0.5, 0.5, 0.5, 0.03]])
    assert 0 < few[ARM == 0, 3].sum() < 10
    for whom in ("units", "first_step"):
        assert steps_of(funnel(funnel_of=whom), few)[-1].reached.difference is not None


def test_a_step_that_nobody_could_take_has_no_share_and_says_why() -> None:
    steps = steps_of(funnel(), walked([[0.5, 0, 0.5, 0.5]] * 2))
    assert (steps[2].passed.control, steps[2].passed.control_lower, steps[2].passed.lift) == (None, None, None)
    assert steps[2].passed.reason is not None


def test_shares_of_clusters_are_as_uncertain_as_clusters() -> None:
    cluster = np.repeat(np.arange(100), 30)
    arm, rng = np.arange(100) % 2, np.random.default_rng(3)
    alike = np.cumprod(rng.random((100, 4)) < 0.7, axis=1)[cluster].astype(float)
    plan = plan_of([funnel()], cluster="account")
    row = row_of(document(plan, cluster_set(plan, in_columns(plan, alike), cluster, arm)), "funnel")
    for i, step in enumerate(row.funnel):
        mine = arm[cluster] == 0
        low, high = proportion_confint(alike[mine, i].sum() / 30, 50, method="wilson")
        assert step.reached.control == pytest.approx(alike[mine, i].mean(), rel=1e-12)
        assert [step.reached.control_lower, step.reached.control_upper] == pytest.approx([low, high], abs=0.015)
    assert all(step.passed.control_upper - step.passed.control_lower > 0.15 for step in row.funnel[1:])
