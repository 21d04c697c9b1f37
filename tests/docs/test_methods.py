"""docs/methods.md names everything that a result may say: methods, reasons, checks and options of a plan."""

import re
from typing import get_args

import pytest

from app.pages import launch_words
from experiments.definitions import Estimation, ExperimentSpec
from experiments.definitions.estimation import Beliefs
from experiments.evidence import (
    attribution,
    heterogeneity,
    magnitudes,
    models,
    projection,
    shapes,
    topline,
    waiting,
)
from experiments.result.launches import Design, LaunchMethod
from stats import unit_summary
from stats.attribution import AttributionReason
from stats.bayes.models.catalog import DEFINITIONS
from stats.bayes.models.definition import ModelDefinition
from stats.bayes.population import PopulationReason
from stats.blend import BlendReason
from stats.formula_defects import DefectCode
from stats.launch.reasons import LaunchReason
from stats.ledger import collapsed
from stats.persistence import PersistenceReason
from stats.projection import ProjectionReason
from stats.reasons import CovariateNote, Reason
from stats.topline import ToplineReason
from tests.servers import REPOSITORY
from warehouse import answers, caps, values

METHODS = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
_CHECK = re.compile(r"(?:check\(\s*|name(?:, \w+)* = |_split\(facts, |COHERENCE = )\"([a-z_]+)\"")
_DOWNSTREAM = re.compile(r"_downstream\(facts, \"([a-z_]+)\"")


def names_of_checks() -> set[str]:
    """Every name of a check that is written down in the evidence."""
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / "experiments" / "evidence").glob("*.py")))
    return set(_CHECK.findall(text)) | {f"sample_ratio_{name}" for name in _DOWNSTREAM.findall(text)}


def test_every_check_is_described() -> None:
    names = names_of_checks()
    assert {"sample_ratio", "survey_response", "north_star_coherence", "sample_ratio_with_outcome"} <= names
    assert len(names) > 30
    assert [name for name in sorted(names) if f"| `{name}` |" not in METHODS] == []


def test_every_check_of_a_growth_review_is_described() -> None:
    folder = REPOSITORY / "experiments" / "evidence"
    text = (folder / "review" / "ledger_checks.py").read_text() + (folder / "formula_defects.py").read_text()
    names = set(re.findall(r'name="([a-z_]+)"', text))
    assert {"claims_visible", "formula_defects"} <= names
    assert [name for name in sorted(names) if f"| `{name}` |" not in METHODS] == []


def test_every_defect_of_a_formula_is_described() -> None:
    assert [code for code in DefectCode if f"| `{code}` |" not in METHODS] == []


def test_every_reason_is_described() -> None:
    reasons = {
        *Reason,
        *(note for note in CovariateNote if note is not CovariateNote.NONE),
        heterogeneity.TOO_FEW_SEGMENTS,
        heterogeneity.NO_RELATIVE_EFFECT,
        magnitudes.OUT_OF_RANGE,
        shapes.NO_DATA,
        shapes.NO_JOINT_MOMENTS,
        shapes.NO_QUANTILES,
        values.NON_FINITE,
        caps.CAP_IS_ZERO,
        answers.INVALID_ANSWERS,
        models.NO_SINGLE_UNITS,
        unit_summary.CLUSTERED,
        unit_summary.NOT_COUNTS,
        unit_summary.NEGATIVE_VALUES,
        waiting.EXPOSURE_ENDED,
        waiting.NO_TRAFFIC,
        waiting.NO_PLANNED_END,
        waiting.NO_LOG_LIFT,
        *PopulationReason,
        *ToplineReason,
        *PersistenceReason,
        *ProjectionReason,
        *BlendReason,
        *AttributionReason,
        attribution.DRIVER_EDGES,
        attribution.NO_WEEKS,
        projection.DOES_NOT_ADD_UP,
        projection.FLOWS_MISSING,
        projection.NO_COMPANY,
        topline.NO_FULL_WEEK,
        topline.SHARE_NOT_DEFINED,
        collapsed.SERIES_TOO_SHORT,
        collapsed.UNRELIABLE,
    }
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in METHODS] == []


METHOD_IDS = [
    *(f"A{i}" for i in range(1, 17)),
    *(f"B{i}" for i in range(1, 6)),
    *(f"C{i}" for i in range(1, 6)),
    *(f"D{i}" for i in range(1, 8)),
    *(f"E{i}" for i in range(1, 10)),
    *(f"F{i}" for i in range(1, 9)),
    *("G8", "H2", "H3", "H4", "H5", "H6", "I1", "I3"),
]


@pytest.mark.parametrize("method", METHOD_IDS)
def test_every_method_is_described(method: str) -> None:
    assert re.search(rf"^\| (?:\w+, )*{method}(?:, \w+)* \|", METHODS, re.MULTILINE)


def test_everything_that_a_launch_may_say_is_described() -> None:
    checks = [name for name in launch_words.CHECKS if f"| `{name}` |" not in METHODS]
    codes = [*launch_words.GRADE_REASONS, *launch_words.RAISED_BY, *LaunchReason]
    designs = [name for name in get_args(Design) if f"| `{name}` |" not in METHODS]
    methods = [name for name in get_args(LaunchMethod) if f"`{name}`" not in METHODS]
    assert (checks, [code for code in codes if f"`{code}`" not in METHODS], designs, methods) == ([], [], [], [])


def test_every_option_of_an_analysis_is_described() -> None:
    options = {"cluster", "trigger", "two_way_segments", "purpose"} & set(ExperimentSpec.model_fields)
    options |= {name for name in Estimation.model_fields if name not in ("engine", "ci_level", "power", "seed", "rope")}
    options -= {"prior_mean", "prior_scale", "srm_threshold"}
    assert [name for name in sorted(options) if name not in METHODS] == []


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_every_model_is_told_as_its_code_tells_it(definition: ModelDefinition) -> None:
    """The section of a model has its story word for word, and names only methods that are described."""
    section = re.search(rf"^#### {definition.name}\n(.*?)(?=^#)", METHODS, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert " ".join(definition.story.split()) in " ".join(section[1].split())
    assert set(definition.methods) <= set(METHOD_IDS)
    assert f"Methods {', '.join(definition.methods)}, " in section[1]


def test_no_model_is_told_that_is_not_in_the_library() -> None:
    assert set(re.findall(r"^#### (\w+)$", METHODS, re.MULTILINE)) == set(DEFINITIONS)


def test_the_files_that_models_and_methods_are_said_to_be_in_exist() -> None:
    named = re.findall(r"`((?:stats|experiments|workers|app|tests)/[\w/]+(?:\.py)?/?)`", METHODS)
    assert len(named) > 10
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("option", [*Beliefs.model_fields, "engine", "prior_mean", "prior_scale", "rope", "likelihood"])
def test_every_option_of_the_bayesian_engine_is_described(option: str) -> None:
    assert re.search(rf"`(?:\w+\.)?{option}[`:]", METHODS)
