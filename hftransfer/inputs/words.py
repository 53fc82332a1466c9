"""words: a sentence that is split into words already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError
from hftransfer.inputs import _near_texts
from hftransfer.inputs._lists import Lists
from hftransfer.inputs.base import Alike, Looked, alike

if TYPE_CHECKING:
    import pyarrow as pa

WORD = re.compile(r"\w+(?:[-'\N{RIGHT SINGLE QUOTATION MARK}]\w+)*|[^\w\s]")


class Words(Lists):
    """A list of strings."""

    kind = "words"
    heeds = frozenset({"max_length"})
    needs = "list of strings"
    words = ("words", "words")
    widget = "textbox"
    example = '"a sentence"'
    asked = "a sentence"
    spoken = True

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        rows = column.to_pylist()
        sentences = [" ".join(word or "" for word in row or ()) for row in rows]
        unusable = (
            ("no words", [not row for row in rows]),
            ("a word that is null", [bool(row) and None in row for row in rows]),
        )
        return Looked([alike(text) for text in sentences], sentences, unusable)

    def near(self, sketches: list[str], owner: np.ndarray, alike: Alike) -> np.ndarray | None:
        return _near_texts.pairs(sketches, owner)

    def offered(self, feature: Any) -> bool:
        return is_value(feature, *STRINGS) or self.fits(feature, ())

    def read(self, value: Any) -> list[str]:
        if isinstance(value, str):
            value = WORD.findall(value)
        if isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value):
            return list(value)
        raise UserError("a sentence is needed", f"found {value!r}", "Give a string or a list of words.")

    def shown(self, value: Any) -> str:
        return " ".join(value)


WORDS = INPUT = Words()
