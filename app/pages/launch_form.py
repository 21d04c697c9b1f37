"""The fields of the form that records a launch, and back: nothing of a definition is lost on the way."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.datastructures import FormData

from experiments.definitions import LaunchSpec
from experiments.errors import FieldError

TEXTS: Final = ("key", "name", "description", "owner", "experiment_key", "shipped_variant", "north_star_key")
FIELDS: Final = (*TEXTS, "announced_at", "announced_at_exact", "eligible_dimension", "eligible_segments", "version")
ROWS: Final[dict[str, tuple[str, ...]]] = {
    "step": ("at", "at_exact", "coverage", "mechanism", "segments"),
    "confounder": ("name", "description", "began_at", "began_at_exact", "ended_at", "ended_at_exact", "segments"),
    "measurement": (
        "series_key",
        "regressors",
        "controls",
        "excluded_segments",
        "measure_for_days",
        "history_days",
        "carry_over_periods",
        "level",
    ),
}
SECTIONS: Final = {"step": "rollout", "confounder": "confounders", "measurement": "measurements"}
DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "step": {"coverage": "100", "mechanism": "all_at_once"},
    "confounder": {},
    "measurement": {"measure_for_days": "56", "history_days": "1095", "carry_over_periods": "0", "level": "95"},
}
"""What a new row says before anybody types; a row that says no more than this is empty."""


@dataclass(slots=True)
class LaunchForm:
    """What was typed, kept as typed: `fields` by name, `rows` by kind (empty rows too).

    Times are minutes in UTC. What was recorded to the second stays so: `…_exact` holds it while the minute is the same.
    """

    fields: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    faults: list[FieldError] = field(default_factory=list)

    @classmethod
    def blank(cls) -> "LaunchForm":
        """The form as it first appears: one step, room for one measurement."""
        form = cls({}, {"step": [], "confounder": [], "measurement": []})
        form.add("step")
        form.add("measurement")
        return form

    @classmethod
    def of(cls, spec: LaunchSpec, version: int) -> "LaunchForm":
        """The form of a recorded launch."""
        fields = {name: getattr(spec, name) or "" for name in TEXTS} | {"version": str(version)}
        fields |= _moment("announced_at", spec.announced_at)
        if spec.eligible is not None:
            fields |= {
                "eligible_dimension": spec.eligible.dimension,
                "eligible_segments": _joined(spec.eligible.segments),
            }
        steps = [
            {
                **_moment("at", step.at),
                "coverage": f"{step.coverage * 100:.12g}",
                "mechanism": step.mechanism,
                "segments": _joined(step.segments),
            }
            for step in spec.rollout
        ]
        confounders = [
            {
                "name": other.name,
                "description": other.description,
                **_moment("began_at", other.began_at),
                **_moment("ended_at", other.ended_at),
                "segments": _joined(other.segments),
            }
            for other in spec.confounders
        ]
        measurements = [
            {
                "series_key": item.series_key,
                "regressors": _joined(item.regressors),
                "controls": _joined(item.controls),
                "excluded_segments": _joined(item.excluded_segments),
                "measure_for_days": str(item.measure_for_days),
                "history_days": str(item.history_days),
                "carry_over_periods": str(item.carry_over_periods),
                "level": f"{item.level * 100:.12g}",
            }
            for item in spec.measurements
        ]
        return cls(fields, {"step": steps, "confounder": confounders, "measurement": measurements})

    @classmethod
    def read(cls, form: FormData | Mapping[str, Any]) -> "LaunchForm":
        """The form as it was sent."""

        def text(name: str) -> str:
            return str(form.get(name, "")).strip()

        def rows(kind: str) -> list[dict[str, str]]:
            positions = sorted({int(m[1]) for key in form if (m := re.match(rf"{kind}-(\d{{1,4}})-", key))})
            return [{name: text(f"{kind}-{position}-{name}") for name in ROWS[kind]} for position in positions]

        return cls({name: text(name) for name in FIELDS}, {kind: rows(kind) for kind in ROWS})

    def add(self, kind: str) -> None:
        """One more row of a kind; another kind changes nothing."""
        if kind in ROWS:
            self.rows[kind].append(dict.fromkeys(ROWS[kind], "") | DEFAULTS[kind])

    def drop(self, row: str) -> None:
        """Take a row away, named as its fields are: `step-2`. Another name changes nothing."""
        kind, _, position = row.partition("-")
        if kind in ROWS and position.isdecimal() and int(position) < len(self.rows[kind]):
            del self.rows[kind][int(position)]

    def rearrange(self, form: FormData | Mapping[str, Any]) -> bool:
        """Add or take away the row that a button asked for; whether one did."""
        if form.get("add"):
            self.add(str(form["add"]))
        if form.get("drop"):
            self.drop(str(form["drop"]))
        return bool(form.get("add") or form.get("drop"))

    def document(self) -> dict[str, Any]:
        """The definition that was meant; what cannot be read stays out and becomes a fault."""
        self.faults.clear()
        document: dict[str, Any] = {name: self.fields.get(name, "") for name in TEXTS}
        for name in ("experiment_key", "shipped_variant", "north_star_key"):
            document[name] = document[name] or None
        document["announced_at"] = self._time(self.fields, "announced_at", "/announced_at")
        dimension, segments = self.fields.get("eligible_dimension", ""), self.fields.get("eligible_segments", "")
        if dimension or segments:
            document["eligible"] = {"dimension": dimension, "segments": _words(segments)}
        document["rollout"] = [self._step(row, at) for row, at in self._filled("step")]
        document["confounders"] = [self._confounder(row, at) for row, at in self._filled("confounder")]
        document["measurements"] = [self._measurement(row, at) for row, at in self._filled("measurement")]
        return document

    @property
    def expected(self) -> int | None:
        """The version that the form was made from."""
        text = self.fields.get("version", "")
        return int(text) if text.isascii() and text.isdigit() else None

    def error_at(self, pointer: str, *, within: bool = False) -> str:
        """The faults of a field; `within`: also those of its items."""
        return "; ".join(
            dict.fromkeys(
                fault.detail
                for fault in self.faults
                if fault.pointer == pointer or (within and fault.pointer.startswith(f"{pointer}/"))
            )
        )

    def pointer(self, kind: str, position: int) -> str:
        """Where the definition holds a row of the form (empty rows are left out); empty for an empty row."""
        rows = self.rows[kind]
        if not _says_something(kind, rows[position]):
            return ""
        return f"/{SECTIONS[kind]}/{sum(_says_something(kind, row) for row in rows[:position])}"

    def fault(self, pointer: str, detail: str) -> None:
        """Something that was typed cannot be meant."""
        self.faults.append(FieldError(pointer, detail))

    def _filled(self, kind: str) -> list[tuple[dict[str, str], str]]:
        kept = [row for row in self.rows.get(kind, []) if _says_something(kind, row)]
        return [(row, f"/{SECTIONS[kind]}/{place}") for place, row in enumerate(kept)]

    def _step(self, row: dict[str, str], at: str) -> dict[str, Any]:
        if not row["at"]:
            self.fault(f"{at}/at", "say when")
        return _known(
            at=self._time(row, "at", f"{at}/at"),
            coverage=self._percent(row["coverage"], f"{at}/coverage"),
            mechanism=row["mechanism"],
            segments=_words(row["segments"]),
        )

    def _confounder(self, row: dict[str, str], at: str) -> dict[str, Any]:
        return _known(
            name=row["name"],
            description=row["description"],
            began_at=self._time(row, "began_at", f"{at}/began_at"),
            ended_at=self._time(row, "ended_at", f"{at}/ended_at"),
            segments=_words(row["segments"]),
        )

    def _measurement(self, row: dict[str, str], at: str) -> dict[str, Any]:
        whole = ("measure_for_days", "history_days", "carry_over_periods")
        return _known(
            series_key=row["series_key"],
            level=self._percent(row["level"], f"{at}/level") if row["level"] else None,
            **{name: _words(row[name]) for name in ("regressors", "controls", "excluded_segments")},
            **{name: self._whole(row[name], f"{at}/{name}") for name in whole if row[name]},
        )

    def _time(self, row: Mapping[str, str], name: str, pointer: str) -> str | None:
        text, exact = row.get(name, ""), row.get(f"{name}_exact", "")
        if not text:
            return None
        if exact.startswith(text):
            text = exact
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fault(pointer, f"“{text}” is not a time; write it as 2026-12-31T09:00")
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()

    def _percent(self, text: str, pointer: str) -> float | None:
        try:
            return round(float(text.replace("%", "").replace(",", ".").strip()) / 100, 12)
        except ValueError:
            self.fault(pointer, f"“{text}” is not a percentage" if text else "say how many percent")
            return None

    def _whole(self, text: str, pointer: str) -> int | None:
        if not (text.isascii() and text.isdigit()):
            self.fault(pointer, f"“{text}” is not a whole number")
            return None
        return int(text)


def _says_something(kind: str, row: Mapping[str, str]) -> bool:
    return any(
        value and value != DEFAULTS[kind].get(name) for name, value in row.items() if not name.endswith("_exact")
    )


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(name: str, at: datetime | None) -> dict[str, str]:
    if at is None:
        return {name: "", f"{name}_exact": ""}
    return {name: at.strftime("%Y-%m-%dT%H:%M"), f"{name}_exact": at.replace(tzinfo=None).isoformat()}


def _words(text: str) -> list[str]:
    """Values separated by commas; one that holds a comma is in double quotes."""
    try:
        found = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:  # too long to be one of many words; the definition's own limit says so
        found = [text]
    return [word.strip() for word in found if word.strip()]


def _joined(words: Sequence[str]) -> str:
    if not words:
        return ""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(words)
    return line.getvalue() if '"' in line.getvalue() else ", ".join(words)
