"""What an import makes of a file, and which line of it a refusal names."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.cli.importing import ImportRefused, UnitFile, definitions, exposures, facts, number, profile, slug, slugs
from experiments.definitions import ExperimentSpec, FactSourceSpec, MetricSpec

AT = datetime(2026, 2, 2, tzinfo=UTC)
SHOP = """user,arm,bought,spent,spent before
a,A,1,10.5,3
b,A,0,,4
c,New look,yes,0,
d,New look,no,7,1e1
"""


def unit_file(folder: Path, text: str = SHOP, **options: Any) -> UnitFile:
    path = folder / "units.csv"
    path.write_text(text)
    meaning: dict[str, Any] = {
        "experiment_key": "shop",
        "variant_column": "arm",
        "control": "A",
        "metrics": ("bought", "spent"),
        "at": AT,
        "unit_column": "user",
    }
    return UnitFile(path=path, **{**meaning, **options})


@pytest.mark.parametrize(
    ("text", "key"), [("No E-Mail", "no_e_mail"), ("gate_30", "gate_30"), ("  50 % off! ", "50_off"), ("0", "0")]
)
def test_a_key_keeps_the_letters_and_digits_of_a_text(text: str, key: str) -> None:
    assert slug(text) == key


def test_a_text_without_letters_or_digits_has_no_key() -> None:
    with pytest.raises(ImportRefused, match="rename it"):
        slug("…")


def test_two_texts_with_one_key_are_refused_by_name() -> None:
    with pytest.raises(ImportRefused, match="'a b' and 'a-b' would both have the key 'a_b'"):
        slugs(["a b", "a-b"], what="variants")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5", 1.5), (" -2e3 ", -2000.0), ("TRUE", 1.0), ("no", 0.0), ("", None), ("NA", None), ("nan", None)],
)
def test_a_cell_is_a_number_a_boolean_or_missing(text: str, value: float | None) -> None:
    assert number(text, column="x", line=2) == value


@pytest.mark.parametrize("text", ["ten", "1,5", "inf", "-Infinity"])
def test_any_other_cell_is_refused_with_its_line_and_column(text: str) -> None:
    with pytest.raises(ImportRefused, match="line 7, column 'spent'"):
        number(text, column="spent", line=7)


def test_a_profile_has_the_control_first_and_finds_proportions_and_empty_cells(tmp_path: Path) -> None:
    found = profile(unit_file(tmp_path, covariates={"spent": "spent before"}))
    assert found.variants == ("A", "New look")
    assert found.binary == {"bought"}
    assert found.units == 4
    assert found.missing == {"spent": 1, "spent before": 1}


def test_what_an_import_registers_is_valid_and_says_what_the_columns_mean(tmp_path: Path) -> None:
    file = unit_file(tmp_path, covariates={"spent": "spent before"}, weights={"A": 0.25, "New look": 0.75})
    source, metrics, experiment = definitions(file, profile(file))
    spec = ExperimentSpec.model_validate(experiment)
    TypeAdapter(FactSourceSpec).validate_python(source)
    bought, spent = (MetricSpec.model_validate(metric) for metric in metrics)
    assert [(variant.key, variant.weight) for variant in spec.variants] == [("a", 0.25), ("new_look", 0.75)]
    assert spec.control.key == "a"
    assert [(metric.metric_key, metric.role) for metric in spec.metrics] == [
        ("shop_bought", "primary"),
        ("shop_spent", "secondary"),
    ]
    assert (bought.kind, spent.kind) == ("proportion", "mean")
    assert bought.pre_period_days == 0, "no covariate, no history"
    assert spent.covariate is not None and spent.covariate.column == "spent_before"


def test_outcomes_count_at_exposure_and_covariates_a_day_before_and_zero_outcomes_need_no_fact(tmp_path: Path) -> None:
    file = unit_file(tmp_path, covariates={"spent": "spent before"})
    assert [row["unit_id"] for row in exposures(file)] == ["a", "b", "c", "d"]
    sent = [(row["unit_id"], row["occurred_at"][:10], row["properties"]) for row in facts(file)]
    assert sent == [
        ("a", "2026-02-02", {"bought": 1.0, "spent": 10.5}),
        ("a", "2026-02-01", {"spent_before": 3.0}),
        ("b", "2026-02-01", {"spent_before": 4.0}),
        ("c", "2026-02-02", {"bought": 1.0}),
        ("d", "2026-02-02", {"spent": 7.0}),
        ("d", "2026-02-01", {"spent_before": 10.0}),
    ]


def test_a_covariate_of_zero_is_known_and_only_an_empty_one_is_no_history(tmp_path: Path) -> None:
    text = "user,arm,spent,spent before\na,A,1,0\nb,B,1,\n"
    file = unit_file(tmp_path, text, metrics=("spent",), covariates={"spent": "spent before"})
    before = [(row["unit_id"], row["properties"]) for row in facts(file) if row["occurred_at"] < AT.isoformat()]
    assert before == [("a", {"spent_before": 0.0})]


def test_only_the_chosen_variants_take_part(tmp_path: Path) -> None:
    text = SHOP + "e,Third,1,1,1\n"
    file = unit_file(tmp_path, text, only_variants=("A", "Third"))
    assert profile(file).variants == ("A", "Third")
    assert {row["variant_key"] for row in exposures(file)} == {"a", "third"}


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    (SHOP, {"metrics": ("profit",)}, "no column 'profit'; it has user, arm, bought, spent, spent before"),
    (SHOP, {"variant_column": "group"}, "no column 'group'"),
    (SHOP, {"control": "B"}, "no row has the control 'B'; the variants are A, New look"),
    (SHOP, {"only_variants": ("A",)}, "the only variant is 'A'"),
    (SHOP, {"only_variants": ("A", "New look", "Old")}, "no row has the variant 'Old'"),
    (SHOP, {"weights": {"A": 0.5}}, "the variant 'New look' has no weight"),
    (SHOP, {"weights": {"A": 0.5, "new": 0.5}}, "no row has the variant 'new'"),
    (SHOP, {"covariates": {"visits": "spent before"}}, "the covariate of 'visits' has no metric"),
    (SHOP + "a,A,1,1,1\n", {}, "unit 'a' is on line 2 and on line 6"),
    (SHOP + " ,A,1,1,1\n", {}, "line 6 has no unit in column 'user'"),
    (SHOP + "e,A,1\n", {}, "line 6 has fewer cells than the header"),
    (SHOP + "e,A,1,much,1\n", {}, "line 6, column 'spent': 'much' is not a number"),
    ("", {}, "no column 'arm'"),
]


@pytest.mark.parametrize(("text", "options", "message"), REFUSALS, ids=[message for *_, message in REFUSALS])
def test_a_file_that_does_not_fit_is_refused_before_anything_is_sent(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImportRefused) as refused:
        profile(unit_file(tmp_path, text, **options))
    assert message in str(refused.value)


def test_a_file_in_another_encoding_is_refused_with_the_encoding_it_needs(tmp_path: Path) -> None:
    file = unit_file(tmp_path)
    file.path.write_bytes("user,arm,bought,spent\nä,A,1,1\n".encode("latin-1"))
    with pytest.raises(ImportRefused, match="cannot be read as CSV in UTF-8"):
        profile(file)


def test_a_byte_order_mark_of_a_spreadsheet_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    file = unit_file(tmp_path)
    file.path.write_text(SHOP, encoding="utf-8-sig")
    assert profile(file).units == 4


def test_a_metric_key_that_would_be_too_long_is_refused_with_the_option_to_shorten(tmp_path: Path) -> None:
    file = unit_file(tmp_path, experiment_key="x" * 60)
    with pytest.raises(ImportRefused, match="shorten --experiment"):
        definitions(file, profile(file))
