"""Exact search: the entries of a catalogue that are nearest to queries, block by block, so that memory is bounded.

Where faiss is installed, its exhaustive search by dot products does it: the same entries, but for equal scores.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hftransfer.safety import machine

QUERIES = 256  # that are compared at once
ENTRIES = 65_536  # that they are compared with at once: 64 MB of scores


def nearest(
    queries: np.ndarray,
    vectors: np.ndarray,
    count: int,
    hidden: Sequence[Sequence[int]] = (),
    added: tuple[np.ndarray, Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (n, k) of the entries with the largest dot products, and these (n, k), largest first.

    `queries` are (n, d), `vectors` (m, d), which may lie on disk. k is `count`, or m where there are fewer. `hidden`
    are places that are no answer to a query (n lists, or none): they stand at the end, with a score of -inf. Of equal
    scores the first place comes first. No more than QUERIES x ENTRIES scores are held at a time. `added` to the dot
    products are a number an entry (m,), and numbers of queries and entries (n, m), sparse.
    """
    count = min(count, len(vectors))
    if faiss() is not None and count and added is None:
        return _by_faiss(queries, vectors, count, hidden)
    places, scores = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
    for start in range(0, len(queries), QUERIES):
        asked = np.asarray(queries[start : start + QUERIES], np.float32)
        found = np.empty((len(asked), 0), np.float32), np.empty((len(asked), 0), np.int64)
        for begin in range(0, len(vectors), ENTRIES):
            near = asked @ np.asarray(vectors[begin : begin + ENTRIES], np.float32).T
            if added is not None:
                near += added[0][begin : begin + ENTRIES]
                own = added[1][start : start + QUERIES, begin : begin + ENTRIES].tocoo()
                near[own.row, own.col] += own.data
            if np.isnan(near[0]).any() or np.isnan(near[:, 0]).any():  # of a model that diverged
                near[np.isnan(near)] = -np.inf
            for row, gone in enumerate(hidden[start : start + QUERIES]):
                near[row, [place - begin for place in gone if begin <= place < begin + near.shape[1]]] = -np.inf
            found = _best(*found, near, begin, count)
        scores[start : start + QUERIES], places[start : start + QUERIES] = found
    return places, scores


@functools.cache
def faiss() -> Any | None:
    """Return the module faiss; None where it is not installed, does not load, or may not stand beside torch."""
    if not machine.bears_two_openmps():
        return None
    try:
        return importlib.import_module("faiss")
    except ImportError:
        return None


def _by_faiss(
    queries: np.ndarray, vectors: np.ndarray, count: int, hidden: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `nearest` does: as many more are asked for as are hidden, which then stand at the end."""
    found: Any = faiss()
    whole = np.ascontiguousarray(vectors, np.float32)  # which copies no memory that is so already
    places, scores = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
    for start in range(0, len(queries), QUERIES):
        asked = np.ascontiguousarray(queries[start : start + QUERIES], np.float32)
        gone = [set(row) for row in hidden[start : start + QUERIES]]
        wanted = min(len(whole), count + max(map(len, gone), default=0))
        near, at = found.knn(asked, whole, wanted, metric=found.METRIC_INNER_PRODUCT)
        for row, none in enumerate(gone):
            near[row, [place in none for place in at[row].tolist()]] = -np.inf
        order = np.lexsort((at, -near))[:, :count]
        scores[start : start + QUERIES] = np.take_along_axis(near, order, axis=1)
        places[start : start + QUERIES] = np.take_along_axis(at, order, axis=1)
    return places, scores


def _best(
    scores: np.ndarray, places: np.ndarray, near: np.ndarray, begin: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of those found before and of a block that begins at a place, the best first."""
    if scores.shape[1] == count:  # of what comes later, no more than what is above the last of them can be among them
        rows, columns = np.nonzero(near > scores[:, -1:])
        many = np.bincount(rows, minlength=len(near))
        slot = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        more = np.full((len(near), many.max(initial=0)), -np.inf, np.float32)
        named = np.zeros(more.shape, np.int64)
        more[rows, slot], named[rows, slot] = near[rows, columns], columns + begin
        return _first(np.concatenate([scores, more], axis=1), np.concatenate([places, named], axis=1), count)
    both = np.concatenate([scores, near], axis=1)
    named = np.concatenate([places, np.broadcast_to(np.arange(begin, begin + near.shape[1]), near.shape)], axis=1)
    if both.shape[1] > count:
        # the k-th score tells who is in; of those that equal it the first places are
        least = -np.partition(-both, count - 1, axis=1)[:, count - 1 : count]
        over = both > least
        equal = both == least
        left = count - over.sum(axis=1, keepdims=True)
        kept = over | (equal & (equal.cumsum(axis=1) <= left))
        both, named = both[kept].reshape(-1, count), named[kept].reshape(-1, count)
    return _first(both, named, count)


def _first(scores: np.ndarray, places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `count` by score, of equal ones those that stand first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
