"""What people had of a catalogue before a moment, and what that alone recommends: popularity, item-kNN, EASE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

MOST_ITEMS = 20_000  # of which EASE holds a matrix of all pairs, 3.2 GB
NEIGHBOURS = (20, 50, 200)  # of an item, among which one is chosen
PENALTIES = (10.0, 50.0, 250.0, 1000.0)
RECENT = 0.25  # of the time span of train: a window that popularity is also counted in
DEPTH = 10
Scores = Callable[[Sequence[Sequence[int]]], np.ndarray]  # histories (n lists of places) -> scores (n, items)


@dataclass(frozen=True, eq=False)
class Histories:
    """Interactions of train: whose (n,), with which item (n,), when (n,); users and items by their places."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    size: int  # items of the catalogue

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each item was had, (items,)."""
        return np.bincount(self.items, minlength=self.size)

    @cached_property
    def percentiles(self) -> np.ndarray:
        """The share of the catalogue that is less popular than each item, equals counted half, (items,)."""
        _, inverse, sizes = np.unique(self.counts, return_inverse=True, return_counts=True)
        below = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return np.asarray(((below + sizes / 2) / self.size)[inverse])

    @cached_property
    def matrix(self) -> Any:
        """Who had what, (users, items) of 0 and 1, sparse."""
        import scipy.sparse

        ones = np.ones(len(self.users), np.float64)
        found = scipy.sparse.csr_matrix((ones, (self.users, self.items)), (int(self.users.max()) + 1, self.size))
        found.data[:] = 1.0
        return found

    @cached_property
    def last(self) -> tuple[list[list[int]], np.ndarray, Histories]:
        """For choosing settings on train alone: histories without their last item, that item, and train without it."""
        order = np.lexsort((self.times, self.users))
        users, items, times = self.users[order], self.items[order], self.times[order]
        ends = np.flatnonzero(np.append(users[1:] != users[:-1], True))
        starts = np.concatenate([[0], ends[:-1] + 1])
        many = ends > starts
        histories = [items[start:end].tolist() for start, end in zip(starts[many], ends[many], strict=True)]
        kept = np.delete(np.arange(len(users)), ends[many])
        return histories, items[ends[many]], Histories(users[kept], items[kept], times[kept], self.size)

    # --- what recommends ---

    def popularity(self, recent: bool) -> Scores:
        """Return what ranks items by how often they were had, in all of train or in the last quarter of its time."""
        counts = self.counts.astype(np.float64)
        if recent:
            since = self.times.max() - RECENT * (self.times.max() - self.times.min())
            counts = np.bincount(self.items[self.times >= since], minlength=self.size) + counts / (counts.max() + 1)
        return lambda histories: np.broadcast_to(counts, (len(histories), self.size))

    def neighbours(self, count: int) -> Scores:
        """Return item-kNN (Deshpande and Karypis 2004): each item of a history speaks for its `count` nearest.

        The score of an item is the sum of its cosines to those of the history that have it among their nearest.
        """
        import scipy.sparse

        norms = np.sqrt(np.maximum(np.asarray(self.matrix.sum(axis=0)).ravel(), 1))
        unit = (self.matrix @ scipy.sparse.diags(1 / norms)).T.tocsr()
        rows, columns, values = [], [], []
        for start in range(0, self.size, 1024):
            near = (unit[start : start + 1024] @ unit.T).toarray()
            near[np.arange(len(near)), np.arange(start, start + len(near))] = 0
            kept = np.argsort(-near, axis=1, kind="stable")[:, :count]
            rows.append(np.repeat(np.arange(start, start + len(near)), kept.shape[1]))
            columns.append(kept.ravel())
            values.append(np.take_along_axis(near, kept, axis=1).ravel())
        whole = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        nearest = scipy.sparse.csr_matrix(whole, (self.size, self.size))
        return lambda histories: (self._had(histories) @ nearest).toarray()

    def ease(self, penalty: float) -> Scores:
        """Return EASE (Steck 2019): the linear model of every item by the others, solved at once."""
        gram = (self.matrix.T @ self.matrix).toarray()
        gram[np.diag_indices_from(gram)] += penalty
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        return lambda histories: np.asarray(self._had(histories) @ weights)

    def _had(self, histories: Sequence[Sequence[int]]) -> Any:
        import scipy.sparse

        owner = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
        places = np.fromiter((place for one in histories for place in one), np.int64, len(owner))
        found = scipy.sparse.csr_matrix((np.ones(len(owner)), (owner, places)), (len(histories), self.size))
        found.data[:] = 1.0
        return found

    # --- the best setting of each, by train alone ---

    @cached_property
    def popular(self) -> tuple[Scores, str]:
        """Popularity in all of train or in its recent window, whichever finds people's last items of train better."""
        best = self._chosen((True, False), Histories.popularity)
        return self.popularity(best), "in the last quarter of train's time" if best else "in all of train"

    @cached_property
    def knn(self) -> tuple[Scores, str]:
        """item-kNN with the number of neighbours that finds people's last items of train best."""
        best = self._chosen(NEIGHBOURS, Histories.neighbours)
        return self.neighbours(best), f"the cosine of who had both, {best} neighbours"

    @cached_property
    def linear(self) -> tuple[Scores, str] | None:
        """EASE with the penalty that finds people's last items of train best; None for too many items."""
        if self.size > MOST_ITEMS:
            return None
        best = self._chosen(PENALTIES, Histories.ease)
        return self.ease(best), f"a linear model of each item by the others, penalty {best:g}"

    def _chosen(self, offered: Sequence[Any], make: Callable[[Histories, Any], Scores]) -> Any:
        histories, wanted, past = self.last
        some = np.random.default_rng(0).permutation(len(histories))[:2000]
        if not len(some) or not len(past.users):
            return offered[0]
        found = []
        for value in offered:
            scores = np.array(make(past, value)([histories[at] for at in some]), np.float64)
            for row, at in enumerate(some):
                scores[row, histories[at]] = -np.inf
            own = scores[np.arange(len(some)), wanted[some]]
            ranks = 1 + (scores > own[:, None]).sum(axis=1)
            found.append((float(((ranks <= DEPTH) / np.log2(ranks + 1)).mean()), value))
        return max(found, key=lambda one: one[0])[1]
