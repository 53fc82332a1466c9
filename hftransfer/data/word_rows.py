"""Tables with a word a row, and a column that says which sentence it is of, as a sentence a row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value

from hftransfer.column_types import STRINGS, is_list, is_value
from hftransfer.config import DataConfig
from hftransfer.data.columns import says_whose, words
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Task

DOCUMENTS = frozenset({"doc", "docs", "document", "documents", "docid", "file", "filename"})  # hold many
SENTENCES = frozenset({"sentence", "sentences", "sent", "sid", "sentenceid", "sentid"})


def grouped(rows: Any, task: Task, config: DataConfig) -> tuple[Any, list[str]]:
    """Return rows of a word each as rows of a sentence each, where the task reads lists, and what was guessed."""
    column = config.sentence_column
    if column is not None and column not in (rows.features or {}):
        raise UserError(
            "data.sentence_column must name a column", f"found {column!r}", hint(column, rows.features or {})
        )
    if not isinstance(rows, Dataset) or not takes_lists(task) or any(map(is_list, rows.features.values())):
        return rows, []
    texts = [name for name, feature in rows.features.items() if is_value(feature, *STRINGS)]
    if len(texts) < 3 and column is None:
        return rows, []
    candidates = [column] if column else [name for name in rows.features if set(words(name)) & SENTENCES]
    table = rows.with_format("arrow")[:]
    for name in candidates:
        beside = [other for other in rows.features if other != name and set(words(other)) & DOCUMENTS]
        starts = sorted(
            {*_starts(table[name].to_pylist()), *(p for b in beside for p in _starts(table[b].to_pylist()))}
        )
        if len(starts) == len(rows) and column is None:
            continue  # every row is a sentence
        said = f"a word a row: `{name}` says which sentence it is of, {len(starts):,} sentences (data.sentence_column)"
        whole = [other for other in rows.features if other == config.group or says_whose(other) or other in beside]
        return _joined(table, starts, name, whole), [] if column else [said]
    return rows, []


def takes_lists(task: Task) -> bool:
    """Tell whether what the task shows a model is a list."""
    one, several = Value("string"), List(Value("string"))
    return any(r.takes is not None and r.takes.fits(several, ()) and not r.takes.fits(one, ()) for r in task.shown)


def _starts(values: list[Any]) -> list[int]:
    """Return where a sentence begins: at a value that is another than the last one; an empty one goes on."""
    starts: list[int] = []
    last = None
    for place, value in enumerate(values):
        empty = value is None or (isinstance(value, str) and not value.strip())
        if not starts or (not empty and value != last):
            starts.append(place)
        last = last if empty else value
    return starts


def _joined(table: pa.Table, starts: list[int], sentence: str, whole: Collection[str]) -> Dataset:
    """Return a sentence a row: a list in each column, but one value in that of the sentence.

    So too in those of `whole`, where the words of each sentence have the same.
    """
    lengths = np.diff([*starts, table.num_rows])
    offsets = pa.array([*starts, table.num_rows], pa.int32())
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        first = values.take(pa.array(starts))
        again = first.take(pa.array(np.repeat(np.arange(len(starts)), lengths)))
        one = name == sentence or (name in whole and values.equals(again))
        columns[name] = first if one else pa.ListArray.from_arrays(offsets, values)
    made = pa.table(columns)
    return Dataset(made.cast(Features.from_arrow_schema(made.schema).arrow_schema))
