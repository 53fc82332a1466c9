"""What inputs share that are lists of strings: how their columns are told and stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.column_types import STRINGS, element, is_value
from hftransfer.inputs.base import Input

if TYPE_CHECKING:
    import pyarrow as pa


class Lists(Input):
    """A list of strings a row; a person writes one as a text."""

    rewritten = True

    def fits(self, feature: Any, values: Sequence[Any]) -> bool:
        return element(feature) is not feature and is_value(element(feature), *STRINGS)

    def feature(self) -> Any:
        from datasets import List, Value

        return List(Value("string"))

    def canonical(self, raw: pa.ChunkedArray, required: bool, folder: Path | None) -> pa.ChunkedArray:
        import pyarrow as pa

        return raw.cast(pa.list_(pa.string()))
