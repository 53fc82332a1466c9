"""Columns of labels of any type as names, and names as the indexes that a model is trained on."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Json

from hftransfer.answers._written_truth import MISSING, WHOLE, as_whole, by_size, plain_numbers
from hftransfer.answers.base import Learner
from hftransfer.column_types import NUMBERS, STRINGS, element, is_list, is_value, type_name
from hftransfer.errors import UserError

UNSEEN = "\u200b\u200c\u200d\u2060\ufeff"  # signs without width: left over from other programs
FEWEST_ROWS = 10  # of train; in fewer, labels that differ from row to row may be classes all the same
MOST_NAMES = 100_000  # more distinct labels than this are free text; also what bounds the memory of counting a stream


def holds_names(feature: Any) -> bool:
    """Tell whether the values of a column, or of its lists, can be names."""
    inner = element(feature)
    return isinstance(inner, ClassLabel | Json) or is_value(inner, *STRINGS, *NUMBERS, "bool", "null")


def holds_tags(feature: Any) -> bool:
    """Tell whether a column holds lists of what can be tags."""
    inner = element(feature)
    return is_list(feature) and (isinstance(inner, ClassLabel) or is_value(inner, *STRINGS, "int", "uint"))


def refuse_lists(kind: str, feature: Any) -> None:
    """Raise UserError for a column of lists where a row has one label."""
    if is_list(feature):
        raise UserError(
            f"{kind} needs one label a row",
            f"the label column is {type_name(feature)}",
            "Mend data.problem_type.",
        )


def plain_lists(values: pa.Array) -> pa.Array:
    """Return lists of any kind as ordinary ones."""
    if pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        return values.cast(pa.list_(values.type.value_type))
    return values


def names(values: pa.Array, feature: Any, number: str | None = None, given: Sequence[str] | None = None) -> pa.Array:
    """Return single values by name, without blanks around it; -1 and blanks alone name nothing.

    UserError for decimals; `number` is the kind that learns them, where there is one. `given` are names of whole
    numbers, from 0 on.
    """
    if isinstance(feature, ClassLabel):
        index = values.cast(pa.int64())
        index = pc.if_else(pc.less(index, 0), pa.scalar(None, pa.int64()), index)  # -1 hides a label
        return pa.array(feature.names, pa.string()).take(index)
    if isinstance(feature, Json):
        return trimmed(pa.array([_json_name(value) for value in values.to_pylist()], pa.string()))
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        _refuse_decimals(values, number)
        values = values.cast(pa.int64())
    if given and (pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        return _named(values.cast(pa.int64()), given)
    return trimmed(values.cast(pa.string()))


def _named(numbers: pa.Array, given: Sequence[str]) -> pa.Array:
    """Return whole numbers by the names that the user gave for them; UserError for one without a name."""
    numbers = pc.if_else(pc.equal(numbers, -1), pa.scalar(None, pa.int64()), numbers)  # -1 hides a label
    strange = pc.unique(numbers.filter(pc.or_(pc.less(numbers, 0), pc.greater_equal(numbers, len(given))))).to_pylist()
    if strange:
        few = ", ".join(map(str, sorted(strange)[:5]))
        raise UserError(
            "data.label_names must name every number that is a label", f"it has {len(given)} names, for 0 to "
            f"{len(given) - 1}, and labels are {few} too",
            "Name them all, in order; where labels begin with 1, put a name for 0 first.",
        )  # fmt: skip
    return trimmed(pa.array(given, pa.string()).take(numbers))


def trimmed(values: pa.Array) -> pa.Array:
    """Return names without blanks and unseen signs around them, each letter in one form; blanks alone name nothing.

    Letters with marks are written as one sign or as two, which look the same (NFC and NFD): names of folders on a Mac
    are of the second kind.
    """
    found = pc.utf8_trim_whitespace(pc.utf8_trim(pc.utf8_trim_whitespace(values), characters=UNSEEN))
    found = pc.utf8_normalize(found, form="NFC")
    return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found)


def _json_name(value: str | None) -> str | None:
    decoded = None if value is None else json.loads(value)
    return decoded if decoded is None or isinstance(decoded, str) else json.dumps(decoded)


def _refuse_decimals(values: pa.Array | pa.ChunkedArray, number: str | None) -> None:
    decimals = values.filter(pc.or_(pc.is_inf(values), pc.not_equal(values, pc.round(values))))
    if len(decimals):
        some = ", ".join(f"{value:g}" for value in pc.unique(decimals).to_pylist()[:3])
        raise UserError(
            "labels must be names, truth values or whole numbers",
            f"labels are numbers with decimals ({some}...)",
            f"Set data.problem_type={number} if they are scores." if number else "Write them as names.",
        )


def name_lists(values: pa.Array, feature: Any, given: Sequence[str] | None = None) -> pa.Array:
    """Return lists of values as lists of names; `given` are those of whole numbers."""
    return map_lists(values, lambda flat: names(flat, feature.feature, given=given))


def as_lists(values: pa.Array, feature: Any, separator: str | None) -> pa.Array:
    """Return single values as lists of names: cut at a separator, or of one name each."""
    if separator is None:
        found = names(values, feature)
        lengths = pc.fill_null(pc.cast(found.is_valid(), pa.int32()), 0)
        return lists(lengths, found.drop_null(), found.is_null())
    parts = pc.split_pattern(pc.fill_null(names(values, feature), ""), separator)
    return _without_empty(map_lists(parts, pc.utf8_trim_whitespace))  # an empty cell is a row without labels


def numbers(values: pa.Array, feature: Any, decimal: str | None = None) -> pa.Array:
    """Return values as float64, what is not finite as null; UserError for what is no number."""
    if isinstance(feature, ClassLabel | Json):
        raise UserError(
            "regression needs numbers", f"the label column is {type_name(feature)}", "Name another column."
        )
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = trimmed(values.cast(pa.string()))
        gaps = pc.is_in(pc.utf8_lower(values), value_set=pa.array(sorted(MISSING)))  # no name can be meant here
        values = plain_numbers(pc.if_else(gaps, pa.scalar(None, pa.string()), values), decimal)
    try:
        found = values.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise UserError("a column of numbers is needed", str(error), "Mend them, or name another column.") from error
    return pc.if_else(pc.is_finite(found), found, pa.scalar(None, pa.float64()))


def map_lists(values: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return lists with their entries changed."""
    lengths = pc.fill_null(pc.list_value_length(values), 0)
    return lists(lengths, change(values.flatten()), values.is_null())


def lists(lengths: pa.Array, flat: pa.Array, missing: pa.Array | None = None) -> pa.Array:
    """Return lists of these lengths over flat values."""
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=missing)


def _without_empty(values: pa.Array) -> pa.Array:
    flat = values.flatten()
    full = pc.not_equal(flat, "")
    parents = pc.list_parent_indices(values).filter(full).to_numpy()
    lengths = np.bincount(parents, minlength=len(values))
    return lists(pa.array(lengths), flat.filter(full), values.is_null())


def holds_null(values: pa.ChunkedArray) -> pa.Array:
    """Return which lists hold a null."""
    whole = values.combine_chunks()
    parents = pc.list_parent_indices(whole)
    mask = np.zeros(len(whole), dtype=bool)
    mask[parents.filter(whole.flatten().is_null()).to_numpy()] = True
    return pa.array(mask)


def nearly_alike(known: Sequence[str]) -> list[str]:
    """Return warnings of names that are one but for capitals, or but for signs that look the same."""
    found = []
    for how, key in (
        ("capitals alone", str.casefold),
        ("signs that look alike", _looks),
        ("how a number is written", as_whole),
    ):
        alike: dict[str, list[str]] = {}
        for name in known:
            alike.setdefault(key(name), []).append(name)
        twins = [" and ".join(f"`{name}`" for name in names) for names in alike.values() if len(names) > 1]
        if twins:
            found.append(f"labels that differ in {how} are different labels: {some(twins, 5)}")
    return found


def _looks(name: str) -> str:
    """Return what a name looks like: full and half width, ligatures, and signs without width make no difference."""
    seen = unicodedata.normalize("NFKC", name)
    return " ".join("".join(sign for sign in seen if unicodedata.category(sign) != "Cf").split())


def like_missing(known: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Return that labels whose names often stand for a missing value are labels like the others."""
    found = [
        f"`{name}` ({count:,} rows)" for name, count in zip(known, counts, strict=False) if name.casefold() in MISSING
    ]
    if not found:
        return []
    verb = "is a label" if len(found) == 1 else "are labels"
    return [f"{some(found, 5)} {verb} like the others, not missing: a row without a label has an empty cell"]


def whole_steps(known: Sequence[str]) -> np.ndarray | None:
    """Return names as numbers (k,) where they are three or more whole numbers that follow one another; else None."""
    whole = [as_whole(name) for name in known]
    if len(known) < 3 or not all(map(WHOLE.fullmatch, whole)):
        return None
    found = np.array([int(name) for name in whole], np.float64)
    return found if (np.diff(found) == 1).all() else None


def multi_hot(values: pa.Array) -> int | None:
    """Return the width of lists that say of each label whether a row has it; None for lists that name labels.

    All are as long, of two or more, and hold 0 and 1 alone. Whole numbers that name labels would not stand twice in
    a list, as one of the two must in every list that is longer than two.
    """
    values = plain_lists(values).drop_null()
    lengths = pc.unique(pc.list_value_length(values)).to_pylist()
    flat = values.flatten()
    if len(lengths) != 1 or lengths[0] < 2 or flat.null_count or pa.types.is_null(flat.type):
        return None
    if pa.types.is_boolean(flat.type):
        return int(lengths[0])
    number = pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)
    if not number or not set(pc.unique(flat).to_pylist()) <= {0, 1}:
        return None
    return int(lengths[0])


def of_multi_hot(values: pa.Array, known: Sequence[str]) -> pa.Array:
    """Return lists that say of each label whether a row has it as lists of names; other lists are null."""
    values = plain_lists(values)
    fits = pc.fill_null(pc.equal(pc.list_value_length(values), len(known)), False).to_numpy(zero_copy_only=False)
    flat = values.filter(pa.array(fits)).flatten()
    matrix = pc.fill_null(flat.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False).reshape(-1, len(known))
    whole = np.isin(matrix, (0.0, 1.0)).all(axis=1)
    fits[fits] = whole
    given = np.zeros((len(values), len(known)), bool)
    given[fits] = matrix[whole] == 1.0
    return lists(
        pa.array(given.sum(axis=1)), pa.array(known, pa.string()).take(pa.array(np.nonzero(given)[1])), pa.array(~fits)
    )


class Tally(Learner):
    """Counts label names batch by batch; `learnt` is given the names in order and how often each stands."""

    def __init__(
        self,
        column: str,
        features: Mapping[str, Any],
        learnt: Callable[[tuple[str, ...], tuple[int, ...], int], Any],
        classes: bool = False,
    ) -> None:
        self.column, self.features, self.learnt, self.classes = column, features, learnt, classes
        self.counted: Counter[str] = Counter()
        self.rows = 0

    def add(self, truth: pa.Array) -> None:
        """Count a batch of rows' names; UserError when they are too many to be classes."""
        self.rows += len(truth)
        flat = truth.flatten() if pa.types.is_list(truth.type) else truth
        for entry in flat.value_counts().to_pylist():
            if entry["values"] is not None:
                self.counted[entry["values"]] += entry["counts"]
        if len(self.counted) > MOST_NAMES:
            raise UserError("labels must be classes", f"there are more than {MOST_NAMES}", "Name another column.")

    def learn(self) -> Any:
        found = self.vocabulary()
        return self.learnt(found, tuple(self.counted[name] for name in found), self.rows)

    def vocabulary(self) -> tuple[str, ...]:
        """Return the names in the order of a model's outputs: a ClassLabel's, numbers by size, words from a to z."""
        inner = element(self.features[self.column])
        present = [name for name, count in self.counted.items() if count]
        others = [f"`{name}`" for name in self.features if name != self.column]
        action = f"Name another column in data.columns: {some(others)}." if others else ""
        if self.classes and len(present) < 2:
            found = f"every row of `{self.column}` is {present[0]!r}" if present else f"`{self.column}` names none"
            raise UserError("labels of two classes or more are needed", found, action or "Add rows of another class.")
        if not present:
            raise UserError("labels are needed", f"`{self.column}` names none", action or "Add labels.")
        if isinstance(inner, ClassLabel):
            return tuple(inner.names)
        if self.classes and self.rows < FEWEST_ROWS and 2 * len(present) > self.rows:
            raise UserError(
                "several rows of each class are needed",
                f"there are {len(present)} classes in {self.rows} training rows",
                "Add rows.",
            )
        if self.classes and 2 * len(present) > self.rows:
            raise UserError(
                "labels must be classes that many rows share",
                f"`{self.column}` has {len(present)} distinct values in {self.rows} rows (free text?)",
                action or "Add a column of labels.",
            )
        return tuple(by_size(present))


def refuse_unseen(found: pa.Array, row_ids: pa.Array, known: Sequence[str], split: str) -> None:
    """Raise UserError for labels of a split that the training rows do not have, with the first rows that have them."""
    nested = pa.types.is_list(found.type)
    flat = found.flatten() if nested else found
    unseen = pc.and_(flat.is_valid(), pc.invert(pc.is_in(flat, value_set=pa.array(known, pa.string()))))
    if pc.any(unseen).as_py():
        strange = flat.filter(unseen)
        rows = pc.list_parent_indices(found).filter(unseen) if nested else pc.indices_nonzero(unseen)
        where = row_ids.take(pc.unique(rows)).to_pylist()
        raise UserError(
            f"the labels of {split} must be among those of train ({some(known)})",
            f"{split} also has {some(sorted(pc.unique(strange).to_pylist()))} (rows {some(where)})",
            "Mend the labels, or add such rows to train.",
        )


def indexes(found: pa.Array, known: Sequence[str]) -> pa.Array:
    """Return names as indexes into `known`."""
    return pc.index_in(found, value_set=pa.array(known, pa.string())).cast(pa.int64())


def counts(encoded: pa.Array, size: int) -> np.ndarray:
    """Return how often each index stands in encoded labels, (size,)."""
    flat = encoded.flatten() if pa.types.is_list(encoded.type) else encoded
    return np.bincount(flat.drop_null().to_numpy(), minlength=size)


def codes(found: pa.Array, known: Sequence[str]) -> np.ndarray:
    """Return stored names as indexes (n,); UserError for names that are not known."""
    coded = pc.index_in(found, value_set=pa.array(known, pa.string()))
    if coded.null_count:
        missing = sorted(set(found.filter(coded.is_null()).to_pylist()))
        raise UserError(
            f"predictions of the labels {', '.join(known)} are needed",
            f"the file also has {', '.join(map(str, missing))}",
            "Read it with the labels of the run that wrote it.",
        )
    return np.asarray(coded.to_numpy(zero_copy_only=False), np.int64)


def vectors(values: np.ndarray) -> pa.Array:
    """Return a matrix (n, k) as a column of lists of float32."""
    values = np.asarray(values)
    return lists(pa.array(np.full(len(values), values.shape[1])), pa.array(values.ravel(), pa.float32()))


def matrix(found: pa.Array, width: int) -> np.ndarray:
    """Return a column of lists of one width as a matrix."""
    return np.asarray(found.flatten().to_numpy()).reshape(-1, width)


def some(found: Iterable[str], most: int = 10) -> str:
    """Return the first names, and how many more there are."""
    found = list(found)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
