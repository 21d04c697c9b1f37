"""What trust checks look at, and how they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.evidence.contract import Block, EvidenceContext
from experiments.evidence.effects import Effects
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Check
from stats.moments import Ints

type Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the checks look at. `blocks`, `shapes` and `heads` are in step; cell 0 of a head is everybody.

    `exposures` (looks, V) come from the block with the most units. `absent` are metrics without data and why.
    """

    plan: AnalysisPlan
    context: EvidenceContext
    blocks: Sequence[Block]
    shapes: Sequence[BlockShapes]
    heads: Sequence[Effects]
    exposures: Ints
    crossover: int
    absent: dict[str, str]

    @property
    def main(self) -> Block:
        """The block with the most exposed units."""
        return max(self.blocks, key=lambda block: int(block.moments.exposures[-1].sum()))


def check(name: str, status: Status, detail: str, remedy: str = "", p_value: float | None = None) -> Check:
    """A check; one that passes needs no remedy."""
    return Check(name=name, status=status, detail=detail, remedy="" if status == "pass" else remedy, p_value=p_value)
