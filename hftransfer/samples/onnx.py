"""The weights and the convolutions of an ONNX file, read without the package of that name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# numbers of the fields in onnx.proto
_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_INPUT, _OPERATION = 1, 4
_SHAPE, _TYPE, _FLOATS, _NAME, _RAW = 1, 2, 4, 8, 9
_FLOAT = 1


def read(content: bytes) -> tuple[dict[str, np.ndarray], list[tuple[str, list[str]]]]:
    """Return the float32 weights by name, and every node's operation and inputs in the graph's order."""
    weights, nodes = {}, []
    (graph,) = (value for number, value in _fields(content) if number == _GRAPH)
    for number, value in _fields(graph):
        if number == _INITIALIZER:
            name, weight = _tensor(value)
            if weight is not None:
                weights[name] = weight
        elif number == _NODE:
            fields = list(_fields(value))
            operation = next(text.decode() for field, text in fields if field == _OPERATION)
            nodes.append((operation, [text.decode() for field, text in fields if field == _INPUT]))
    return weights, nodes


def _tensor(message: bytes) -> tuple[str, np.ndarray | None]:
    import numpy as np

    shape: list[int] = []
    name, kind, content = "", 0, b""
    for number, value in _fields(message):
        if number == _SHAPE:
            shape += [value] if isinstance(value, int) else _numbers(value)
        elif number == _TYPE:
            kind = value
        elif number == _NAME:
            name = value.decode()
        elif number in (_FLOATS, _RAW):
            content += value  # a float alone, packed floats and raw content are the same bytes
    return name, np.frombuffer(content, "<f4").reshape(shape) if kind == _FLOAT else None


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield a message's fields: an int for a varint, else bytes. https://protobuf.dev/programming-guides/encoding."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        form = key & 7
        if form == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if form == 2:
            size, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}[form]
        yield key >> 3, message[at : at + size]
        at += size


def _numbers(packed: bytes) -> list[int]:
    at, found = 0, []
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value)
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
