"""The fields of the form that registers a holdout, and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.datastructures import FormData

from experiments.definitions import HoldoutSpec
from experiments.errors import FieldError

TEXTS: Final = ("key", "name", "description", "owner", "experiment_key", "metric_key")
MOMENTS: Final = ("started_at", "released_at")
FIELDS: Final = (*TEXTS, *MOMENTS, *(f"{name}_exact" for name in MOMENTS), "launch_keys", "version")


@dataclass(slots=True)
class HoldoutForm:
    """What was typed, kept as typed. Times are minutes in UTC; `…_exact` keeps the seconds while the minute stays."""

    fields: dict[str, str] = field(default_factory=lambda: dict.fromkeys(FIELDS, ""))
    faults: list[FieldError] = field(default_factory=list)

    @classmethod
    def of(cls, spec: HoldoutSpec, version: int) -> "HoldoutForm":
        """The form of a registered holdout."""
        fields = {name: str(getattr(spec, name)) for name in TEXTS} | {"version": str(version)}
        for name, at in (("started_at", spec.started_at), ("released_at", spec.released_at)):
            fields[name] = at.strftime("%Y-%m-%dT%H:%M") if at else ""
            fields[f"{name}_exact"] = at.replace(tzinfo=None).isoformat() if at else ""
        return cls(fields | {"launch_keys": ", ".join(spec.launch_keys)})

    @classmethod
    def read(cls, form: FormData | Mapping[str, Any]) -> "HoldoutForm":
        """The form as it was sent."""
        return cls({name: str(form.get(name, "")).strip() for name in FIELDS})

    @property
    def expected(self) -> int | None:
        """The version that the form was made from."""
        text = self.fields["version"]
        return int(text) if text.isascii() and text.isdigit() else None

    def document(self) -> dict[str, Any]:
        """The definition that was meant; what cannot be read stays out and becomes a fault."""
        self.faults.clear()
        return {
            **{name: self.fields[name] for name in TEXTS},
            **{name: at for name in MOMENTS if (at := self._moment(name)) is not None},
            "launch_keys": [key for key in self.fields["launch_keys"].replace(",", " ").split() if key],
        }

    def error_at(self, pointer: str) -> str:
        """The faults of a field, and of its items."""
        return "; ".join(
            dict.fromkeys(
                fault.detail
                for fault in self.faults
                if fault.pointer == pointer or fault.pointer.startswith(f"{pointer}/")
            )
        )

    def _moment(self, name: str) -> str | None:
        text, exact = self.fields[name], self.fields[f"{name}_exact"]
        if not text:
            return None
        try:
            at = datetime.fromisoformat(exact if exact.startswith(text) else text)
        except ValueError:
            self.faults.append(FieldError(f"/{name}", f"“{text}” is not a time; write it as 2026-12-31T09:00"))
            return None
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
