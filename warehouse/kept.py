"""Frozen results of a pass as one file, to be read again by a later pass.

Dataclasses, named tuples, tuples, lists, dictionaries with text or whole-number keys, numpy arrays, times, paths,
texts, numbers and None; read back as the very same types. The file is an uncompressed `.npz`: the arrays, and one JSON
document that holds everything else and refers to them. Nothing of it is executed when it is read.
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

_TREE: Final = "tree"


class Unreadable(ValueError):
    """A kept file is damaged, or was written by another version of the code: compute it again."""


def keep(path: Path, thing: object) -> None:
    """Write a thing; complete under its name or not there at all, also if the machine dies on the way."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _flatten(thing, arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with staged.open("wb") as file:
            document = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
            np.savez(file, allow_pickle=False, **{_TREE: document, **arrays})
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read[T](path: Path, kind: type[T], known: Mapping[str, type]) -> T:
    """What `keep` wrote. `known` are the dataclasses and named tuples by name.

    Raises `Unreadable`, FileNotFoundError.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        thing = _restore(json.loads(arrays.pop(_TREE).tobytes()), arrays, known)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise Unreadable(f"{path.name}: {type(error).__name__}") from error
    if not isinstance(thing, kind):
        raise Unreadable(f"{path.name} holds a {type(thing).__name__}")
    return thing


def _flatten(thing: object, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    match thing:
        case None | bool() | str():
            return thing
        case np.generic():
            return _flatten(np.asarray(thing), arrays) | {"scalar": True}
        case int():
            return thing
        case float():
            return {"float": thing.hex()}
        case datetime():
            return {"time": thing.isoformat()}
        case Path():
            return {"path": str(thing)}
        case np.ndarray():
            if thing.dtype.hasobject:
                raise TypeError("arrays of objects cannot be kept")
            name = f"a{len(arrays)}"
            arrays[name] = thing
            return {"array": name}
        case tuple() if hasattr(thing, "_fields"):
            return {"of": type(thing).__name__, "values": [_flatten(item, arrays) for item in thing]}
        case tuple():
            return {"tuple": [_flatten(item, arrays) for item in thing]}
        case list():
            return {"list": [_flatten(item, arrays) for item in thing]}
        case Mapping():
            return {"pairs": [[_flatten(key, arrays), _flatten(value, arrays)] for key, value in thing.items()]}
    if is_dataclass(thing) and not isinstance(thing, type):
        values = [_flatten(getattr(thing, item.name), arrays) for item in fields(thing)]
        return {"of": type(thing).__name__, "names": [item.name for item in fields(thing)], "values": values}
    raise TypeError(f"a {type(thing).__name__} cannot be kept")


def _restore(tree: Any, arrays: Mapping[str, np.ndarray[Any, Any]], known: Mapping[str, type]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        array = arrays[tree["array"]]
        return array[()] if tree.get("scalar") else array
    if "float" in tree:
        return float.fromhex(tree["float"])
    if "time" in tree:
        return datetime.fromisoformat(tree["time"])
    if "path" in tree:
        return Path(tree["path"])
    if "tuple" in tree:
        return tuple(_restore(item, arrays, known) for item in tree["tuple"])
    if "list" in tree:
        return [_restore(item, arrays, known) for item in tree["list"]]
    if "pairs" in tree:
        return {_restore(key, arrays, known): _restore(value, arrays, known) for key, value in tree["pairs"]}
    kind, values = known[tree["of"]], [_restore(item, arrays, known) for item in tree["values"]]
    if "names" not in tree:
        return kind(*values)
    if not is_dataclass(kind) or tree["names"] != [item.name for item in fields(kind)]:
        raise ValueError(f"{tree['of']} has other fields now")
    return kind(**dict(zip(tree["names"], values, strict=True)))
