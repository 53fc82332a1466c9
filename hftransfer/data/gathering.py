"""Rows of one value as one row with all their truths: a table that has a picture once for each of its captions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value

from hftransfer.column_types import STRINGS, is_value


def gathered(rows: Dataset, numbers: np.ndarray, column: str, truth: str) -> tuple[Dataset, np.ndarray, str | None]:
    """Return rows with one for each value of `column`, whose truths are a list; their numbers; and what is to be said.

    A row is the first of its value, with what that has in other columns. Rows without a value stay by themselves.
    """
    if truth not in rows.features or len(rows) == 0:
        return rows, numbers, None
    places: dict[Any, list[int]] = {}
    for place, key in enumerate(_keys(rows, column)):
        places.setdefault(place if key is None else key, []).append(place)
    if len(places) == len(rows):
        return rows, numbers, None
    values = rows.select_columns([truth])[:][truth]
    texts = [[text for place in group for text in _listed(values[place])] for group in places.values()]
    first = [group[0] for group in places.values()]
    kept = rows.select(first).remove_columns(truth)
    several = pa.array(texts, pa.list_(pa.string()))
    made = kept.add_column(truth, several, feature=List(Value("string")))
    features = Features({name: made.features[name] for name in rows.features})
    said = f"`{column}` has {len(first):,} values in {len(rows):,} rows: all of `{truth}` of one are one row"
    return made.select_columns(list(features)), numbers[np.array(first)], said


def beside_one_another(rows: Dataset, words: Sequence[str]) -> tuple[Dataset, str | None]:
    """Return rows whose numbered columns (caption_0, caption_1) are one column of lists, and what is to be said.

    They are called by one of `words` with a number behind it; the list is called by the word.
    """
    for word in words:
        names = [name for name in rows.features if re.fullmatch(rf"{re.escape(word)}s?[ _-]?\d+", name.lower())]
        if len(names) > 1 and word not in rows.features and all(is_value(rows.features[n], *STRINGS) for n in names):
            columns = rows.select_columns(names)[:]
            texts = [[text for text in row if text] for row in zip(*(columns[name] for name in names), strict=True)]
            values = pa.array(texts, pa.list_(pa.string()))
            made = rows.remove_columns(names).add_column(word, values, feature=List(Value("string")))
            return made, f"`{word}` is made of {', '.join(names)}"
    return rows, None


def _keys(rows: Dataset, column: str) -> list[Any]:
    """Return what equal values share, None where there is none; files count by their content, or by their place."""
    found = rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    return [_key(value) for value in found]


def _key(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    content = value.get("bytes")
    return value.get("path") if content is None else hashlib.blake2b(content, digest_size=16).digest()


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
