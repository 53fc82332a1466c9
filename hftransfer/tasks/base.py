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


@dataclass(frozen=True)
class Prepared:
    """The rows of one split as a model takes them.

    `dataset` yields dicts of tensors or lists with `labels`; `rows` (n,) tells from which row each item comes (a long
    row may give several items); `lengths` (n,) is what an item costs; `truncated` rows lost their end; `on_epoch` is
    told the number of each epoch before it starts.
    """

    dataset: Any
    rows: np.ndarray
    lengths: np.ndarray | None = None
    truncated: int = 0
    on_epoch: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Preparation:
    """What preparing depends on besides the rows: the data section, the seed, and the model's longest input."""

    config: DataConfig
    labels: Labels
    seed: int
    max_length: int | None = None


class Task(ABC):
    """A stateless description of one task; the object of a task's file is its module's `TASK`."""

    name: ClassVar[str]
    about: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]]
    label_kinds: ClassVar[tuple[LabelKind, ...]]
    auto_model: ClassVar[str]  # the Auto class of transformers, by name: looking it up imports it
    auto_processor: ClassVar[str]
    processor_options: ClassVar[Mapping[str, Any]] = {}
    example: ClassVar[str]  # an input, as Python writes it
    streams: ClassVar[bool] = False  # whether `stream` is there
    # how a model without a head for these labels may answer, and, by way, the sentences a label's name is put into
    direct: ClassVar[tuple[Literal["entailment", "similarity", "image_text"], ...]] = ()
    templates: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    premise: ClassVar[str] = "{} {}"  # what an entailment model is shown of a pair of texts
    input_widget: ClassVar[Literal["text", "image"]]
    output_widget: ClassVar[Literal["label", "highlighted_text"]]

    @abstractmethod
    def prepare(self, rows: Any, processor: Any, preparation: Preparation, training: bool) -> Prepared:
        """Turn a split's rows (columns named by role) into model inputs; `training` turns augmentation on."""

    def stream(self, rows: Any, processor: Any, preparation: Preparation) -> Any:
        """Turn a streamed training split into model inputs, row by row."""
        raise self.cannot_stream()

    @abstractmethod
    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return the function that joins prepared rows to one batch of tensors."""

    @abstractmethod
    def row(self, value: Any) -> dict[str, Any]:
        """Turn one input of a user (a text, a path, a picture, a dict by role) into a row, or raise UserError."""

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, float] | None:
        """Ask transformers' own pipeline, as a stranger would: a score by label, or None if it takes no such rows."""
        return None

    def with_hypothesis(self, rows: Any, hypothesis: str, premise: str) -> Any | None:
        """Return rows that ask whether the input entails a sentence; None where they have no place for it.

        An input of two texts is put into the two `{}` of `premise`.
        """
        return None

    def cannot_stream(self) -> Exception:
        """Build the error for `data.streaming` with a task that needs its rows at random."""
        from hftransfer.errors import UserError

        return UserError(f"{self.name} needs its rows on disk", "data.streaming is true", "Set data.streaming=false.")


def targets(labels: Labels, values: Sequence[Any]) -> list[Any]:
    """Return what the loss compares with: an index, a multi-hot row, or a number for each label value."""
    if labels.kind == "multi_label":
        return [[float(i in set(value)) for i in range(len(labels.names))] for value in values]
    return [float(value) for value in values] if labels.kind == "regression" else list(values)
