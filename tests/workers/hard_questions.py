"""Questions to the compiled segment model: ordinary ones, long ones, and ones that misbehave where they are fitted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.segments import SegmentsQuestion
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Array, Data, Draws


def segments(seed: int = 0, levels: int = 6) -> SegmentsQuestion:
    """Segments with a common effect of 5 %."""
    random = np.random.default_rng(seed)
    errors = random.uniform(0.02, 0.04, levels)
    return SegmentsQuestion(random.normal(0.05, errors), errors, Prior.default(), 0.95)


def long_segments(seed: int = 0) -> SegmentsQuestion:
    """So many segments that sampling takes many seconds, each draw milliseconds."""
    return segments(seed, levels=20_000)


@dataclass(frozen=True, slots=True, eq=False)
class Sleeping(SegmentsQuestion):
    """Hears no cancellation: never comes to sampling."""

    def data(self) -> Data:
        time.sleep(3600)
        raise AssertionError


@dataclass(frozen=True, slots=True, eq=False)
class Deadly(SegmentsQuestion):
    """Takes its process down."""

    def data(self) -> Data:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True, slots=True, eq=False)
class Impossible(SegmentsQuestion):
    """Variances below zero: the log density is not a number anywhere."""

    def data(self) -> Data:
        known = dict(SegmentsQuestion.data(self))
        return {**known, "variance": -1e6 * np.ones_like(known["variance"])}


@dataclass(frozen=True, slots=True, eq=False)
class Defective(SegmentsQuestion):
    """Its code has a fault."""

    def data(self) -> Data:
        raise KeyError("no such column")


def like(kind: type[SegmentsQuestion], question: SegmentsQuestion) -> SegmentsQuestion:
    """The same data, asked by a question that misbehaves."""
    return kind(question.estimates, question.errors, question.prior, question.level)


def build_unfreezable(size: int) -> Any:
    """A small model whose gradient needs scipy.special, which machine code reaches only through Python."""
    import pymc as pm  # type: ignore[import-untyped]  # it ships no annotations
    import pytensor.tensor as pt

    with pm.Model() as model:
        count = pm.Data("count", np.array(3.0))
        log_mean = pm.Normal("log_mean", 0.0, 1.0)
        shape = pm.Deterministic("shape", pt.exp(log_mean))
        pm.Potential("likelihood", pt.gammaln(shape + count) - pt.gammaln(shape) - count)
    return model


def example(size: int) -> Data:
    return {"count": np.array(3.0)}


UNFREEZABLE = ModelDefinition("unfreezable", 1, "", (), (1,), build_unfreezable, example, ("shape",))


@dataclass(frozen=True, slots=True)
class Unfreezable:
    """A question to that model."""

    count: float

    @property
    def definition(self) -> ModelDefinition:
        return UNFREEZABLE

    @property
    def size(self) -> int:
        return 1

    def data(self) -> Data:
        return {"count": np.array(self.count)}

    def monitored(self, draws: Draws) -> Mapping[str, Array]:
        return {"shape": draws.values["shape"]}

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        mean = float(draws.values["shape"].mean())
        return ModelFit("unfreezable", 1, "ok", hyper={"shape": (mean, mean, mean)})
