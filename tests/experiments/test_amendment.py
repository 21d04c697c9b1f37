"""How two plans differ."""

from typing import Any

import pytest

from experiments.amendment import diff


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("/a", 1, 2)]),
        ({"a": [1, 2]}, {"a": [1]}, [("/a", [1, 2], [1])]),
        ({"a": None}, {"a": {"b": 1}}, [("/a", None, {"b": 1})]),
        (
            {"variants": [{"key": "x", "weight": 0.5}, {"key": "y", "weight": 0.5}]},
            {"variants": [{"key": "y", "weight": 0.3}, {"key": "x", "weight": 0.7}]},
            [("/variants/x/weight", 0.5, 0.7), ("/variants/y/weight", 0.5, 0.3)],
        ),
        (
            {"metrics": [{"metric_key": "m"}]},
            {"metrics": [{"metric_key": "n"}, {"metric_key": "m"}]},
            [("/metrics/n", None, {"metric_key": "n"})],
        ),
        ({"metrics": []}, {"metrics": [{"metric_key": "m"}]}, [("/metrics", [], [{"metric_key": "m"}])]),
    ],
)
def test_every_difference_has_its_path_and_both_values(before: Any, after: Any, changes: list[Any]) -> None:
    assert [(change["path"], change["before"], change["after"]) for change in diff(before, after)] == changes
