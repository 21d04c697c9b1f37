"""Evidence: a frozen plan and moments become the result document. Pure functions: no database, no files, no clock."""

from experiments.evidence.baseline import baseline_result
from experiments.evidence.baseline import joined as joined_baselines
from experiments.evidence.contract import Block, EvidenceContext, PastReplication, SegmentRequest
from experiments.evidence.document import build
from experiments.evidence.draft import Draft
from experiments.evidence.fitted import ModelRequest
from experiments.evidence.launch.draft import LaunchContext, LaunchDraft, draft_launch
from experiments.evidence.learned_prior import learned_prior_result
from experiments.evidence.links import LinksContext, LinksDraft, draft_links
from experiments.evidence.programme import programme_result
from experiments.evidence.segments import model_without_numbers, segment_model
from experiments.evidence.series import north_star_series

__all__ = [
    "Block",
    "Draft",
    "EvidenceContext",
    "LaunchContext",
    "LaunchDraft",
    "LinksContext",
    "LinksDraft",
    "ModelRequest",
    "PastReplication",
    "SegmentRequest",
    "baseline_result",
    "build",
    "draft_launch",
    "draft_links",
    "joined_baselines",
    "learned_prior_result",
    "model_without_numbers",
    "north_star_series",
    "programme_result",
    "segment_model",
]
