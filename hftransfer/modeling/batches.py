"""How items become a batch: padded, joined, moved to a device; those of a stream are decoded here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hftransfer.modeling.prepared import Lazy
from hftransfer.processors import tokenizer_of
from hftransfer.tasks.base import Preparation, Task


class Pending:
    """A row of a stream that is decoded when its batch is made: rows of another process's batches are not."""

    def __init__(self, lazy: Lazy, row: Mapping[str, Any]) -> None:
        self.lazy, self.row = lazy, row

    def opened(self) -> dict[str, Any]:
        """Return the item; its random changes are keyed by (seed, epoch, row)."""
        key = int.from_bytes(hashlib.blake2b(self.row["row_id"].encode(), digest_size=7).digest(), "little")
        row = self.lazy.rows.features.decode_example(self.row)
        return self.lazy.of({name: [value] for name, value in row.items()}, np.array([(key, 0, 1)], np.int64))[0]


@dataclass(frozen=True)
class Collator:
    """Joins items to one batch: tensors padded to the longest, lists of what is not for the model.

    `padding` fills up the answer's targets by name; `aligned` ones lie along the tokens of the input. Names that begin
    with `_` are left out where a model is trained: Trainer gives it all that is in a batch.
    """

    tokenizer: Any | None
    padding: Mapping[str, int]
    aligned: bool = False
    training: bool = True

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        items = [item.opened() if isinstance(item, Pending) else item for item in items]
        names = [name for name in items[0] if not (self.training and name.startswith("_"))]
        batch: dict[str, Any] = {}
        if self.tokenizer is not None and "input_ids" in names:
            read = [name for name in names if name in (*self.tokenizer.model_input_names, "token_type_ids")]
            parts = [{name: item[name] for name in read} for item in items]
            batch = dict(self.tokenizer.pad(parts, return_tensors="pt"))
            if "position_ids" in names:
                del batch["attention_mask"]  # rows of one item are told apart by positions, where there is no mask
        width = int(batch["input_ids"].shape[1]) if self.aligned and batch else 0
        for name in [name for name in names if name not in batch]:
            batch[name] = self._joined(name, [item[name] for item in items], width)
        return batch

    def _joined(self, name: str, values: list[Any], width: int) -> Any:
        if name.startswith("_"):
            return values
        if isinstance(values[0], torch.Tensor):
            return _stacked(values, self.padding.get(name, 0))
        if isinstance(values[0], dict):
            return values
        if name not in self.padding:
            return torch.tensor(values)
        left = self.aligned and self.tokenizer is not None and self.tokenizer.padding_side == "left"
        width = width or max(map(len, values))
        fills = [[self.padding[name]] * (width - len(value)) for value in values]
        rows = [[*fill, *value] if left else [*value, *fill] for fill, value in zip(fills, values, strict=True)]
        return torch.tensor(rows, dtype=torch.int64)


def _stacked(values: list[torch.Tensor], fill: int) -> torch.Tensor:
    """Return tensors of one rank as one, each filled up at the ends of its axes."""
    shape = [max(sizes) for sizes in zip(*(value.shape for value in values), strict=True)]
    if all(list(value.shape) == shape for value in values):
        return torch.stack(values)
    made = values[0].new_full((len(values), *shape), fill)
    for place, value in zip(made, values, strict=True):
        place[tuple(slice(size) for size in value.shape)] = value
    return made


def collator(task: Task, processor: Any, preparation: Preparation, training: bool = True) -> Collator:
    """Return what joins items of a task to batches; `training` leaves out what no model is given."""
    tokenizer, answer = tokenizer_of(processor), preparation.answer
    return Collator(tokenizer, answer.padding, answer.aligned, training)


def moved(batch: dict[str, Any], device: Any, pinned: bool = False) -> dict[str, Any]:
    """Return a batch with its tensors, those in lists among them, on a device; it waits for none that are `pinned`."""

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device, non_blocking=pinned)
        if isinstance(value, dict):
            return {name: move(part) for name, part in value.items()}
        return [move(part) for part in value] if isinstance(value, list) else value

    return {name: move(value) for name, value in batch.items()}
