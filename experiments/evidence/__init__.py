"""Evidence: a frozen plan and moments become the result document. Pure functions: no database, no files, no clock."""

from experiments.evidence.contract import Block, Draft, EvidenceContext, SegmentRequest
from experiments.evidence.document import build
from experiments.evidence.segments import model_without_numbers, segment_model

__all__ = [
    "Block",
    "Draft",
    "EvidenceContext",
    "SegmentRequest",
    "build",
    "model_without_numbers",
    "segment_model",
]
