"""The first lines of the process that samples: an answer after a restart is waiting for its imports.

Two thirds of their time were SciPy's: `scipy.special` imports `scipy.linalg`, which clones NumPy's namespace, and so
NumPy's Fortran compiler and its tests. Here modules that many name and few need are loaded when something of them is
used. The functions of this module import what they need themselves, and their arguments come without our modules:
unpickling them would import everything before the first line.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_WHEN_USED: Final = ("numpy.f2py", "numpy.ma", "numpy.polynomial", "numpy.testing", "scipy.special")


def run(connection: Connection, path: Path, limit_bytes: int, memory_bytes: int) -> None:
    """`workers.models.sampling.run` on the folder of this path and limit."""
    for name in _WHEN_USED:
        load_when_used(name)
    from workers.models.folder import BundleFolder
    from workers.models.sampling import run

    run(connection, BundleFolder(path, limit_bytes), memory_bytes)


class _WhenUsed(ModuleType):
    """A module that is loaded when it is asked for a name it does not have yet.

    `importlib.util.LazyLoader` does not do: its modules are loaded by the next `import` statement that names them.
    """

    _loading: Final = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        with self._loading:
            kind, spec = type(self), self.__spec__
            if kind is _WhenUsed and spec is not None and spec.loader is not None and not spec.loader_state:
                spec.loader_state = "loading"  # it asks itself for names meanwhile
                try:
                    spec.loader.exec_module(self)
                    self.__class__ = ModuleType  # type: ignore[assignment]  # its own class has done its work
                finally:
                    spec.loader_state = None
            return ModuleType.__getattribute__(self, name)


def load_when_used(name: str) -> None:
    """Let `import name` cost nothing until a name of the module is asked for; its package is imported now."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    module = sys.modules[name] = _WhenUsed(name)
    module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, spec.parent
    module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    package, _, last = name.rpartition(".")
    if package:
        setattr(sys.modules[package], last, module)  # as an import does, and what makes NumPy not import it itself
