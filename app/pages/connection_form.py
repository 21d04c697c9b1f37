"""The fields of the form that registers a connection, and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import FormData

from experiments.definitions import ConnectionSpec
from experiments.errors import FieldError

COMMON: Final = ("kind", "key", "name")
NUMBERS: Final = ("port", "statement_timeout_seconds", "restatement_days")
FIELDS: Final = (*COMMON, *NUMBERS, "host", "database", "user", "tls", "remote", "parquet", "version")
OF_KIND: Final = {"postgres": ("host", "database", "user", "tls"), "spark": ("remote",)}
TLS: Final = {
    "verify-full": "checked, with the server's name",
    "verify-ca": "checked, any name",
    "require": "encrypted, not checked",
    "prefer": "encrypted if the server can",
    "disable": "not encrypted",
}


@dataclass(slots=True)
class ConnectionForm:
    """What was typed, kept as typed. `parquet` is one `table = folder` a line."""

    fields: dict[str, str] = field(default_factory=lambda: dict.fromkeys(FIELDS, ""))
    faults: list[FieldError] = field(default_factory=list)

    @classmethod
    def empty(cls, kind: str) -> "ConnectionForm":
        """A form of this kind, with the usual values."""
        seconds = "300" if kind == "postgres" else "900"
        usual = {"port": "5432", "tls": "verify-full", "statement_timeout_seconds": seconds, "restatement_days": "3"}
        return cls(dict.fromkeys(FIELDS, "") | usual | {"kind": kind})

    @classmethod
    def of(cls, spec: ConnectionSpec, version: int) -> "ConnectionForm":
        """The form of a registered connection."""
        document = spec.model_dump(mode="json")
        fields = {name: "" if document.get(name) is None else f"{document.get(name)}" for name in FIELDS}
        for name in NUMBERS:
            if name in document:
                fields[name] = f"{document[name]:g}"
        tables = document.get("parquet", {})
        lines = "\n".join(f"{table} = {folder}" for table, folder in tables.items())
        return cls(fields | {"version": str(version), "parquet": lines})

    @classmethod
    def read(cls, form: FormData | Mapping[str, Any]) -> "ConnectionForm":
        """The form as it was sent."""
        return cls({name: str(form.get(name, "")).strip() for name in FIELDS})

    @property
    def kind(self) -> str:
        """`postgres` or `spark`."""
        return "spark" if self.fields["kind"] == "spark" else "postgres"

    @property
    def expected(self) -> int | None:
        """The version that the form was made from."""
        text = self.fields["version"]
        return int(text) if text.isascii() and text.isdigit() else None

    def document(self) -> dict[str, Any]:
        """The definition that was meant; what cannot be read stays out and becomes a fault."""
        self.faults.clear()
        found: dict[str, Any] = {name: self.fields[name] for name in (*COMMON, *OF_KIND[self.kind])}
        found["kind"] = self.kind
        for name in NUMBERS:
            if self.fields[name] and not (name == "port" and self.kind == "spark"):
                # Numbers as text are read, or refused with their place, by the definition itself.
                found[name] = self.fields[name]
        if self.kind == "spark":
            found["parquet"] = self._tables()
        return found

    def error_at(self, pointer: str) -> str:
        """The faults of a field, and of its items."""
        found = (
            fault.detail for fault in self.faults if fault.pointer == pointer or fault.pointer.startswith(f"{pointer}/")
        )
        return "; ".join(dict.fromkeys(found))

    def _tables(self) -> dict[str, str]:
        found = {}
        for line in self.fields["parquet"].splitlines():
            table, equals, folder = (part.strip() for part in line.partition("="))
            if equals and table and folder:
                found[table] = folder
            elif line.strip():
                self.faults.append(FieldError("/parquet", f"“{line.strip()[:80]}” is not “table = folder”"))
        return found
