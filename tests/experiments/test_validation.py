"""Faults of definitions point into what the caller sent."""

from typing import Any

import pytest

from experiments.definitions import ExperimentSpec
from experiments.errors import InvalidDefinition
from experiments.fact_source import ADAPTER
from experiments.validation import invalid, parse, parse_as

ARMS = [{"key": "a", "weight": 0.5, "is_control": True}, {"key": "b", "weight": 0.5}]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"key": 7}, "/key"),
        ({"variants": [ARMS[0], {"key": "b"}]}, "/variants/1/weight"),
        ({"variants": [ARMS[0], {"key": "b", "weight": 0.6}]}, "/variants"),
        ({"metrics": [{"metric_key": "m", "role": "guardrail"}]}, "/metrics/0"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ({"variants": [ARMS[0], {"key": "b", "weight": 0.5, "name": "x\x00"}]}, "/variants/1"),
        ({"tags": ["x\x00"]}, ""),
    ],
)
def test_a_fault_names_its_place(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        parse(ExperimentSpec, {"key": "k", "name": "n", "variants": ARMS, **changes})
    assert refused.value.errors[0].pointer == pointer
    assert "Value error" not in refused.value.detail


def test_the_names_of_union_members_are_no_part_of_the_place() -> None:
    with pytest.raises(InvalidDefinition) as refused:
        parse_as(ADAPTER, {"kind": "file", "key": "k", "path": 3, "unit_column": "u", "timestamp_column": "t"})
    assert [fault.pointer for fault in refused.value.errors] == ["/path"]


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(InvalidDefinition) as refused:
        parse(ExperimentSpec, {"key": "", "name": "", "variants": []})
    assert {fault.pointer for fault in refused.value.errors} == {"/key", "/name", "/variants"}
    assert "2 more" in refused.value.detail


def test_parameters_are_told_from_the_body() -> None:
    fault = {"type": "int_parsing", "loc": ("query", "limit"), "msg": "not a number"}
    assert invalid([fault], None).errors[0].pointer == "/query/limit"
