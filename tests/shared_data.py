"""Where reference data and oracle numbers live on a developer's machine; tests skip where they are absent."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(os.environ.get("NORTHLIFT_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def shared_path(*parts: str) -> Path:
    """Path of a shared file; skips the calling test when it does not exist here."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not available; set NORTHLIFT_SHARED to its folder")
    return path


@cache
def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def manifest_entry(path: str) -> dict[str, Any]:
    """The MANIFEST record of one data set, with its reference numbers."""
    manifest = _json(shared_path("data", "MANIFEST.json"))
    for entry in manifest["datasets"]:
        if entry["path"] == path:
            return dict(entry)
    pytest.skip(f"no reference numbers for {path}")


def golden_cases(source: str) -> list[dict[str, Any]]:
    """All oracle cases of a source, `gbstats` or `libraries`."""
    return list(_json(shared_path("golden", f"{source}.json"))["cases"])


def golden(source: str, name: str) -> dict[str, Any]:
    """One oracle case."""
    for case in golden_cases(source):
        if case["name"] == name:
            return dict(case)
    pytest.skip(f"no oracle case {name}")
