"""What a report is made of. Writers (HTML, PDF) know these blocks and nothing of what they tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.charts.theme import Spec


@dataclass(frozen=True, slots=True)
class Heading:
    """`methods` are ids of what the numbers below were made by; the last section says what they are."""

    text: str
    methods: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Numbers:
    items: Sequence[Number]


@dataclass(frozen=True, slots=True)
class Picture:
    chart: Spec
    caption: str


@dataclass(frozen=True, slots=True)
class Table:
    """The first `texts` columns hold text, the others numbers, which are set to the right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[str]


type Block = Heading | Paragraph | Numbers | Picture | Table | Bullets


@dataclass(frozen=True, slots=True)
class Report:
    """`made_of` says which analysis the numbers are of; `at` is when what it tells was known."""

    title: str
    subtitle: str
    made_of: str
    at: datetime
    blocks: Sequence[Block]
