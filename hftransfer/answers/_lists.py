"""Ranked lists: what is right for a row, what a model puts first, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._learner import Learner
from hftransfer.answers._ranks import DEPTH

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = 50  # entries of an answer
MOST_NEGATIVES = 8  # wrong entries beside each right one that rows of train may bring
NEAR = "near"  # what an item of somebody's history is called that speaks for an answer
ITSELF = float("-inf")  # the grade of an entry that is the question itself: no answer to it, and no wrong one either


class Relevant(NamedTuple):
    """An entry that is right (a grade above 0), known to be wrong, or ITSELF; `cold`: nobody had it in train."""

    id: str
    grade: float = 1.0
    cold: bool = False


class Listed(NamedTuple):
    """A question's vector (bytes of float32), the names of the entries that fit best with their scores, and how many
    there were; of the first ten how popular they are (the share of the catalogue that is less so).
    """

    vector: bytes
    ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    among: int = 0
    popularity: tuple[float, ...] = ()
    near: tuple[str, ...] = ()  # of each of the first: the entry of the history that is nearest to it


def is_wrong(grade: float) -> bool:
    """Tell whether a grade says that an entry is wrong."""
    return ITSELF < grade <= 0


def listed(
    catalogue: Catalogue,
    places: np.ndarray,
    scores: np.ndarray,
    vectors: Sequence[bytes],
    hidden: Sequence[Sequence[int]],
    entries: np.ndarray | None = None,
) -> list[Listed]:
    """Return lists of places and scores (n, k), the best first, each told apart from what is no answer (-inf).

    With the vectors of the entries (m, d), each of the first ten has the hidden one that is nearest to it.
    """
    found = []
    for at, value, vector, gone in zip(places, scores, vectors, hidden, strict=True):
        last = int((value > -np.inf).sum())  # behind it stands what is no answer
        first = at[: min(last, DEPTH)]
        popular = () if catalogue.histories is None else tuple(map(float, catalogue.histories.percentiles[first]))
        near: tuple[str, ...] = ()
        if entries is not None and len(gone):
            had = list(gone)
            near = tuple(catalogue.ids[had[one]] for one in (entries[first] @ entries[had].T).argmax(axis=1))
        names, among = tuple(catalogue.ids[place] for place in at[:last]), len(catalogue) - len(set(gone))
        found.append(Listed(vector, names, tuple(map(float, value[:last])), among, popular, near))
    return found


def near_to(item: Mapping[str, Any]) -> str:
    """Return why an item of an answer stands there, else its id."""
    return f"near {item[NEAR]}" if NEAR in item else str(item["id"])


def first(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and scores of the best (n, k), of equal scores the first places first."""
    if scores.shape[1] > 4 * KEPT:  # the rest is never in order: of what equals the last, the first places are in
        least = -np.partition(-scores, KEPT - 1, axis=1)[:, KEPT - 1 : KEPT]
        over, equal = scores > least, scores == least
        kept = over | (equal & (equal.cumsum(axis=1) <= KEPT - over.sum(axis=1, keepdims=True)))
        places = np.nonzero(kept)[1].reshape(-1, KEPT)
        order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
        order = np.take_along_axis(places, order, axis=1)
    else:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
    return order, np.take_along_axis(scores, order, axis=1)


class CountWrong(Learner):
    """Counts rows, and the wrong entries that rows bring: the answer has `rows` and `negatives`."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.rows, self.wrong = answer, 0, 0

    def add(self, truth: pa.Array) -> None:
        self.rows += len(truth)
        wrong = (sum(is_wrong(one["grade"]) for one in row or ()) for row in truth.to_pylist())
        self.wrong = max(self.wrong, max(wrong, default=0))

    def learn(self) -> Any:
        return dataclasses.replace(self.answer, rows=self.rows, negatives=min(self.wrong, MOST_NEGATIVES))
