"""The form of a growth review: what was typed, what is proposed, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, Self

from experiments.definitions import ReviewSpec
from experiments.errors import FieldError

FIELDS: Final = {
    "key": "",
    "name": "",
    "north_star_key": "",
    "begins_on": "",
    "ends_on": "",
    "compare_with": "year_earlier",
    "engine": "collapsed",
    "owner": "",
    "notes": "",
    "next_bets": "",
}
_QUARTERS: Final = ("First", "Second", "Third", "Fourth")


@dataclass(slots=True)
class ReviewForm:
    """`version` is that of the review which the form was read from, empty for a new one."""

    fields: dict[str, str] = field(default_factory=lambda: dict(FIELDS))
    version: str = ""
    faults: list[FieldError] = field(default_factory=list)

    @classmethod
    def proposed(cls, today: date, *, north_star_key: str, taken: Sequence[str]) -> Self:
        """The last quarter that is over, with a key that is not taken."""
        begins, ends, quarter, year = last_quarter(today)
        key = f"{year}-q{quarter}"
        return cls(
            FIELDS
            | {
                "key": key if key not in taken else f"{north_star_key}-{key}"[:63],
                "name": f"{_QUARTERS[quarter - 1]} quarter of {year}",
                "north_star_key": north_star_key,
                "begins_on": begins.isoformat(),
                "ends_on": ends.isoformat(),
            }
        )

    @classmethod
    def of(cls, spec: ReviewSpec, version: int) -> Self:
        return cls({name: str(value) for name, value in spec.model_dump(mode="json").items()}, str(version))

    @classmethod
    def read(cls, form: Mapping[str, Any]) -> Self:
        """As it was sent. Browsers send line ends as CR LF."""
        typed = {name: str(form.get(name, default)).replace("\r\n", "\n").strip() for name, default in FIELDS.items()}
        return cls(typed, str(form.get("version", "")))

    @property
    def expected(self) -> int:
        """The version that was seen; none that ever was where the form does not say."""
        return int(self.version) if self.version.isascii() and self.version.isdigit() else 0

    def error_at(self, pointer: str) -> str:
        return "; ".join(dict.fromkeys(fault.detail for fault in self.faults if fault.pointer == pointer))


def last_quarter(today: date) -> tuple[date, date, int, int]:
    """(first Monday, the Monday after, quarter, year) of the newest quarter whose weeks are all over.

    A quarter has the weeks from that of its first day up to, not including, that of the next one's first day.
    """
    begin = date(today.year, 3 * ((today.month - 1) // 3) + 1, 1)
    before = _quarter_before(begin)
    return _monday(before), _monday(begin), (before.month + 2) // 3, before.year


def _quarter_before(begin: date) -> date:
    return date(begin.year - 1, 10, 1) if begin.month == 1 else date(begin.year, begin.month - 3, 1)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
