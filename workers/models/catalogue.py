"""The models of the library in their sizes, and where their bundles are kept."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

import structlog

from stats.bayes.models.catalog import DEFINITIONS
from workers.models.folder import BundleFolder
from workers.models.messages import SizedModel

_ALWAYS: Final = ("exchangeable",)

log = structlog.get_logger(__name__)


def bundle_folder(wanted: Path | None) -> BundleFolder:
    """`wanted`, else the user's cache folder; a private temporary one where that cannot hold code that we run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = wanted or base / "northlift" / "models"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = "" if _only_we_write(path) else "others may write there, and bundles are machine code"
    except OSError as error:
        problem = str(error)
    if not problem:
        return BundleFolder(path.absolute())
    temporary = Path(tempfile.mkdtemp(prefix="northlift-models-"))
    log.warning("model_folder_not_used", folder=str(path), reason=problem, instead=str(temporary))
    return BundleFolder(temporary)


def _only_we_write(path: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    found = path.stat()
    return found.st_uid in (0, os.getuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def library() -> tuple[SizedModel, ...]:
    """Every model in every size, in the order of the library."""
    return tuple(SizedModel(each, size) for each in DEFINITIONS.values() for size in each.sizes)


def first_sizes() -> tuple[SizedModel, ...]:
    """The smallest size of each model."""
    return tuple(SizedModel(each, each.sizes[0]) for each in DEFINITIONS.values())


def always_wanted() -> tuple[SizedModel, ...]:
    """What nearly every analysis asks: a worker that has none of it compiles it when it starts."""
    return tuple(model for model in first_sizes() if model.definition.name in _ALWAYS)
