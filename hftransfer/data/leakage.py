"""Rows that stand in more than one split: what a model is shown, made alike, hashed, and compared; none is dropped."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hftransfer.tasks.base import Role

PRINT = "<u8"  # of a row's input; among 10^6 rows of train and 10^5 of test one false pair in 10^8 data sets
MOST_PRINTS = 10_000_000  # of a stream: 80 MB
NAMED_ROWS = 3  # rows that a warning names
KINDS = {"text": ("text", "texts"), "words": ("words", "words"), "image": ("pixels", "pixels")}
MEANING = {
    ("validation", "train"): "choices made by them favour memory",
    ("test", "train"): "scores on them measure memory",
    ("test", "validation"): "choices were made with them",
}


def prints(table: pa.Table, roles: Sequence[Role], pixels: Mapping[str, Sequence[bytes]]) -> np.ndarray:
    """Return a hash (rows,) of each row's input in a canonical table, whose images have the hashes `pixels` by role.

    Texts that differ in case, blanks or compatible characters alone (Unicode NFKC) are alike.
    """
    parts = [pixels[role.name] if role.kind == "image" else _texts(table[role.name], role) for role in shown(roles)]
    rows = parts[0] if len(parts) == 1 else map(b"\x1f".join, zip(*parts, strict=True))  # no text holds a \x1f
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, PRINT)


def shown(roles: Sequence[Role]) -> list[Role]:
    """Return the roles that a model is shown."""
    return [role for role in roles if role.kind in KINDS]


def _texts(column: pa.ChunkedArray, role: Role) -> list[bytes]:
    if role.kind == "words":
        column = pc.binary_join(column, " ")
    return [_alike(text or "") for text in column.to_pylist()]


def _alike(text: str) -> bytes:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()


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


def report(
    which: Mapping[tuple[str, str], np.ndarray],
    row_ids: Mapping[str, Sequence[str]],
    roles: Sequence[Role],
    likeness: Likeness = SAME,
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return how many rows of a split have a copy in which other or itself, and a warning for those across splits."""
    counts: dict[str, dict[str, int]] = {}
    warnings = []
    for (use, other), mask in which.items():
        number = int(mask.sum())
        if number:
            counts.setdefault(use, {})[other] = number
        if number and use != other:
            warnings.append(
                f"leakage: {number} of {len(mask)} {use} rows ({number / len(mask):.1%}) "
                f"{likeness.one if number == 1 else likeness.many} {other} ({likeness.by.format(what(roles))}): "
                f"{named(mask, row_ids[use])}; {MEANING[use, other]}"
            )
    return counts, warnings


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
        f"train: {int(mask.sum())} rows have the same {what(roles)} as another that is labelled otherwise: "
        f"{named(mask, row_ids)}"
    ]


def what(roles: Sequence[Role]) -> str:
    """Return in a word what a model is shown."""
    kinds = [role.kind for role in shown(roles)]
    return KINDS[kinds[0]][len(kinds) > 1] if len(set(kinds)) == 1 else "input"


def named(mask: np.ndarray, row_ids: Sequence[str]) -> str:
    """Return the first rows of a mask by their ids."""
    places = np.flatnonzero(mask)
    more = ", ..." if len(places) > NAMED_ROWS else ""
    return ", ".join(row_ids[int(place)] for place in places[:NAMED_ROWS]) + more
