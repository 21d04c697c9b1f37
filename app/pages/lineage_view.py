"""Where the cards of a lineage stand: stages from left to right, ideas from top to bottom. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.charts.pulled import in_words
from app.charts.units import with_interval
from experiments.lineage_graph import Edge, Estimate, Graph, Node

WIDTHS: Final = {"hypothesis": 150, "experiment": 212, "launch": 190, "ledger": 196, "holdout": 190}
HEIGHTS: Final = {"hypothesis": 128, "experiment": 236, "launch": 128, "ledger": 112, "holdout": 128}
HEIGHT: Final = max(HEIGHTS.values())
"""Of a row; lower cards stand in its middle."""
ACROSS: Final = 30
DOWN: Final = 20
TOP: Final = 26
"""Room for the names of the stages."""
_STAGES: Final = {"hypothesis": "Hypothesis", "launch": "Launch", "ledger": "Ledger", "holdout": "Holdout"}


@dataclass(frozen=True, slots=True)
class Card:
    """A node with its place in px, its numbers in words, and the hypothesis where that has no card of its own."""

    node: Node
    x: int
    y: int
    width: int
    height: int
    hypothesis: str
    measured: str
    believed: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line from the right edge of a card to the left edge of another; `label` is empty where the stages say it."""

    path: str
    relation: str
    label: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn lineage: its size in px, the stages with their left edges, cards and lines; `listed` has every node.

    Cards come row by row, so that what came of an experiment is read right after it.
    """

    title: str
    key: str
    width: int
    height: int
    stages: Sequence[tuple[int, str]]
    cards: Sequence[Card]
    lines: Sequence[Line]
    listed: Sequence[Card]


def picture(graph: Graph, *, title: str, key: str) -> Picture:
    """The graph of one family. Only the first hypothesis has a card: those of follow-ups stand in theirs."""
    places = _places(graph)
    widths: dict[int, int] = {}
    for node in graph.nodes:
        widths[places[node.id][0]] = WIDTHS[node.kind]
    left, right = {}, 0
    for column in sorted(widths):
        left[column] = right
        right += widths[column] + ACROSS
    hypotheses = {edge.target: edge.source for edge in graph.edges if edge.relation == "tested_by"}
    follows = {edge.target for edge in graph.edges if edge.source.startswith("experiment:")}
    inside = {hypotheses[each]: each for each in hypotheses if each in follows}
    texts = {node.id: node.name for node in graph.nodes if node.kind == "hypothesis"}
    listed = [
        Card(
            node,
            left[places[node.id][0]],
            TOP + places[node.id][1] * (HEIGHT + DOWN) + (HEIGHT - HEIGHTS[node.kind]) // 2,
            WIDTHS[node.kind],
            HEIGHTS[node.kind],
            texts[hypotheses[node.id]] if node.id in inside.values() else "",
            _said(node.measured),
            _said(node.believed),
        )
        for node in sorted(graph.nodes, key=lambda node: places[node.id][::-1])
    ]
    cards = [card for card in listed if card.node.id not in inside]
    at = {card.node.id: card for card in cards}
    names: dict[int, str] = {}
    for card in cards:
        names.setdefault(card.x, _STAGES.get(card.node.kind) or "Experiment")
    first = min((x for x, name in names.items() if name == "Experiment"), default=0)
    return Picture(
        title=title,
        key=key,
        width=right - ACROSS,
        height=max((card.y + card.height for card in cards), default=0) + 2,
        stages=sorted((x, "Follow-up" if name == "Experiment" and x > first else name) for x, name in names.items()),
        cards=cards,
        lines=[_line(edge, at[edge.source], at[edge.target]) for edge in graph.edges if edge.source in at],
        listed=listed,
    )


def _places(graph: Graph) -> Mapping[str, tuple[int, int]]:
    """Column and row by node. What follows an experiment stands to its right, below what it was launched as."""
    kinds = {node.id: node.kind for node in graph.nodes}
    after: dict[str, list[str]] = defaultdict(list)
    before: dict[str, str] = {}
    for edge in graph.edges:
        after[edge.source].append(edge.target)
        before.setdefault(edge.target, edge.source)
    follows = {edge.target for edge in graph.edges if kinds[edge.source] == "experiment"}
    generation: dict[str, int] = {}
    rows: dict[str, int] = {}

    def place(experiment: str, row: int, depth: int) -> int:
        """The next free row."""
        generation[experiment], rows[experiment] = depth, row
        launches = [each for each in after[experiment] if kinds[each] == "launch"]
        for offset, launch in enumerate(launches):
            rows[launch] = row + offset
        free = row + len(launches)
        for child in (each for each in after[experiment] if kinds[each] == "experiment"):
            free = place(child, free, depth + 1)
        return max(free, row + 1)

    free = 0
    for node in graph.nodes:
        if node.kind == "experiment" and node.id not in follows:
            free = place(node.id, free, 0)
    deepest = max(generation.values(), default=0)
    column = {"hypothesis": 0, "launch": deepest + 2, "ledger": deepest + 3, "holdout": deepest + 4}
    found: dict[str, tuple[int, int]] = {}
    taken: set[int] = set()
    for node in graph.nodes:
        if node.kind == "experiment":
            found[node.id] = (1 + generation[node.id], rows[node.id])
        elif node.kind == "launch":
            found[node.id] = (column["launch"], rows[node.id])
        elif node.kind == "hypothesis":
            found[node.id] = (0, rows[after[node.id][0]])
        else:
            row = rows[before[node.id]]
            while node.kind == "holdout" and row in taken:
                row += 1
            if node.kind == "holdout":
                taken.add(row)
            found[node.id] = (column[node.kind], row)
    return found


def _line(edge: Edge, source: Card, target: Card) -> Line:
    x0, y0, x1, y1 = source.x + source.width, source.y + source.height / 2, target.x, target.y + target.height / 2
    bend = x1 - ACROSS / 2
    label = edge.relation if source.node.kind == target.node.kind == "experiment" else ""
    if y0 == y1:
        path = f"M{x0} {y0:g}H{x1}"
    else:
        path = f"M{x0} {y0:g}H{bend - 10:g}C{bend:g} {y0:g} {bend:g} {y0:g} {bend:g} {y0 + (10 if y1 > y0 else -10):g}"
        path += f"V{y1 - (10 if y1 > y0 else -10):g}C{bend:g} {y1:g} {bend:g} {y1:g} {bend + 10:g} {y1:g}H{x1}"
    return Line(path, edge.relation, label, x1 + 2, target.y - 5)


def _said(estimate: Estimate | None) -> str:
    """An estimate with its interval: lifts as percentages, lines of the ledger in units."""
    if estimate is None or estimate.value is None:
        return ""
    if estimate.unit:
        return f"{with_interval(estimate.value, estimate.lower, estimate.upper)} {estimate.unit}"
    return in_words(estimate.value, estimate.lower, estimate.upper)
