"""What compiled code depends on besides its model: libraries, interpreter and processor.

Bundles are made for the processor that makes them, because every machine makes its own: no portable instruction set is
chosen, and a bundle from elsewhere is rejected and made again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("llvmlite", "numba", "numpy", "nutpie", "pymc", "pytensor")
"""Everything that has a say in the machine code, or in how it is called."""


@functools.cache
def machine() -> dict[str, str]:
    """Versions and processor, each under a name for people. Reads installed metadata; imports llvmlite only."""
    from llvmlite import binding

    features = sorted(name for name, present in binding.get_host_cpu_features().items() if present)
    chosen = [f"{name}={os.environ[name]}" for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES") if name in os.environ]
    return {
        **{library: _version(library) for library in LIBRARIES},
        "python": f"{sys.implementation.cache_tag} {platform.system()} {platform.machine()}",
        "processor": " ".join([binding.get_host_cpu_name(), *chosen]),
        "processor features": hashlib.sha256(",".join(features).encode()).hexdigest()[:16],
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
