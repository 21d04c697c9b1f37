"""Definitions as code are read completely, or refused with the place of the fault."""

from pathlib import Path

import pytest

from app.cli.definitions import Change, DefinitionsUnreadable, read_definitions
from tests.servers import REPOSITORY

KINDS = ["connections", "fact_sources", "metrics", "series", "north_stars", "launches"]
GOOD = """
fact_sources:
  - {kind: events, key: orders, event: order}
metrics:
  - key: orders
    name: Orders
    kind: mean
    measure: {fact_source: orders}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "definitions.yaml"
    path.write_text(text)
    return path


def test_the_tour_s_definitions_are_read_in_the_order_in_which_they_refer_to_each_other() -> None:
    found = read_definitions(REPOSITORY / "examples" / "tour" / "definitions.yaml")
    assert {kind: len(items) for kind, items in found.items() if items} == {
        "fact_sources": 2,
        "metrics": 4,
        "north_stars": 1,
    }
    assert list(found) == KINDS


def test_sections_may_be_missing_or_empty(tmp_path: Path) -> None:
    assert read_definitions(written(tmp_path, "metrics:\n")) == {kind: [] for kind in KINDS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrics: [", "is not YAML"),
        ("- a\n- b\n", "must hold a mapping with connections, fact_sources, metrics, series, north_stars, launches"),
        ("", "must hold a mapping"),
        ("metrics: orders\n", "`metrics` must be a list"),
        ("metric: []\n", "unknown section 'metric'"),
        (GOOD.replace("kind: mean", "kind: average"), "metrics[0]: kind"),
        (GOOD.replace("name: Orders", "nam: Orders"), "metrics[0]: name: Field required; nam: Extra inputs"),
        (GOOD.replace("key: orders, event", "event"), "fact_sources[0]: events/key: Field required"),
        (GOOD + GOOD.split("metrics:\n")[1], "metrics: the key 'orders' appears twice"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DefinitionsUnreadable) as refused:
        read_definitions(written(tmp_path, text))
    assert message in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "definitions.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DefinitionsUnreadable, match="is not YAML"):
        read_definitions(path)


def test_a_change_reads_as_one_line() -> None:
    assert str(Change("created", "metrics", "orders")) == "created   metrics/orders"
