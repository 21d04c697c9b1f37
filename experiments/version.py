"""Which code computed a result: part of an analysis's identity, written into every result document."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# A change in these packages can change a number; pages, routes and queues cannot.
_PACKAGES = ("experiments", "stats", "warehouse")


@cache
def code_version() -> str:
    """`<release>+<12 hexadecimal digits>`: the release and a digest of the source of the packages that make numbers."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    try:
        release = version("northlift")
    except PackageNotFoundError:  # run from a checkout that was never installed
        release = "0"
    return f"{release}+{digest.hexdigest()[:12]}"
