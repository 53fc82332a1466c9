"""Ranked lists: what is right for a row, what a model puts first, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._ranks import DEPTH

KEPT = 50  # entries of an answer


class Relevant(NamedTuple):
    """An entry that is right (a grade above 0) or known to be wrong; `cold`: nobody had it in the training rows."""

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


def first(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and scores of the best (n, k), of equal scores the first places first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
    return order, np.take_along_axis(scores, order, axis=1)
