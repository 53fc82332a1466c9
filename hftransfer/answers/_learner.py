"""What learns from the truth of the training rows before there is a model, and the answer that it makes possible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.answers.base import Answer

Rows = Any  # one entry a row: an array or a list
Loss = Callable[..., "torch.Tensor"]  # (outputs, labels, num_items_in_batch=None) -> the loss, as Trainer asks for it
# a split's truth, and its items with the number of the row that each comes from -> truth that tells more
Told = Callable[[Rows, Iterable[tuple[int, Mapping[str, Any]]]], Rows]


@dataclass(frozen=True)
class Trivial:
    """The best answer that takes no model: its name, what it does in words, and its outputs on some rows."""

    name: str
    about: str
    outputs: Rows


class Learner(ABC):
    """Learns from the truth of the training rows, a batch at a time: a stream is read once."""

    rows: int = 0

    @abstractmethod
    def add(self, truth: pa.Array) -> None:
        """Look at a batch of usable canonical truth."""

    @abstractmethod
    def learn(self) -> Answer[Any]:
        """Return the answer with what was learnt of all rows, counts among it."""
