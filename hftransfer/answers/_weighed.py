"""Answers that weigh what people had beside what a model reads: how that is chosen, and what the model is alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hftransfer.answers import _crowd
from hftransfer.answers._learner import Rows, Trivial

if TYPE_CHECKING:
    from hftransfer.answers._catalogue import Catalogue


@dataclass(frozen=True)
class Weighed:
    """The part of such an answer that knows its catalogue, what people had of it, and what counts beside a cosine."""

    catalogue: Catalogue | None = field(default=None, compare=False, repr=False)
    recommends: bool = False  # rows are people, who had some before
    shares: _crowd.Shares | None = None  # how much of what people had counts beside a cosine
    crowd: _crowd.Crowd | None = field(default=None, compare=False, repr=False)  # what that adds

    @property
    def weighs(self) -> bool:
        return self.recommends and self.catalogue is not None and self.catalogue.histories is not None

    def weights(self, truth: Rows, outputs: Rows, rows: Any, vectors: np.ndarray) -> dict[str, Any]:
        assert self.catalogue is not None and self.catalogue.histories is not None
        had, right = self._places(rows), [[self.catalogue.places[one.id] for one in row] for row in truth]
        queries = np.stack([np.frombuffer(one.vector, np.float32) for one in outputs])
        shares, crowd = _crowd.chosen(self.catalogue.histories, vectors, queries, had, right)
        return {"shares": shares, "crowd": crowd if shares.counts else None}

    def unweighed(self, outputs: Rows, rows: Any) -> list[Trivial]:
        if self.crowd is None:
            return []
        queries = [np.frombuffer(one.vector, np.float32) for one in outputs]
        plain: Any = dataclasses.replace(self, crowd=None)
        found = plain._listed(queries, [one.vector for one in outputs], self._places(rows))
        return [Trivial("its cosines alone", "ranks by what the model reads, without what people had", found)]

    def _places(self, rows: Any) -> list[list[int]]:
        assert self.catalogue is not None
        return [[self.catalogue.place(name) for name in row] for row in next(iter(rows.values()))]

    @property
    def to_prepare(self) -> Self:
        whole: Any = self
        return whole if self.catalogue is None else dataclasses.replace(whole, known=None, reader=None, crowd=None)
