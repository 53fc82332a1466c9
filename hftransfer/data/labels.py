"""Labels of any type as names, and names as the indexes a model is trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features, Json, LargeList, List, Value

from hftransfer.config import DataConfig
from hftransfer.data.columns import type_name
from hftransfer.errors import UserError
from hftransfer.tasks.base import LabelKind, Labels

FEATURES = {
    "single_label": Value("int64"),
    "multi_label": List(Value("int64")),
    "regression": Value("float64"),
    "tags": List(Value("int64")),
}
MOST_NAMES = 100_000  # more distinct labels than this are free text; also what bounds the memory of counting a stream


def label_kind(feature: Any, config: DataConfig, kinds: Sequence[LabelKind]) -> LabelKind:
    """Return what the labels are: as the user says, else by their type."""
    wanted: LabelKind | None = config.problem_type or ("multi_label" if config.label_separator else None)
    if wanted is None and isinstance(feature, List | LargeList):
        wanted = "tags" if "tags" in kinds else "multi_label"
    kind: LabelKind = wanted or ("single_label" if "single_label" in kinds else kinds[0])
    if kind not in kinds:
        raise UserError(
            f"labels of kind {' or '.join(kinds)} are needed", f"these are {kind}", "Check data.problem_type."
        )
    if kind in ("single_label", "regression") and isinstance(feature, List | LargeList):
        raise UserError(
            f"{kind} needs one label a row", f"the label column is {type_name(feature)}", "Mend data.problem_type."
        )
    return kind


def to_names(values: pa.Array, feature: Any, kind: LabelKind, separator: str | None = None) -> pa.Array:
    """Return a batch of labels by name: strings, lists of strings, or float64 for regression."""
    if kind == "regression":
        return _numbers(values, feature)
    if isinstance(feature, List | LargeList):
        return _map_lists(values, lambda flat: _names(flat, feature.feature))
    if kind == "multi_label":
        if separator is None:
            names = _names(values, feature)
            lengths = pc.fill_null(pc.cast(names.is_valid(), pa.int32()), 0)
            return _lists(lengths, names.drop_null(), names.is_null())
        parts = pc.split_pattern(pc.fill_null(_names(values, feature), ""), separator)
        return _without_empty(_map_lists(parts, pc.utf8_trim_whitespace))  # an empty cell is a row without labels
    return _names(values, feature)


def _names(values: pa.Array, feature: Any) -> pa.Array:
    if isinstance(feature, ClassLabel):
        index = values.cast(pa.int64())
        index = pc.if_else(pc.less(index, 0), pa.scalar(None, pa.int64()), index)  # -1 hides a label
        return pa.array(feature.names, pa.string()).take(index)
    if isinstance(feature, Json):
        return pa.array([_json_name(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        _refuse_decimals(values)
        values = values.cast(pa.int64())
    names = values.cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(names), ""), pa.scalar(None, pa.string()), names)


def _json_name(value: str | None) -> str | None:
    decoded = None if value is None else json.loads(value)
    return decoded if decoded is None or isinstance(decoded, str) else json.dumps(decoded)


def _refuse_decimals(values: pa.Array | pa.ChunkedArray) -> None:
    decimals = values.filter(pc.and_(pc.is_finite(values), pc.not_equal(values, pc.round(values))))
    if len(decimals):
        some = ", ".join(f"{value:g}" for value in pc.unique(decimals).to_pylist()[:3])
        raise UserError(
            "labels must be names, truth values or whole numbers",
            f"labels are numbers with decimals ({some}...)",
            "Set data.problem_type=regression if they are scores.",
        )


def _numbers(values: pa.Array, feature: Any) -> pa.Array:
    if isinstance(feature, ClassLabel | Json):
        raise UserError(
            "regression needs numbers", f"the label column is {type_name(feature)}", "Name another column."
        )
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
    try:
        numbers = values.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise UserError("regression needs numbers", str(error), "Mend them, or name another column.") from error
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _map_lists(lists: pa.Array, change: Any) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    return _lists(lengths, change(lists.flatten()), lists.is_null())


def _lists(lengths: pa.Array, flat: pa.Array, missing: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=missing)


def _without_empty(lists: pa.Array) -> pa.Array:
    flat = lists.flatten()
    full = pc.not_equal(flat, "")
    parents = pc.list_parent_indices(lists).filter(full).to_numpy()
    lengths = np.bincount(parents, minlength=len(lists))
    return _lists(pa.array(lengths), flat.filter(full), lists.is_null())


class Tally:
    """Counts label names batch by batch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.rows = 0

    def add(self, names: pa.Array) -> None:
        """Count a batch of rows' names; UserError when they are too many to be classes."""
        self.rows += len(names)
        if pa.types.is_floating(names.type):
            return
        flat = names.flatten() if pa.types.is_list(names.type) else names
        for entry in flat.value_counts().to_pylist():
            if entry["values"] is not None:
                self.counts[entry["values"]] += entry["counts"]
        if len(self.counts) > MOST_NAMES:
            raise UserError("labels must be classes", f"there are more than {MOST_NAMES}", "Name another column.")


def vocabulary(tally: Tally, feature: Any, kind: LabelKind, column: str, features: Features) -> tuple[str, ...]:
    """Return the names in the order of a model's outputs: a ClassLabel's own, numbers by size, words from a to z."""
    if kind == "regression":
        return ()
    element = feature.feature if isinstance(feature, List | LargeList) else feature
    present = [name for name, count in tally.counts.items() if count]
    others = ", ".join(name for name in features if name != column)
    if kind == "single_label" and len(present) < 2:
        found = f"every row of `{column}` is {present[0]!r}" if present else f"`{column}` names none"
        raise UserError("labels of two classes or more are needed", found, f"Name another column: {others}.")
    if not present:
        raise UserError("labels are needed", f"`{column}` names none", f"Name another column: {others}.")
    if isinstance(element, ClassLabel):
        return tuple(element.names)
    if kind == "single_label" and 2 * len(present) > tally.rows:
        raise UserError(
            "labels must be classes that many rows share",
            f"`{column}` has {len(present)} distinct values in {tally.rows} rows (free text?)",
            f"Set data.columns to another of: {others}.",
        )
    whole = isinstance(element, Value) and element.dtype.startswith(("int", "uint", "float"))
    return tuple(sorted(present, key=int) if whole else sorted(present))


def refuse_unseen(names: pa.Array, row_ids: pa.Array, known: Sequence[str], split: str) -> None:
    """Raise UserError for labels of a split that the training rows do not have, with the first rows that have them."""
    nested = pa.types.is_list(names.type)
    flat = names.flatten() if nested else names
    unseen = pc.and_(flat.is_valid(), pc.invert(pc.is_in(flat, value_set=pa.array(known, pa.string()))))
    if pc.any(unseen).as_py():
        strange = flat.filter(unseen)
        rows = pc.list_parent_indices(names).filter(unseen) if nested else pc.indices_nonzero(unseen)
        where = row_ids.take(pc.unique(rows)).to_pylist()
        raise UserError(
            f"the labels of {split} must be among those of train ({_some(known)})",
            f"{split} also has {_some(sorted(pc.unique(strange).to_pylist()))} (rows {_some(where)})",
            "Mend the labels, or add such rows to train.",
        )


def encode(names: pa.Array, kind: LabelKind, known: Sequence[str]) -> pa.Array:
    """Return names as indexes into `known` (lists of indexes sorted for multi_label); regression stays as it is."""
    if kind == "regression":
        return names
    table = pa.array(known, pa.string())
    if kind == "single_label":
        return pc.index_in(names, value_set=table).cast(pa.int64())
    indexes = pc.index_in(names.flatten(), value_set=table).cast(pa.int64())
    if kind == "tags":
        return _lists(pc.fill_null(pc.list_value_length(names), 0), indexes, names.is_null())
    rows = pc.list_parent_indices(names).to_numpy()
    pairs = np.unique(np.stack([rows, pc.fill_null(indexes, -1).to_numpy()], axis=1), axis=0).astype(np.int64)
    lengths = np.bincount(pairs[:, 0], minlength=len(names))
    return _lists(pa.array(lengths), pa.array(pairs[:, 1]), names.is_null())


def counted(kind: LabelKind, names: Sequence[str], labels: pa.Array) -> Labels:
    """Return Labels with the rows (tags: words) that have each name."""
    if kind == "regression":
        return Labels(kind)
    return Labels(kind, tuple(names), tuple(int(n) for n in _counts(labels, len(names))))


def missing_names(split: str, names: Sequence[str], labels: pa.Array) -> list[str]:
    """Return a warning when a split has no row of some class."""
    if not names:
        return []
    absent = [name for name, count in zip(names, _counts(labels, len(names)), strict=True) if not count]
    what = "class" if len(absent) == 1 else "classes"
    return [f"{what} {_some(absent)} missing from {split}"] if absent else []


def _counts(labels: pa.Array, names: int) -> np.ndarray:
    flat = labels.flatten() if pa.types.is_list(labels.type) else labels
    return np.bincount(flat.drop_null().to_numpy(), minlength=names)


def _some(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
