"""All studies in the order of the report: what each is called, and the functions that make its cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.validation import (
    clusters,
    cuped,
    decisions,
    funnel_steps,
    impact_ahead,
    impact_effects,
    impact_engines,
    impact_ledger,
    impact_links,
    impact_programme,
    impact_screens,
    launches_before_after,
    launches_by_lot,
    launches_donors,
    launches_grades,
    launches_staggered,
    launches_synthetic,
    learned_priors,
    metric_kinds,
    multiplicity,
    null_experiments,
    optional_stopping,
    power,
    quantiles,
    ranks,
    sample_ratio,
    sequential,
    sequential_methods,
    size_and_coverage,
)
from tests.validation.cells import Cell

type Function = Callable[[float], list[Cell]]


@dataclass(frozen=True, slots=True)
class Study:
    """`functions` take the part of the replications to make; what they do is told by their docstrings."""

    name: str
    title: str
    seed: int
    about: str
    functions: tuple[Function, ...]

    def run(self, part: float = 1.0) -> list[Cell]:
        return [cell for function in self.functions for cell in function(part)]


def _study(name: str, title: str, seed: int, about: str | None, *functions: Function) -> Study:
    told = [(about or "").split("\n", 1)[-1].strip(), *(_paragraph(f.__doc__) for f in functions)]
    first = (about or "").split("\n", 1)[0].strip()
    return Study(name, title, seed, " ".join(part for part in [first, *told] if part), functions)


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").split())


FREQUENTIST = (
    _study(
        "size_and_coverage",
        "Size and coverage of estimators",
        size_and_coverage.SEED,
        size_and_coverage.__doc__,
        size_and_coverage.means,
        size_and_coverage.proportions,
        size_and_coverage.ratios,
        size_and_coverage.adjusted_means,
        size_and_coverage.stratified_means,
    ),
    _study("clusters", "Few clusters", clusters.SEED, clusters.__doc__, clusters.type_one_error, clusters.repeated),
    _study("quantiles", "Quantiles with clustering", quantiles.SEED, quantiles.__doc__, quantiles.sizes),
    _study("cuped", "Variance reduction", cuped.SEED, cuped.__doc__, cuped.variance_ratios),
    _study(
        "sample_ratio",
        "Sample ratio",
        sample_ratio.SEED,
        sample_ratio.__doc__,
        sample_ratio.false_alarms,
        sample_ratio.detection,
    ),
    _study(
        "sequential",
        "Type-I error of looks",
        sequential.SEED,
        sequential.__doc__,
        sequential.type_one_error,
        sequential.open_ended,
    ),
    _study(
        "sequential_methods",
        "Which method when",
        sequential_methods.SEED,
        sequential_methods.__doc__,
        sequential_methods.methods,
    ),
    _study("power", "Power and margins", power.SEED, power.__doc__, power.designs, power.margins),
    _study("decisions", "The decision rule", decisions.SEED, decisions.__doc__, decisions.decision_rule),
    _study("multiplicity", "Many tests", multiplicity.SEED, multiplicity.__doc__, multiplicity.false_claims),
    _study(
        "null_experiments",
        "A/A experiments through the engine",
        null_experiments.SEED,
        null_experiments.__doc__,
        null_experiments.decisions,
    ),
    _study(
        "metric_kinds",
        "Kinds of metrics, from raw facts to rows",
        metric_kinds.SEED,
        metric_kinds.__doc__,
        metric_kinds.kinds,
        metric_kinds.two_looks,
    ),
    _study("funnel_steps", "Steps of funnels", funnel_steps.SEED, funnel_steps.__doc__, funnel_steps.shares),
)

BAYESIAN = (
    _study("ranks", "Simulation-based calibration", ranks.SEED, ranks.__doc__, ranks.closed_forms, ranks.sampled),
    _study(
        "optional_stopping",
        "Stopping on a posterior",
        optional_stopping.SEED,
        optional_stopping.__doc__,
        optional_stopping.stopping,
        optional_stopping.calibration,
        optional_stopping.losses,
    ),
    _study(
        "learned_priors", "Learned priors", learned_priors.SEED, learned_priors.__doc__, learned_priors.next_experiments
    ),
)

LAUNCHES = (
    _study(
        "launches_before_after",
        "Before and after",
        launches_before_after.SEED,
        launches_before_after.__doc__,
        launches_before_after.no_effect,
        launches_before_after.an_effect,
    ),
    _study(
        "launches_staggered",
        "Rollouts over segments in waves",
        launches_staggered.SEED,
        launches_staggered.__doc__,
        launches_staggered.growing_effects,
        launches_staggered.waves,
        launches_staggered.anticipation,
        launches_staggered.parting_trends,
        launches_staggered.order_by_lot,
    ),
    _study(
        "launches_synthetic",
        "Synthetic controls",
        launches_synthetic.SEED,
        launches_synthetic.__doc__,
        launches_synthetic.panels,
        launches_synthetic.spill_over,
    ),
    _study(
        "launches_donors",
        "Forecasts from donors",
        launches_donors.SEED,
        launches_donors.__doc__,
        launches_donors.forecasts,
        launches_donors.stopped_following,
    ),
    _study(
        "launches_by_lot",
        "Blocks of time and stages by lot",
        launches_by_lot.SEED,
        launches_by_lot.__doc__,
        launches_by_lot.blocks_of_time,
        launches_by_lot.stages,
    ),
    _study(
        "launches_grades",
        "The whole chain: designs, grades, printed intervals",
        launches_grades.SEED,
        launches_grades.__doc__,
        launches_grades.sound,
        launches_grades.spoiled,
    ),
)

IMPACT = (
    _study(
        "impact_screens",
        "Screens against the truth of whole companies",
        impact_screens.SEED,
        impact_screens.__doc__,
        impact_screens.measured,
        impact_screens.reconciled,
        impact_screens.ahead,
        impact_screens.sums,
    ),
    _study(
        "impact_effects",
        "From an experiment to the North Star",
        impact_effects.SEED,
        impact_effects.__doc__,
        impact_effects.toplines,
        impact_effects.lasting,
        impact_effects.projections,
        impact_effects.blends,
    ),
    _study(
        "impact_programme",
        "Totals of what shipped",
        impact_programme.SEED,
        impact_programme.__doc__,
        impact_programme.totals,
    ),
    _study(
        "impact_ledger",
        "The ledger",
        impact_ledger.SEED,
        impact_ledger.__doc__,
        impact_ledger.matched,
        impact_ledger.stress,
    ),
    _study(
        "impact_ahead",
        "Stagnation and forecasts",
        impact_ahead.SEED,
        impact_ahead.__doc__,
        impact_ahead.stagnation,
        impact_ahead.forecasts,
    ),
    _study("impact_engines", "Two engines", impact_engines.SEED, impact_engines.__doc__, impact_engines.engines),
    _study(
        "impact_links",
        "Learned links",
        impact_links.SEED,
        impact_links.__doc__,
        impact_links.slopes,
        impact_links.companies,
    ),
)


@dataclass(frozen=True, slots=True)
class Report:
    """One report: docs/validation/`name`.md with its CSV and pictures. `duration` is that of one core."""

    name: str
    title: str
    duration: str
    notes: str
    studies: tuple[Study, ...]


REPORTS = (
    Report(
        "frequentist",
        "What the frequentist engine promises, and what simulations say",
        "eleven minutes",
        "A cell passes if |observed − target| ≤ 3 √(p (1 − p) / R) + slack, with R replications; slack is 0.005 unless "
        "METHODS says otherwise (0 for bounds that must hold exactly, 0.003 for looks, 0.004 for margins, 0.01 for "
        "false discoveries, 0.015 for power); kinds of metrics have tails of the binomial that all of them together "
        "reach once in a thousand runs, and no slack. Bounds (≤, ≥) may be better than promised. **warned** means that "
        "normal theory does not hold there and that the engine itself says so in most replications (the skewness "
        "check); the column *warned* is the share of them. What the engine refuses to estimate is left out. Cells "
        "whose true standardised skewness of the difference exceeds 0.1 are never called a pass when they are warned "
        'of. Rows "for comparison" are what other methods would do.',
        FREQUENTIST,
    ),
    Report(
        "bayesian",
        "What the Bayesian engine promises, and what simulations say",
        "twenty minutes",
        "A cell passes if |observed − target| ≤ 3 √(p (1 − p) / R) + slack, with R replications; slack is 0.005, and "
        "0.02 where truths come from populations that the model does not hold for possible. The p-value of uniform "
        "ranks must exceed 0.001 for every quantity, and no more of them than chance allows may be below 0.05. Rows "
        '"for comparison" are priors that are wrong on purpose, or none.',
        BAYESIAN,
    ),
    Report(
        "launches",
        "What Northlift says of launches without randomisation, and what simulations say",
        "nine minutes",
        "Every launch here is simulated and its effect is known. A cell passes if |observed − target| ≤ "
        "3 √(p (1 − p) / R) + slack, with R replications. Printed intervals and those from lots have a slack of 0 to "
        "0.02, those of estimators alone 0.015 to 0.02 (METHODS I1 allows 0.05), p-values and tests 0 to 0.02, ranks "
        "among placebos that overlap 0.05. A bias may be three standard errors and a fiftieth of the errors' spread. "
        'Rows "for comparison" are methods that Northlift does not use, launches whose assumptions are broken on '
        "purpose, how wide intervals are (1 is the width of somebody who knows the spread of the errors), and how "
        "often each grade is given.",
        LAUNCHES,
    ),
    Report(
        "impact",
        "What Northlift says of the company, and what simulations say",
        "sixteen minutes",
        "A cell passes if |observed − target| ≤ 3 √(p (1 − p) / R) + slack, with R replications; where a company has "
        "several intervals the spread over companies takes the place of the root. Screens have a slack of 0.02, E5 to "
        "E7 one of 0.01 (METHODS I1), E8 0.03, E9 0.02 (0.1 where experiments are weak), F1 and F6 none: 95 % "
        "intervals must reach 0.92 to 0.93 there (METHODS I1; 0.90 where effects are t3, 0.85 where most are exactly "
        "nothing). Targets with ≥ may be surpassed: intervals that hold more than they say cost sharpness and no "
        "trust. Uniform ranks have a p-value above 0.001. Rows "
        '"for comparison" are methods that Northlift does not use, claims as they were measured, how wide intervals '
        "are (1 is the width of somebody who knows how large errors are), and stresses of which only the direction is "
        "promised. Of the shorter version most runs with `make simulation`.",
        IMPACT,
    ),
)
