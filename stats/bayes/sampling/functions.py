"""Calling the machine code of a model: log density with gradient, and the quantities behind a point."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.sampling.contract import Array, SamplingFailed
from stats.bayes.sampling.inputs import Inputs, Record

_LOGP: Final = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_EXPAND: Final = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_NOT_FINITE: Final = (3, 4)
"""What nutpie's `logp` returns where the gradient or the density is not finite; other codes say that it broke off."""


@dataclass(frozen=True, slots=True)
class Functions:
    """Two addresses with nutpie's signatures (compile_pymc.py of 0.16) and the lengths of what goes in and out."""

    logp_address: int
    expand_address: int
    parameters: int
    expanded: int

    def logp(self, point: Array, record: Record) -> tuple[float, Array] | None:
        """Log density and gradient (parameters,) at a point, or None where they are not finite.

        Raises `SamplingFailed` where the code breaks off, which is how arrays that do not fit show.
        """
        density, gradient = np.empty(()), np.empty(self.parameters)
        code = _LOGP(self.logp_address)(
            self.parameters, point.ctypes.data, gradient.ctypes.data, density.ctypes.data, record.address
        )
        if code in _NOT_FINITE:
            return None
        if code:
            raise SamplingFailed(f"the log density broke off with code {code}")
        return float(density), gradient

    def expand(self, point: Array, record: Record) -> Array:
        """Parameters and deterministics (expanded,) behind a point. Raises as `logp` does."""
        values = np.empty(self.expanded)
        code = _EXPAND(self.expand_address)(
            self.parameters, self.expanded, point.ctypes.data, values.ctypes.data, record.address
        )
        if code:
            raise SamplingFailed(f"the deterministics broke off with code {code}")
        return values

    def check(self, point: Array, arrays: dict[str, Array], inputs: Inputs) -> None:
        """Raise `SamplingFailed` where the shapes of the data do not fit the model or each other.

        One evaluation: microseconds, against the seconds in which a sampler looks for a place to start.
        """
        record = Record(arrays)
        try:
            self.logp(point, record)
            self.expand(point, record)
        except SamplingFailed as error:
            shapes = inputs.described(arrays)
            raise SamplingFailed(f"data do not fit the model: {shapes}" if shapes else str(error)) from error
