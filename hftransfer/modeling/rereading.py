"""Items that were slow to read are kept while a run lasts: validation rows are asked for at every evaluation."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch

from hftransfer.modeling.prepared import Lazy
from hftransfer.safety.shelf import Shelf

SLOW = 0.01  # seconds of making an item, from which on reading it back pays


class Kept:
    """The items of rows that are decoded when they are asked for: each is made once where that is slow."""

    def __init__(self, items: Lazy, shelf: Shelf) -> None:
        self.items, self.shelf = items, shelf

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self._item(int(index)) for index in indices]

    def _item(self, index: int) -> dict[str, Any]:
        key = f"{self.items.token} " + " ".join(map(str, self.items.spans[index]))
        content = self.shelf.get(key)
        if content is not None:
            found: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
            return found
        began = time.perf_counter()
        item = self.items[index]
        if time.perf_counter() - began >= SLOW and all(_is_plain(value) for value in item.values()):
            file = io.BytesIO()
            torch.save(item, file)
            self.shelf.put(key, file.getvalue())
        return item


def over(items: Any, shelf: Shelf | None) -> Any:
    """Return a split's items, kept where they would be decoded at every evaluation anew."""
    return Kept(items, shelf) if isinstance(items, Lazy) and shelf is not None else items


def _is_plain(value: Any) -> bool:
    """Tell whether a value comes back from a file as it was."""
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    return value is None or (
        isinstance(value, torch.Tensor | bool | int | float | str) and not isinstance(value, np.generic)
    )
