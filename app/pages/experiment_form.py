"""The fields of the new-experiment form, and back: from what was typed to a definition, with faults beside fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, Final

from starlette.datastructures import FormData

from app.pages.experiment_options import DEFAULTS, LISTS, POINTERS, chosen, options, percentage
from experiments.definitions import ExperimentSpec
from experiments.errors import FieldError

VARIANT_SLOTS: Final = 3
METRIC_SLOTS: Final = 5
TEXTS: Final = ("key", "name", "hypothesis", "owner", "team", "unit_type", "data", "north_star_key")
MORE: Final = ("tags", "segments", "planned_end_at", "planned_units", "coverage", "parent_key", "relation")


@dataclass(slots=True)
class ExperimentForm:
    """What was typed, kept as typed: `fields` by name, `variants` and `metrics` row by row (empty rows too)."""

    fields: dict[str, str] = field(default_factory=dict)
    variants: list[dict[str, str]] = field(default_factory=list)
    metrics: list[dict[str, str]] = field(default_factory=list)
    faults: list[FieldError] = field(default_factory=list)

    @classmethod
    def blank(cls) -> "ExperimentForm":
        """The form as it first appears: two arms of equal weight, room for metrics."""
        return cls(
            {"unit_type": "user", "data": "events", "coverage": "100", **DEFAULTS},
            [
                {"key": "control", "name": "Control", "weight": "50", "control": "on"},
                {"key": "treatment", "name": "Treatment", "weight": "50", "control": ""},
                *({"key": "", "name": "", "weight": "", "control": ""} for _ in range(VARIANT_SLOTS - 2)),
            ],
            [
                {"metric_key": "", "role": "primary" if i == 0 else "secondary", "mde": "", "margin": ""}
                for i in range(METRIC_SLOTS)
            ],
        )

    @classmethod
    def of(cls, spec: ExperimentSpec) -> "ExperimentForm":
        """The form that would have made this definition, as far as it has fields for it, with room for more."""
        variants = [
            {
                "key": variant.key,
                "name": variant.name,
                "weight": percentage(variant.weight),
                "control": "on" if variant.is_control else "",
            }
            for variant in spec.variants
        ]
        metrics = [
            {
                "metric_key": item.metric_key,
                "role": item.role.value,
                "mde": percentage(item.mde),
                "margin": percentage(item.non_inferiority_margin),
            }
            for item in spec.metrics
        ]
        fields = {
            **{name: str(getattr(spec, name) or "") for name in (*TEXTS, "planned_units", "parent_key", "relation")},
            "tags": ", ".join(spec.tags),
            "segments": ", ".join(spec.segments),
            "coverage": percentage(spec.coverage),
            "planned_end_at": spec.planned_end_at.date().isoformat() if spec.planned_end_at else "",
            **DEFAULTS,
            **chosen(spec),
        }
        form = cls(fields, variants, metrics)
        while len(form.variants) < VARIANT_SLOTS:
            form.add("variant")
        while len(form.metrics) < METRIC_SLOTS:
            form.add("metric")
        return form

    @classmethod
    def read(cls, form: FormData | Mapping[str, Any]) -> "ExperimentForm":
        """The form as it was sent."""

        def text(name: str) -> str:
            return str(form.get(name, "")).strip()

        def rows(prefix: str, names: tuple[str, ...]) -> list[dict[str, str]]:
            positions = sorted({int(m[1]) for key in form if (m := re.match(rf"{prefix}-(\d{{1,3}})-", key))})
            return [{name: text(f"{prefix}-{position}-{name}") for name in names} for position in positions]

        variants = rows("variant", ("key", "name", "weight"))
        for position, variant in enumerate(variants):
            variant["control"] = "on" if text("control") == str(position) else ""
        return cls(
            {name: text(name) for name in (*TEXTS, *MORE)} | {name: text(name) for name in DEFAULTS if name in form},
            variants,
            rows("metric", ("metric_key", "role", "mde", "margin")),
        )

    def add(self, what: str) -> None:
        """One more empty row of `variant` or `metric`."""
        if what == "variant":
            self.variants.append({"key": "", "name": "", "weight": "", "control": ""})
        elif what == "metric":
            self.metrics.append({"metric_key": "", "role": "secondary", "mde": "", "margin": ""})

    def document(self) -> dict[str, Any]:
        """The definition that was meant; numbers that are not numbers stay out and become faults."""
        self.faults.clear()
        document: dict[str, Any] = {name: self.fields.get(name, "") for name in TEXTS}
        document["north_star_key"] = document["north_star_key"] or None
        document["parent_key"] = self.fields.get("parent_key") or None
        document["relation"] = self.fields.get("relation") or None
        document["tags"] = _words(self.fields.get("tags", ""))
        document["segments"] = _words(self.fields.get("segments", ""))
        document["coverage"] = self._percent("/coverage", self.fields.get("coverage") or "100")
        document["planned_units"] = self._whole("/planned_units", self.fields.get("planned_units", ""))
        document["planned_end_at"] = self._day("/planned_end_at", self.fields.get("planned_end_at", ""))
        document["variants"] = self._variants()
        document["metrics"] = self._metrics()
        document |= options(self.fields, self.fault)
        return {name: value for name, value in document.items() if value is not None or name == "north_star_key"}

    def error_at(self, pointer: str) -> str:
        """The fault of a field, empty when there is none. Sections take faults of their parts that have no field."""
        return "; ".join(fault.detail for fault in self.faults if fault.pointer == pointer)

    def option_error(self, name: str) -> str:
        """The fault of an advanced option, or of one of its items."""
        pointers = POINTERS[name]
        return "; ".join(
            dict.fromkeys(
                fault.detail
                for fault in self.faults
                if fault.pointer in pointers
                or (name in LISTS and any(fault.pointer.startswith(f"{pointer}/") for pointer in pointers))
            )
        )

    @property
    def advanced(self) -> bool:
        """Whether an advanced option differs from its default, or is at fault, so that it must be seen."""
        changed = any(self.fields.get(name, default) != default for name, default in DEFAULTS.items())
        return changed or any(self.option_error(name) for name in DEFAULTS)

    def fault(self, pointer: str, detail: str) -> None:
        """Something that was typed cannot be meant."""
        self.faults.append(FieldError(pointer, detail))

    def row_of(self, kind: str, position: int) -> int:
        """The position in the document of the form's row (empty rows are left out of the document)."""
        rows = self.variants if kind == "variants" else self.metrics
        name = "key" if kind == "variants" else "metric_key"
        return sum(1 for row in rows[:position] if _filled(row, name))

    def _variants(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row in self.variants:
            if not _filled(row, "key"):
                continue
            pointer = f"/variants/{len(found)}/weight"
            variant = {
                "key": row["key"],
                "name": row["name"],
                "weight": self._percent(pointer, row["weight"] or "0"),
                "is_control": bool(row["control"]),
            }
            found.append({name: value for name, value in variant.items() if value is not None})
        return found

    def _metrics(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row in self.metrics:
            if not _filled(row, "metric_key"):
                continue
            pointer = f"/metrics/{len(found)}"
            metric = {
                "metric_key": row["metric_key"],
                "role": row["role"] or "secondary",
                "mde": self._percent(f"{pointer}/mde", row["mde"]) if row["mde"] else None,
                "non_inferiority_margin": self._percent(f"{pointer}/non_inferiority_margin", row["margin"])
                if row["margin"]
                else None,
            }
            found.append({name: value for name, value in metric.items() if value is not None})
        return found

    def _percent(self, pointer: str, text: str) -> float | None:
        try:
            return round(float(text.replace("%", "").replace(",", ".").strip()) / 100, 12)
        except ValueError:
            self.faults.append(FieldError(pointer, f"“{text}” is not a percentage"))
            return None

    def _whole(self, pointer: str, text: str) -> int | None:
        plain = re.sub(r"[\s,.’'_]", "", text)
        if not plain:
            return None
        if not plain.isascii() or not plain.isdigit():
            self.faults.append(FieldError(pointer, f"“{text}” is not a whole number"))
            return None
        return int(plain)

    def _day(self, pointer: str, text: str) -> str | None:
        if not text:
            return None
        try:
            day = date.fromisoformat(text)
        except ValueError:
            self.faults.append(FieldError(pointer, f"“{text}” is not a day; write it as 2026-12-31"))
            return None
        return datetime.combine(day, time(), UTC).isoformat()


def _filled(row: dict[str, str], name: str) -> bool:
    """Whether a row says anything: a row with only a weight or a margin is a mistake to show, not to drop."""
    others = {key for key in row if key not in ("role", "control", name)}
    return bool(row[name] or any(row[key] for key in others))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
