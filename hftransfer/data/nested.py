"""Columns inside columns: `{"translation": {"en": ..., "fr": ...}}` gives `translation.en`; SQuAD's articles, rows."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, Features, IterableDataset, List, Translation, Value, concatenate_datasets

from hftransfer.column_types import element, is_list

R = TypeVar("R", Dataset, IterableDataset)


def opened(rows: R) -> R:
    """Return rows with a column for each field of those that hold fields of plain values, in place of them."""
    features = rows.features
    fields = {name: _fields(feature) for name, feature in (features or {}).items()}
    nested = [name for name, found in fields.items() if found]
    if not nested:
        return rows
    flat = Features({f"{name}.{field}": one for name in nested for field, one in fields[name].items()})
    clash = flat.keys() & set(features or ())
    if clash:  # another column has the very name
        return rows
    if isinstance(rows, IterableDataset):
        kept = Features({name: feature for name, feature in (features or {}).items() if name not in nested})
        wanted = {name: list(fields[name]) for name in nested}
        return rows.map(
            functools.partial(_flat, wanted),
            remove_columns=nested, features=Features({**kept, **flat}),
        )  # fmt: skip
    parts = rows.select_columns(nested).flatten()
    rest = rows.remove_columns(nested)
    return concatenate_datasets([rest, parts], axis=1) if rest.column_names else parts


def _flat(wanted: Mapping[str, Sequence[str]], row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{field}": (row[name] or {}).get(field) for name, fields in wanted.items() for field in fields}


def _fields(feature: Any) -> dict[str, Any]:
    """Return the fields of a column of plain values: a dict of them, or what `datasets` calls a Translation."""
    if isinstance(feature, Translation):
        return {language: Value("string") for language in feature.languages}
    if isinstance(feature, dict) and "bytes" in feature:
        return {}  # a file
    plain = isinstance(feature, dict) and all(isinstance(part, Value) for part in feature.values())
    return dict(feature) if plain else {}


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
