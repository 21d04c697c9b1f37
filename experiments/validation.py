"""From pydantic's faults to ours: every one with a JSON pointer into what the caller sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from experiments.errors import FieldError, InvalidDefinition

_LEADING_FIELD = re.compile(r"^(?P<field>[a-z_]+): (?P<detail>.*)$", re.DOTALL)


def parse[Model: BaseModel](model: type[Model], document: Any) -> Model:
    """The document as a definition. Raises `InvalidDefinition` naming every faulty field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), document) from error


def parse_as[Value](adapter: TypeAdapter[Value], document: Any) -> Value:
    """As `parse`, for a type that is not a model (a union of definitions)."""
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), document) from error


def invalid(faults: Sequence[Mapping[str, Any]], document: Any) -> InvalidDefinition:
    """One problem for all faults. A location may start with `body`, `query`, `path` or `header`, as FastAPI's do."""
    errors = [_field_error(fault, document) for fault in faults]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    where = f"{first.pointer}: " if first.pointer else ""
    return InvalidDefinition(f"{where}{first.detail}{more}", remedy="Correct the fields under `errors`.", errors=errors)


def _field_error(fault: Mapping[str, Any], document: Any) -> FieldError:
    location = tuple(fault["loc"])
    detail = str(fault["msg"]).removeprefix("Value error, ")
    if location and location[0] in ("query", "path", "header", "cookie"):
        return FieldError("/" + "/".join(map(str, location)), detail)
    if location and location[0] == "body":
        location = location[1:]
    if fault["type"] == "json_invalid":
        return FieldError("", f"the body is not JSON: {fault.get('ctx', {}).get('error', detail)}")
    pointer = _pointer(location, document, missing=fault["type"] in ("missing", "union_tag_not_found"))
    leading = _LEADING_FIELD.match(detail)
    if leading and isinstance(document, Mapping):
        pointer, detail = f"{pointer}/{leading['field']}", leading["detail"]
    return FieldError(pointer, detail)


def _pointer(location: Sequence[str | int], document: Any, *, missing: bool) -> str:
    """The part of pydantic's location that exists in the document: names of union members are not in it."""
    parts: list[str] = []
    here = document
    for position, step in enumerate(location):
        if _has(here, step):
            here = here[step]
        elif not (missing and position == len(location) - 1):
            continue
        parts.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def _has(container: Any, step: str | int) -> bool:
    if isinstance(container, Mapping):
        return step in container
    return isinstance(container, list) and isinstance(step, int) and step < len(container)
