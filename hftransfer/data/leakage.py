"""Rows that stand in more than one split: what a model is shown, made alike, hashed, and compared; none is dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hftransfer.errors import NAMED_ROWS, with_rows
from hftransfer.tasks.base import Role

PRINT = "<u8"  # of a row's input; among 10^6 rows of train and 10^5 of test one false pair in 10^8 data sets
MOST_PRINTS = 10_000_000  # of a stream: 80 MB
MEANING = {
    ("validation", "train"): "choices made by them favour memory",
    ("test", "train"): "scores on them measure memory",
    ("test", "validation"): "choices were made with them",
}


def prints(found: Mapping[str, Sequence[bytes]]) -> np.ndarray:
    """Return a hash (rows,) of each row's input, from what each role found equal inputs by."""
    parts = list(found.values())
    rows = parts[0] if len(parts) == 1 else map(b"\x1f".join, zip(*parts, strict=True))  # no text holds a \x1f
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, PRINT)


def shared(found: Mapping[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Return which rows of a split (first) stand in another (second), from the prints of each split."""
    return {(use, other): np.isin(found[use], found[other]) for use, other in MEANING}


def shared_with_stream(
    held_out: Mapping[str, np.ndarray], train: np.ndarray, cut: Iterable[str]
) -> dict[tuple[str, str], np.ndarray]:
    """Return the same for a train that is streamed, with the prints of all of its rows, those in `cut` splits too."""
    values, counts = np.unique(train, return_counts=True)
    for use in cut:
        np.subtract.at(counts, np.searchsorted(values, held_out[use]), 1)
    return shared({**held_out, "train": values[counts > 0]})


@dataclass(frozen=True)
class Likeness:
    """How rows are alike, in the words of a warning."""

    one: str  # of one row: what it does, before the other split's name
    many: str
    by: str  # what is alike, with a place for what a model is shown


SAME = Likeness("also stands in", "also stand in", "same {}")
NEAR = Likeness("has a near copy in", "have a near copy in", "nearly the same {}")
NEAR_OR_TURNED = replace(NEAR, by="nearly the same {}, perhaps turned or mirrored")
LIKELY = Likeness("has a likely copy in", "have a likely copy in", "nearly the same features")


@dataclass(frozen=True)
class Leak:
    """Rows (a mask) of a split that have a copy in another, and how they are alike."""

    use: str
    other: str
    mask: np.ndarray
    likeness: Likeness
    what: str  # a model is shown, in a word
    row_ids: Sequence[str]

    @property
    def alike(self) -> str:
        """What they have in common, in words."""
        found = self.likeness.by.format(self.what)
        return f"the {found}" if found.startswith("same") else found

    @property
    def said(self) -> str:
        """What they do, in words."""
        number = int(self.mask.sum())
        does = self.likeness.one if number == 1 else self.likeness.many
        return f"{does} {self.other} ({self.likeness.by.format(self.what)})"


def report(
    which: Mapping[tuple[str, str], np.ndarray],
    row_ids: Mapping[str, Sequence[str]],
    roles: Sequence[Role],
    likeness: Likeness = SAME,
) -> tuple[dict[str, dict[str, int]], list[Leak]]:
    """Return how many rows of a split have a copy in which other or itself, and those across splits."""
    counts: dict[str, dict[str, int]] = {}
    leaks = []
    for (use, other), mask in which.items():
        number = int(mask.sum())
        if number:
            counts.setdefault(use, {})[other] = number
        if number and use != other:
            leaks.append(Leak(use, other, mask, likeness, what(roles), row_ids[use]))
    return counts, leaks


def sentences(leaks: Sequence[Leak]) -> list[str]:
    """Return a warning for each pair of splits, of rows that are alike in one way or another."""
    found = []
    for use, other in MEANING:
        of = [leak for leak in leaks if (leak.use, leak.other) == (use, other)]
        if not of:
            continue
        whole = np.any([leak.mask for leak in of], axis=0)
        number = int(whole.sum())
        head = f"leakage: {number} of {len(whole)} {use} rows ({number / len(whole):.1%})"
        if len(of) == 1:
            said = of[0].said
        else:
            kinds = (f"{int(leak.mask.sum())} with {leak.alike}" for leak in of)
            said = f"{'looks' if number == 1 else 'look'} like rows of {other} ({', '.join(kinds)})"
        found.append(f"{head} {said}; {MEANING[use, other]}{rows_of(whole, of[0].row_ids)}")
    return found


def rows_of(mask: np.ndarray, row_ids: Sequence[str]) -> str:
    """Return the end of a warning that names the first rows of a mask."""
    return with_rows("", [row_ids[int(place)] for place in np.flatnonzero(mask)[: NAMED_ROWS + 1]])


def contradictions(
    found: np.ndarray, answers: pa.Array, row_ids: Sequence[str], roles: Sequence[Role]
) -> tuple[int, list[str]]:
    """Return how many rows (of train) have the same input as another and a different answer, and a warning."""
    _, group, counts = np.unique(found, return_inverse=True, return_counts=True)
    places = np.flatnonzero(counts[group] > 1)
    told: dict[int, set[Any]] = {}
    for place, answer in zip(places, answers.take(pa.array(places)).to_pylist(), strict=True):
        told.setdefault(int(group[place]), set()).add(tuple(answer) if isinstance(answer, list) else answer)
    torn = np.array([number for number, different in told.items() if len(different) > 1], np.int64)
    mask = np.isin(group, torn)
    if not len(torn):
        return 0, []
    return int(mask.sum()), [
        f"train: {int(mask.sum())} rows have the same {what(roles)} as another that is labelled otherwise"
        f"{rows_of(mask, row_ids)}"
    ]


def what(roles: Sequence[Role]) -> str:
    """Return in a word what a model is shown."""
    words = [role.takes.words for role in roles if role.takes is not None]
    return words[0][len(words) > 1] if len(set(words)) == 1 else "input"
