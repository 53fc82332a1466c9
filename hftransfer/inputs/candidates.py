"""candidates: names to choose among, which come with each question and stand in no data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hftransfer.errors import UserError
from hftransfer.inputs._lists import Lists
from hftransfer.inputs.base import Looked, alike

if TYPE_CHECKING:
    import pyarrow as pa


class Candidates(Lists):
    """A list of names, or a text with one a line, or with commas between them."""

    kind = "candidates"
    needs = "list of strings"
    words = ("labels", "labels")
    widget = "textbox"
    example = '["a cat", "a dog"]'
    asked = "a list of labels"
    spoken = True
    nothing = ()

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        told = [", ".join(name or "" for name in row or ()) for row in column.to_pylist()]
        return Looked([alike(text) for text in told], told, ())

    def read(self, value: Any) -> list[str]:
        names = re.split(r"\n|,", value) if isinstance(value, str) else value
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            found = list(dict.fromkeys(name.strip() for name in names if name.strip()))
            if len(found) > 1:
                return found
        raise UserError(
            "two labels or more are needed, to choose among", f"found {value!r}",
            'Give a list, ["a cat", "a dog"], or a text with commas between them.',
        )  # fmt: skip

    def shown(self, value: Any) -> str:
        return ", ".join(value)


CANDIDATES = INPUT = Candidates()
