"""The data of a program: names and shapes checked before anything samples, and the memory compiled code reads.

nutpie checks neither names that are missing nor shapes: wrong ones surface as "all initialization points failed" after
a search, or as nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stats.bayes.sampling.contract import Array, Data, SamplingFailed


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model reads: the shapes it was built with and those of its example, by name, in the order of its record.

    `parameters` are the lengths above one that parameters have. Ranks are fixed, and so are lengths that a parameter
    has. Other lengths may change; those that were equal belong together. Loops in compiled code check no bounds, so
    this comes before anything runs; what operations on whole arrays need of each other, they say themselves
    (`Functions.check`).
    """

    built: Mapping[str, tuple[int, ...]]
    example: Mapping[str, tuple[int, ...]]
    parameters: frozenset[int]

    def checked(self, data: Data) -> dict[str, Array]:
        """Contiguous float64 copies in the model's order. Raises `SamplingFailed` on what the model cannot read."""
        missing = [name for name in self.built if name not in data]
        unknown = [name for name in data if name not in self.built]
        if missing:
            raise SamplingFailed(f"the model also needs data {', '.join(missing)}")
        if unknown:
            raise SamplingFailed(f"the model has no data {', '.join(unknown)}")
        arrays = {name: _array(name, data[name], shape) for name, shape in self.built.items()}
        if not self._fit({name: array.shape for name, array in arrays.items()}):
            raise SamplingFailed(f"data do not fit the model: {self.described(arrays)}")
        return arrays

    def described(self, data: Mapping[str, Array]) -> str:
        """Shapes as they came and as the model was built, where they differ, for a message."""
        differing = [name for name, shape in self.built.items() if data[name].shape != shape]
        return ", ".join(
            f"{name} {_shape(data[name].shape)} (built with {_shape(self.built[name])})" for name in differing
        )

    def _fit(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        together: dict[tuple[int, int], set[int]] = {}
        for name, shape in shapes.items():
            for built, example, length in zip(self.built[name], self.example[name], shape, strict=True):
                if built == example and built in self.parameters:
                    if length != built:
                        return False
                elif not built == example == 1:  # single entries have nothing in common
                    together.setdefault((built, example), set()).add(length)
        # Lengths that the example changed are known to change together; others may also be equal by chance, and stay.
        return all(
            len(lengths - {built} if built == example else lengths) <= 1
            for (built, example), lengths in together.items()
        )


def _array(name: str, value: Array, shape: tuple[int, ...]) -> Array:
    given = np.asarray(value)
    if given.dtype.kind not in "fiub":
        raise SamplingFailed(f"data {name} are not numbers")
    if given.ndim != len(shape):
        raise SamplingFailed(f"data {name} have shape {_shape(given.shape)}, the model was built with {_shape(shape)}")
    array = np.array(given, dtype=np.float64, order="C")
    if not np.isfinite(array).all():
        raise SamplingFailed(f"data {name} are not finite")
    return array


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape) or "scalar"


class Record:
    """The memory that nutpie's compiled functions read: addresses, sizes, then shapes of the data, 64-bit each.

    It must live as long as anything that was given its address.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = tuple(arrays.values())
        self.words = np.array(
            [
                *(array.ctypes.data for array in self._arrays),
                *(array.size for array in self._arrays),
                *(length for array in self._arrays for length in array.shape),
            ],
            dtype=np.uint64,
        )

    @property
    def address(self) -> int:
        """Where it begins."""
        return int(self.words.ctypes.data)
