"""Columns inside columns: `{"translation": {"en": ..., "fr": ...}}` gives `translation.en`; SQuAD's articles, rows."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, List, Translation, Value, concatenate_datasets

from hftransfer.column_types import element, is_list

R = TypeVar("R", Dataset, IterableDataset)
Path: TypeAlias = tuple[str, ...]  # names of fields, each inside the one before


def opened(rows: R) -> R:
    """Return rows with a column for each field of those that hold fields of plain values, in place of them."""
    features = rows.features
    fields: dict[str, dict[Path, Any]] = {name: _fields(feature) for name, feature in (features or {}).items()}
    nested = [name for name, found in fields.items() if found]
    if not nested:
        return rows
    flat = _named({name: fields[name] for name in nested})
    clash = flat.keys() & set(features or ())
    if clash:  # another column has the very name
        return rows
    if isinstance(rows, IterableDataset):
        kept = Features({name: feature for name, feature in (features or {}).items() if name not in nested})
        wanted = {name: list(fields[name]) for name in nested}
        # as tables: of a batch of rows in which a field is empty everywhere its type would be lost
        made = rows.with_format("arrow").map(
            functools.partial(_flat, wanted, flat.arrow_schema),
            batched=True, remove_columns=nested, features=Features({**kept, **flat}),
        )  # fmt: skip
        return made.with_format(None)
    parts = rows.select_columns(nested).flatten()
    rest = rows.remove_columns(nested)
    return concatenate_datasets([rest, parts], axis=1) if rest.column_names else parts


def _named(fields: Mapping[str, Mapping[Path, Any]]) -> Features:
    """Return the columns that fields become."""
    return Features({".".join((name, *path)): one for name, of in fields.items() for path, one in of.items()})


def _flat(wanted: Mapping[str, Sequence[Path]], schema: pa.Schema, table: pa.Table) -> pa.Table:
    for name, paths in wanted.items():
        for path in paths:
            field = schema.field(".".join((name, *path)))
            table = table.append_column(field.name, pc.struct_field(table[name], list(path)).cast(field.type))
    return table


def _fields(feature: Any) -> dict[Path, Any]:
    """Return the fields of a column of plain values, with those inside fields, or of a Translation; none of others."""
    if isinstance(feature, Translation):
        return {(language,): Value("string") for language in feature.languages}
    if not isinstance(feature, dict) or "bytes" in feature:  # which is a file
        return {}
    found: dict[Path, Any] = {}
    for name, part in feature.items():
        inner = {(): part} if isinstance(part, Value) else _fields(part)
        if not inner:
            return {}  # lists among them belong together: boxes with their names
        found |= {(name, *path): one for path, one in inner.items()}
    return found


# --- SQuAD's own files: articles of paragraphs of questions ---

QUESTIONS = Features({
    "id": Value("string"), "title": Value("string"), "context": Value("string"), "question": Value("string"),
    "answers": List({"text": Value("string"), "answer_start": Value("int64")}),
})  # fmt: skip
ARTICLES, PARAGRAPHS, QAS = "data", "paragraphs", "qas"


def unfolded(rows: R) -> R:
    """Return a row a question of rows that are articles as SQuAD's files nest them; any other rows as they are."""
    features = rows.features or {}
    if not (_holds(features.get(PARAGRAPHS), QAS) or _holds(features.get(ARTICLES), PARAGRAPHS)):
        return rows
    questions = Dataset.from_dict(_columns(rows), features=QUESTIONS)  # such a file is one object: it is read whole
    return questions.to_iterable_dataset() if isinstance(rows, IterableDataset) else questions


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the columns of QUESTIONS that articles come to."""
    found: dict[str, list[Any]] = {name: [] for name in QUESTIONS}
    for article in (one for row in rows for one in row.get(ARTICLES, [row])):
        for paragraph in article[PARAGRAPHS] or ():
            for asked in paragraph[QAS] or ():
                answers = [] if asked.get("is_impossible") else asked.get("answers")
                places = answers and [{name: one.get(name) for name in ("text", "answer_start")} for one in answers]
                row = (asked.get("id"), article.get("title"), paragraph.get("context"), asked.get("question"), places)
                for column, value in zip(found.values(), row, strict=True):
                    column.append(value)
    return found


def _holds(feature: Any, field: str) -> bool:
    inner = element(feature)
    return is_list(feature) and isinstance(inner, dict) and field in inner
