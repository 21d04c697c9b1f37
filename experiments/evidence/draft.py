"""What comes out of the evidence before models are fitted, and how their answers complete it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.evidence.contract import SegmentRequest
from experiments.evidence.fitted import ModelRequest, fitted_model, with_beliefs_of
from experiments.evidence.judging import Judging
from experiments.result import ExperimentResult, FittedModel, SegmentModel
from stats.bayes.models.fit import ModelFit


@dataclass(frozen=True, slots=True)
class Draft:
    """A result document that still lacks its models, and what those need. Picklable.

    `not_asked` are models without a question to ask. A model that fails or takes too long costs only itself: rows then
    keep the beliefs that the draft gave them.
    """

    document: ExperimentResult
    segment_requests: tuple[SegmentRequest, ...]
    model_requests: tuple[ModelRequest, ...]
    not_asked: tuple[FittedModel, ...]
    judging: Judging

    def finish(
        self, segment_models: Sequence[SegmentModel] = (), fits: Sequence[ModelFit] | None = None
    ) -> ExperimentResult:
        """The complete document, judged again where models of units changed what rows say.

        Segment models are kept in the order of `segment_requests` by the caller; `fits` answer `model_requests`, one
        each. Without `fits` nobody was there to ask. Raises `ValueError` for fits that are too few or too many.
        """
        answers = [None] * len(self.model_requests) if fits is None else fits
        pairs = list(zip(self.model_requests, answers, strict=True))
        models = [fitted_model(request, fit) for request, fit in pairs]
        methods = set(self.document.methods)
        if any(model.status == "ok" for model in segment_models):
            methods |= {"A15", "C4"}
        for (request, _), model in zip(pairs, models, strict=True):
            if model.status == "ok":
                methods |= set(request.question.definition.methods)
        found: dict[str, Any] = {
            "segment_models": list(segment_models),
            "models": [*models, *self.not_asked],
            "methods": sorted(methods),
        }
        if any(model.used for model in models):
            found |= with_beliefs_of(self.document, models)
            found |= self.judging.fields(found["rows"])
        return self.document.model_copy(update=found)
