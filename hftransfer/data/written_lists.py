"""Lists that a file holds as texts, `"['sport', 'law']"`, as lists."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets

from hftransfer.column_types import STRINGS, is_value
from hftransfer.config import DataConfig
from hftransfer.errors import UserError

R = TypeVar("R", Dataset, IterableDataset)
FIRST = 1000  # rows that tell what columns hold
NUMPY = re.compile(r"\[(\s*('[^']*'|\"[^\"]*\"))*\s*\]|\[(\s*-?[0-9.]+)*\s*\]")  # no commas, as numpy writes arrays
HOT = re.compile(r"[01](([ ,;|]|, )[01])+")  # of each label whether a row has it, without brackets
BARE = re.compile(r"\[\s*\w[\w .&/-]*(,\s*\w[\w .&/-]*)*\s*\]")


def opened(rows: R, config: DataConfig) -> tuple[R, list[str]]:
    """Return rows with lists in place of texts that are written lists, and what was guessed.

    Raises UserError for a text in such a column that is none.
    """
    if config.lists is False or not rows.features:
        return rows, []
    texts = [name for name, feature in rows.features.items() if is_value(feature, *STRINGS)]
    if not texts:
        return rows, []
    first = _first(rows.select_columns(texts))
    kinds = {name: kind for name in texts if (kind := _kind(first[name].to_pylist()))}
    if not kinds:
        return rows, []
    features = Features({name: kinds.get(name, feature) for name, feature in rows.features.items()})
    said = [
        f"the texts of `{name}` are written lists, read as lists of {kind.feature.dtype} (data.lists=false keeps them)"
        for name, kind in kinds.items()
    ]
    if isinstance(rows, IterableDataset):
        return rows.map(
            functools.partial(_read, kinds),
            batched=True, features=features,
        ), said  # fmt: skip
    held = rows.select_columns(list(kinds)).with_format("arrow")[:]
    schema = Features(kinds).arrow_schema
    lists = {
        name: pa.array(_parsed(held[name].to_pylist(), name, kind), schema.field(name).type)
        for name, kind in kinds.items()
    }
    made = Dataset(pa.table(lists, schema=schema))
    rest = rows.remove_columns(list(kinds))
    both = concatenate_datasets([rest, made], axis=1) if rest.column_names else made
    return both.select_columns(list(features)), said


def _first(rows: Any) -> pa.Table:
    if isinstance(rows, IterableDataset):
        return next(
            iter(rows.with_format("arrow").iter(batch_size=FIRST)), pa.table({name: [] for name in rows.features})
        )
    return rows.select(range(min(FIRST, len(rows)))).with_format("arrow")[:]


def _kind(texts: Sequence[str | None]) -> Any:
    """Return the type of the lists that all of these texts are; None where they are texts, or all empty lists."""
    full = [text for text in texts if text and text.strip()]
    hot = all(HOT.fullmatch(text.strip()) for text in full) and len({len(text.strip()) for text in full}) == 1
    if not full or not (hot or all(text.strip()[0] + text.strip()[-1] in ("[]", "()", "{}") for text in full)):
        return None
    lists = [read(text) for text in full]
    if any(found is None for found in lists):
        return None
    values = [value for found in lists for value in found or ()]
    if not values:
        return None
    if all(isinstance(value, int) for value in values):
        return List(Value("int64"))
    if all(isinstance(value, int | float) for value in values):
        return List(Value("float64"))
    return List(Value("string"))


def _read(kinds: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _parsed(batch[name], name, kind) for name, kind in kinds.items()}


def _parsed(texts: Sequence[str | None], column: str, kind: Any) -> list[list[Any] | None]:
    strings = kind.feature.dtype == "string"
    found: list[list[Any] | None] = []
    for place, text in enumerate(texts):
        if not text or not text.strip():
            found.append(None)
            continue
        values = read(text)
        fits = values is not None and (strings or all(isinstance(value, int | float) for value in values))
        if values is None or not fits:
            raise UserError(
                f"every text of `{column}` must be a written list, as the first ones are",
                f"row {place} is {text[:60]!r}", "Mend it, or set data.lists=false to keep them as texts.",
            )  # fmt: skip
        found.append([str(value) for value in values] if strings else [*map(int, values)] if _whole(kind) else values)
    return found


def _whole(kind: Any) -> bool:
    return bool(kind.feature.dtype == "int64")


def read(text: str) -> list[Any] | None:
    """Return the list of plain values that a text writes, as JSON, Python or numpy do; None for another text."""
    text = text.strip()
    if HOT.fullmatch(text):
        return [int(part) for part in re.findall("[01]", text)]
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, set | tuple):
            found = sorted(found, key=str) if isinstance(found, set) else list(found)
        plain = isinstance(found, list) and all(isinstance(value, str | int | float) for value in found)
        if plain and not _glued(text, found):
            return list(found)
        break
    if NUMPY.fullmatch(text):
        return list(map(ast.literal_eval, re.findall(r"'[^']*'|\"[^\"]*\"|-?[0-9.]+", text)))
    return [part.strip() for part in text[1:-1].split(",")] if BARE.fullmatch(text) else None


def _glued(text: str, found: list[Any]) -> bool:
    """Tell whether Python joined neighbours that numpy wrote without a comma between them."""
    return (
        len(found) == 1
        and isinstance(found[0], str)
        and len(re.findall(r"'[^']*'|\"[^\"]*\"", text)) > 1
        and (json.dumps(found[0]) != text[1:-1].strip() and repr(found[0]) != text[1:-1].strip())
    )
