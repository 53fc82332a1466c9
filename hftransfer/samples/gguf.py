"""What a GGUF file holds, as llama.cpp writes it: values, and tensors of the types that the samples need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hftransfer.samples.cursor import Cursor

if TYPE_CHECKING:
    import numpy as np

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_NUMBERS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


def read(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the values and the tensors, float32, by their names; ValueError for what is not known here."""
    cursor = Cursor(content)
    magic, version = cursor.take(4), cursor.number("I")
    if magic != b"GGUF" or version != 3:
        raise ValueError(f"GGUF of version 3 is needed, this is {magic!r} of {version}")
    tensors, entries = cursor.number("Q"), cursor.number("Q")
    values = {_text(cursor): _value(cursor, cursor.number("I")) for _ in range(entries)}
    places = []
    for _ in range(tensors):
        name, dimensions = _text(cursor), cursor.number("I")
        shape = [cursor.number("Q") for _ in range(dimensions)][::-1]
        places.append((name, shape, cursor.number("I"), cursor.number("Q")))
    start = math.ceil(cursor.at / _ALIGNMENT) * _ALIGNMENT
    return values, {
        name: _tensor(content, start + offset, kind, math.prod(shape)).reshape(shape)
        for name, shape, kind, offset in places
    }


def _text(cursor: Cursor) -> str:
    return cursor.take(cursor.number("Q")).decode()


def _value(cursor: Cursor, kind: int) -> Any:
    if kind == _STRING:
        return _text(cursor)
    if kind == _ARRAY:
        inner, count = cursor.number("I"), cursor.number("Q")
        return [_value(cursor, inner) for _ in range(count)]
    return cursor.number(_NUMBERS[kind])


def _tensor(content: bytes, at: int, kind: int, count: int) -> np.ndarray:
    import numpy as np

    if kind not in _TYPES:
        raise ValueError(f"tensors of type {kind} are not known here, only {sorted(_TYPES)}")
    per_block, layout, decode = _TYPES[kind]
    return decode(np.frombuffer(content, layout, count // per_block, at)).astype("f4").reshape(-1)


def _q4_1(blocks: Any) -> Any:
    """Return 32 values a block: the low halves of its bytes, then the high ones, scaled and shifted."""
    import numpy as np

    halves = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1)
    return halves * blocks["d"].astype("f4") + blocks["m"].astype("f4")


# a type's values a block, the block's layout, and how it is decoded: ggml-quants.c
_TYPES: dict[int, tuple[int, Any, Callable[[Any], Any]]] = {
    0: (1, "<f4", lambda values: values),
    1: (1, "<f2", lambda values: values),
    3: (32, [("d", "<f2", 1), ("m", "<f2", 1), ("q", "u1", 16)], _q4_1),
    8: (32, [("d", "<f2", 1), ("q", "i1", 32)], lambda blocks: blocks["q"] * blocks["d"].astype("f4")),
}
