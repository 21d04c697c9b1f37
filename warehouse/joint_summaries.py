"""Covariances that come with summaries: what a row may say, and whether all rows together could be of any data."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from typing import Any, NamedTuple, Protocol

import numpy as np

from stats.moments import Floats
from warehouse.row_lists import finite_number
from warehouse.rows import RowFault

FIELD = "covariances"
_ROUNDING = 1e-9


class JointRow(Protocol):
    """What a matrix is made of: one metric in one variant at one time."""

    @property
    def n(self) -> int: ...

    @property
    def variance(self) -> float: ...

    @property
    def covariances(self) -> Mapping[str, float] | None: ...


class Cell(NamedTuple):
    """What one row says: of a metric in a variant as of a time; `number` is its place in the batch, 0 if stored."""

    metric_key: str
    variant_key: str
    as_of: datetime
    n: int
    variance: float
    covariances: Mapping[str, float]
    number: int = 0


def read_covariances(row: Mapping[str, Any], metric_keys: Iterable[str]) -> dict[str, float] | None:
    """The covariances of a row by metric key, None without any; in a CSV they are a JSON object. Raises `RowFault`."""
    given = row.get(FIELD)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise RowFault(FIELD, "malformed_covariances", "the text is no JSON object") from None
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise RowFault(FIELD, "malformed_covariances", "covariances are an object: metric key to number")
    known, found = set(metric_keys) - {row.get("metric_key")}, {}
    for key in given:
        if key not in known:
            raise RowFault(FIELD, "unknown_metric", f"{str(key)[:80]!r} is no other metric of the plan with a mean")
        try:
            number = finite_number(given, key)
        except RowFault as fault:
            raise RowFault(FIELD, fault.reason, f"with {key!r}: {fault.detail}") from None
        if number is None:
            raise RowFault(FIELD, "missing_moment", f"the covariance with {key!r} is missing")
        found[key] = number
    return found


def check_joint(cells: Iterable[Cell]) -> list[tuple[Cell, RowFault]]:
    """The faults of all rows together, each with the row of the batch that it is about; empty if there are none.

    Rows of one variant and time belong together. A covariance needs the other metric's row, with the same n; both
    rows may state it if they agree, and it is within what the variances allow. Where all pairs are known the matrix
    must be positive semi-definite.
    """
    groups: dict[tuple[str, datetime], dict[str, Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.variant_key, cell.as_of), {})[cell.metric_key] = cell
    found: list[tuple[Cell, RowFault]] = []
    for group in groups.values():
        faults = [(cell, fault) for cell in group.values() if (fault := _fault_of(cell, group)) is not None]
        if not faults and (last := max(group.values(), key=lambda cell: cell.number)).number:
            matrix = covariance_matrix(list(group), group)
            if matrix is not None and not _possible(matrix):
                detail = f"the covariances of {', '.join(sorted(group))} in {last.variant_key} are those of no data"
                faults = [(last, RowFault(FIELD, "covariances_not_positive", detail))]
        found += [(cell, fault) for cell, fault in faults if cell.number]
    return found


def covariance_matrix(keys: Sequence[str], group: Mapping[str, JointRow]) -> Floats | None:
    """(k, k) of these metrics in one variant at one time; None where a row or the covariance of a pair is missing."""
    if any(key not in group for key in keys) or len({group[key].n for key in keys}) > 1:
        return None
    matrix = np.diag([group[key].variance for key in keys])
    for i, j in combinations(range(len(keys)), 2):
        one, other = group[keys[i]].covariances or {}, group[keys[j]].covariances or {}
        value = one.get(keys[j], other.get(keys[i]))
        if value is None:
            return None
        matrix[i, j] = matrix[j, i] = value
    return matrix


def _fault_of(cell: Cell, group: Mapping[str, Cell]) -> RowFault | None:
    for key, value in cell.covariances.items():
        other = group.get(key)
        if other is None:
            return RowFault(FIELD, "other_metric_missing", f"there is no row of {key!r} of this variant and time")
        if other.n != cell.n:
            return RowFault("n", "units_differ", f"{cell.n} units here and {other.n} of {key!r}, with a covariance")
        back = other.covariances.get(cell.metric_key)
        if back is not None and not math.isclose(back, value, rel_tol=_ROUNDING, abs_tol=0.0):
            return RowFault(FIELD, "covariances_disagree", f"{value:g} with {key!r}, whose row says {back:g}")
        most = math.sqrt(cell.variance * other.variance)
        if abs(value) > most * (1 + _ROUNDING):
            return RowFault(FIELD, "covariance_too_large", f"{value:g} with {key!r}; the variances allow {most:g}")
    return None


def _possible(matrix: Floats) -> bool:
    scale = np.sqrt(np.diagonal(matrix))
    size = np.where(scale > 0, scale, 1.0)
    lowest = float(np.linalg.eigvalsh(matrix / size[:, None] / size).min())
    return lowest >= -_ROUNDING * len(matrix)
