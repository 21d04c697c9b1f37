"""Statistics of units as the questions of their models, against the units themselves (METHODS C2)."""

from typing import Any, get_args

import numpy as np
import pytest

from experiments.definitions import Measure, MetricSpec
from experiments.evidence.unit_questions import LIKELIHOODS
from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.models.catalog import DEFINITIONS
from stats.bayes.models.gamma_poisson import GammaPoissonQuestion
from stats.bayes.models.hurdle_lognormal import HurdleLognormalQuestion
from stats.bayes.models.negative_binomial import NegativeBinomialQuestion
from stats.bayes.models.student_t import StudentTQuestion
from stats.bayes.prior import Prior
from stats.unit_summary import UnitSummary
from tests.warehouse.cases import DAY, START, Exposure, Fact
from tests.warehouse.small_world import ARMS, World

OPTIONS: dict[str, Any] = {"prior": Prior.default(), "direction": "decrease", "rope": 0.01, "level": 0.9}


@pytest.fixture
def units() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Values of 400 units by likelihood, and the arm of each."""
    rng = np.random.default_rng(8)
    size, arm = 400, np.arange(400) % 2
    values = {
        "beta_binomial": (rng.random(size) < 0.3).astype(np.float64),
        "gamma_poisson": rng.poisson(2.0, size).astype(np.float64),
        "negative_binomial": np.where(rng.random(size) < 0.02, 80.0, rng.negative_binomial(1, 0.2, size)),
        "hurdle_lognormal": np.where(rng.random(size) < 0.4, rng.lognormal(3, 0.7, size), 0.0),
        "student_t": 12 + rng.standard_t(4, size),
    }
    return values, arm


@pytest.fixture
def summaries(tmp_path: Any, units: tuple[dict[str, np.ndarray], np.ndarray]) -> dict[str, UnitSummary]:
    """Of the same units, by the data engine."""
    values, arm = units
    names = list(values)
    shown = [Exposure(f"u{i}", ARMS[v], START) for i, v in enumerate(arm)]
    facts = [
        Fact(f"u{i}", START + DAY, None, {name: float(values[name][i]) for name in names}) for i in range(len(arm))
    ]
    metrics = [
        MetricSpec.model_validate(
            {
                "key": name,
                "name": name,
                "kind": "proportion" if name == "beta_binomial" else "mean",
                "measure": Measure(fact_source="orders", aggregation="sum", column=name),
                "pre_period_days": 0,
                "likelihood": name,
            }
        )
        for name in names
    ]
    return dict(World(shown, facts).extract(tmp_path, metrics).units)


def question_of(summary: UnitSummary) -> Any:
    return LIKELIHOODS[summary.likelihood].question(summary, OPTIONS)


def by_arm(values: np.ndarray, arm: np.ndarray, of: Any) -> list[Any]:
    return [of(values[arm == v]) for v in (0, 1)]


def test_every_likelihood_of_a_metric_has_a_model_of_the_library() -> None:
    wanted = set(get_args(MetricSpec.model_fields["likelihood"].annotation)) - {"lift"}
    assert wanted == set(LIKELIHOODS)
    assert all(DEFINITIONS[name] is likelihood.definition for name, likelihood in LIKELIHOODS.items())


def test_questions_say_what_the_units_did(
    units: tuple[dict[str, np.ndarray], np.ndarray], summaries: dict[str, UnitSummary]
) -> None:
    values, arm = units
    for name, summary in summaries.items():
        question, mine = question_of(summary), values[name]
        assert question.data(), "possible data"
        assert (question.prior, question.direction, question.rope, question.level) == tuple(OPTIONS.values())
        if not isinstance(question, BetaBinomialQuestion | GammaPoissonQuestion | NegativeBinomialQuestion):
            continue
        assert question.units.tolist() == by_arm(mine, arm, len)
        totals = question.successes if isinstance(question, BetaBinomialQuestion) else question.total
        assert totals.tolist() == by_arm(mine, arm, np.sum)
        if not isinstance(question, BetaBinomialQuestion):
            np.testing.assert_allclose(question.squares, by_arm(mine, arm, lambda x: ((x - x.mean()) ** 2).sum()))
        if isinstance(question, NegativeBinomialQuestion):
            assert question.frequency.tolist() == by_arm(mine, arm, lambda x: [(x == i).sum() for i in range(63)])
            assert question.tail_units.tolist() == by_arm(mine, arm, lambda x: (x >= 63).sum()) != [0, 0]


def test_amounts_are_logs_of_the_positive_ones_and_the_mean_of_all(
    units: tuple[dict[str, np.ndarray], np.ndarray], summaries: dict[str, UnitSummary]
) -> None:
    values, arm = units
    question, mine = question_of(summaries["hurdle_lognormal"]), values["hurdle_lognormal"]
    assert isinstance(question, HurdleLognormalQuestion)
    assert question.mean is not None and question.percentile_99 is not None
    assert question.units.tolist() == [200, 200]
    assert question.buyers.tolist() == by_arm(mine, arm, lambda x: (x > 0).sum())
    np.testing.assert_allclose(question.log_mean, by_arm(mine, arm, lambda x: np.log(x[x > 0]).mean()))
    np.testing.assert_allclose(
        question.log_squares, by_arm(mine, arm, lambda x: np.log(x[x > 0]).var() * (x > 0).sum())
    )
    np.testing.assert_allclose(question.mean, by_arm(mine, arm, np.mean))
    top = by_arm(mine, arm, lambda x: np.quantile(x[x > 0], 0.99, method="inverted_cdf"))
    assert question.percentile_99.tolist() == top


def test_values_in_bins_come_with_their_means(
    units: tuple[dict[str, np.ndarray], np.ndarray], summaries: dict[str, UnitSummary]
) -> None:
    values, arm = units
    question, mine = question_of(summaries["student_t"]), values["student_t"]
    assert isinstance(question, StudentTQuestion) and question.mean is not None
    assert question.counts.tolist() == by_arm(mine, arm, lambda x: np.histogram(x, question.edges)[0].tolist())
    np.testing.assert_allclose(question.mean, by_arm(mine, arm, np.mean))
