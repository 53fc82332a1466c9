"""conversation: what is answered next: a prompt, or the turns of a conversation so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError
from hftransfer.inputs import _near_texts
from hftransfer.inputs._dialogues import Turns, is_conversation, turns, written
from hftransfer.inputs.base import Alike, Input, Looked, alike

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig


class Conversation(Input):
    """A string: a prompt as it stands, or the JSON of a list of turns, each with role and content."""

    kind = "conversation"
    heeds = frozenset({"max_length"})
    needs = "string or list of turns"
    words = ("prompt", "prompts")
    widget = "chat"
    example = '"a prompt"'
    asked = "a message or a prompt"
    rewritten = True
    spoken = True

    def fits(self, feature: Any, values: Sequence[Any]) -> bool:
        return is_value(feature, *STRINGS, "null") or is_conversation(feature)

    def feature(self) -> Any:
        from datasets import Value

        return Value("string")

    def canonical(self, raw: pa.ChunkedArray, required: bool, folder: Path | None) -> pa.ChunkedArray:
        import pyarrow as pa

        if pa.types.is_string(raw.type):
            return raw
        if pa.types.is_large_string(raw.type) or pa.types.is_null(raw.type):
            return raw.cast(pa.string())
        found = [turns(value) for value in raw.to_pylist()]
        return pa.chunked_array([pa.array([None if one is None else written(one) for one in found], pa.string())])

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        values = column.to_pylist()
        found = [None if value is None else turns(value) for value in values]
        said = [
            value or "" if one is None else "\n".join(str(turn["content"]) for turn in one)
            for value, one in zip(values, found, strict=True)
        ]
        unusable = (
            ("no prompt", [value is None for value in values]),
            (
                "a turn that is no text (a picture, or the call of a tool)",
                [any(turn["content"] is None for turn in one or ()) for one in found],
            ),
        )
        return Looked([alike(text) for text in said], said, unusable)

    def near(self, sketches: list[str], owner: np.ndarray, alike: Alike) -> np.ndarray | None:
        return _near_texts.pairs(sketches, owner)

    def read(self, value: Any) -> str:
        found: Turns | None = turns(value)
        if found is not None:
            if found[-1]["role"] == "assistant":
                raise UserError(
                    "a conversation that is to be answered ends with the user", "it ends with the assistant",
                    "Leave its last turn out.",
                )  # fmt: skip
            if any(turn["content"] is None for turn in found):
                raise UserError("turns of a conversation are texts", "one is none", "Give role and content of each.")
            return written(found)
        if isinstance(value, str):
            return value
        raise UserError(
            "a prompt is needed", f"found {value!r}", "Give a string, or a list of turns with role and content."
        )

    def opened(self, value: Any, config: DataConfig, rng: np.random.Generator | None = None) -> Any:
        """Return turns as a list, and a prompt as one of the user's where the data are conversations.

        Of a conversation a model that learned from none is asked the last turn.
        """
        found = turns(value)
        if found is None:
            return [{"role": "user", "content": value}] if config.form == "chat" else value
        return found if config.form in ("chat", None) else found[-1]["content"]

    def shown(self, value: Any) -> str:
        found = turns(value)
        return str(value) if found is None else "\n".join(f"{turn['role']}: {turn['content']}" for turn in found)


CONVERSATION = INPUT = Conversation()
