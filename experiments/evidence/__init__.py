"""Evidence: a frozen plan and moments become the result document. Pure functions: no database, no files, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.evidence.contract import Block, Draft, EvidenceContext
from experiments.evidence.segments import SegmentRequest
from experiments.plan import AnalysisPlan

__all__ = ["Block", "Draft", "EvidenceContext", "SegmentRequest", "build"]


def build(plan: AnalysisPlan, blocks: Sequence[Block], context: EvidenceContext) -> Draft:
    """The draft of the result of one analysis (see `experiments.evidence.document`)."""
    from experiments.evidence.document import draft

    return draft(plan, blocks, context)
