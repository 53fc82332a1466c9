"""What a task is: the columns it needs, its Auto classes, how rows become tensors, how outputs become answers.

A task is a stateless object in one file of this package, named as the Hub's task tag with `_` for `-`. It never
loads a model or a file. Heavy libraries are imported inside the functions that need them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np

    from hftransfer.config import DataConfig

ValueKind = Literal["text", "image", "label", "words", "tags"]
LabelKind = Literal["single_label", "multi_label", "regression", "tags"]


@dataclass(frozen=True)
class Role:
    """A part that a column plays: what values it holds, and the whole words by which such columns are often named."""

    name: str
    kind: ValueKind
    about: str
    words: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True)
class Labels:
    """The answers a model can give, in the order of its outputs; regression has none."""

    kind: LabelKind
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()  # rows (tags: words) of the training split with each name

    @property
    def outputs(self) -> int:
        """The number of outputs a head needs."""
        return max(len(self.names), 1)
