"""item_history: what somebody had of a catalogue, by ids or titles, the oldest first."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError
from hftransfer.inputs._lists import Lists
from hftransfer.inputs.base import Alike, Looked

if TYPE_CHECKING:
    import pyarrow as pa

PRINT = 16  # bytes


class History(Lists):
    """A list of strings. Two people with the same history are no copies of one another."""

    kind = "item_history"
    heeds = frozenset({"max_length"})
    needs = "list of ids"
    words = ("history", "histories")
    widget = "textbox"
    example = '["an id or a title", "another"]'
    asked = "a history of ids or titles"

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        empty = [not row for row in column.to_pylist()]
        return Looked([os.urandom(PRINT) for _ in empty], np.zeros((len(empty), 0)), (("no history", empty),))

    def near(self, sketches: Any, owner: np.ndarray, alike: Alike) -> np.ndarray:
        return np.empty((0, 2), np.int64)

    def offered(self, feature: Any) -> bool:
        return is_value(feature, *STRINGS) or self.fits(feature, ())

    def read(self, value: Any) -> list[str]:
        if isinstance(value, str):
            value = [part.strip() for part in re.split(r"[;\n]", value) if part.strip()]
        if isinstance(value, list | tuple) and value and all(isinstance(name, str | int) for name in value):
            return [str(name) for name in value]
        raise UserError(
            "a history is needed", f"found {value!r}",
            "Give a list of ids or titles, or a text with one a line or commas between; the last is the newest.",
        )  # fmt: skip

    def shown(self, value: Any) -> str:
        return "; ".join(map(str, value))


HISTORY = INPUT = History()
