"""text: a string."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError
from hftransfer.inputs import _near_texts
from hftransfer.inputs.base import Alike, Input, Looked, alike

if TYPE_CHECKING:
    import pyarrow as pa


class Text(Input):
    """A string; an empty one says nothing."""

    kind = "text"
    heeds = frozenset({"max_length"})
    needs = "string"
    words = ("text", "texts")
    widget = "textbox"
    example = '"a text"'
    asked = "a text"
    spoken = True

    def fits(self, feature: Any, values: Sequence[Any]) -> bool:
        return is_value(feature, *STRINGS, "null")

    def can_be(self, feature: Any, values: Sequence[Any]) -> bool:
        from datasets import Value

        return isinstance(feature, Value) and not is_value(feature, "binary", "date", "time", "duration")

    def plausible(self, distinct: int, rows: int) -> bool:
        return rows < 6 or 3 * distinct > rows

    def feature(self) -> Any:
        from datasets import Value

        return Value("string")

    def canonical(self, raw: pa.ChunkedArray, required: bool, folder: Path | None) -> pa.ChunkedArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        text = raw if pa.types.is_string(raw.type) else raw.cast(pa.string())
        return text if required or not text.null_count else pc.fill_null(text, "")

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        texts = [text or "" for text in column.to_pylist()]
        unusable = (("no text", [not text.strip() for text in texts]),) if required else ()
        return Looked([alike(text) for text in texts], texts, unusable)

    def near(self, sketches: list[str], owner: np.ndarray, alike: Alike) -> np.ndarray | None:
        return _near_texts.pairs(sketches, owner)

    def offered(self, feature: Any) -> bool:
        return is_value(feature, *STRINGS)

    def cells(self, rows: Any, column: str, path: Path) -> list[Any]:
        raw = rows.select_columns([column]).with_format("arrow")[:][column]
        return list(self.canonical(raw, True, None).to_pylist())

    def read(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        raise UserError("a text is needed", f"found {value!r}", "Give a string.")


TEXT = INPUT = Text()
