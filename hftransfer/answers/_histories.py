"""What people had of a catalogue before a moment, and what that alone recommends: popularity, item-kNN, EASE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

MOST_ITEMS = 20_000  # of which EASE holds a matrix of all pairs, 3.2 GB
NEIGHBOURS = (20, 50, 200)  # of an item, among which one is chosen
PENALTIES = (10.0, 50.0, 250.0, 1000.0)
RECENT = 0.25  # of the time span of train: a window that popularity is also counted in
DEPTH = 10
AT_ONCE = 2**24  # scores, of 8 bytes each
ROWS = 1024  # items that are compared with all others at once
Scores = Callable[[Sequence[Sequence[int]]], np.ndarray]  # histories (n lists of places) -> scores (n, items)


def parts(rows: int, size: int) -> Iterator[slice]:
    """Yield slices of rows whose scores of `size` entries are held together."""
    many = max(1, min(256, AT_ONCE // max(size, 1)))
    yield from (slice(start, start + many) for start in range(0, rows, many))


def trimmed(weights: Any, kept: int) -> Any:
    """Return weights (n, m), dense or sparse, with the `kept` of each row that are furthest from 0, sparse.

    Of equal ones the first places are in.
    """
    import scipy.sparse

    values, places, counts = [], [], []
    for row in range(weights.shape[0]):
        if scipy.sparse.issparse(weights):
            some = slice(weights.indptr[row], weights.indptr[row + 1])
            found, at = weights.data[some], weights.indices[some]
        else:
            at = np.flatnonzero(weights[row])
            found = weights[row][at]
        order = np.argsort(-np.abs(found), kind="stable")[:kept]
        order = np.sort(order[found[order] != 0])
        values.append(found[order])
        places.append(at[order])
        counts.append(len(order))
    whole = [np.concatenate(parts) if parts else np.zeros(0) for parts in (values, places)]
    return scipy.sparse.csr_matrix((whole[0], whole[1], np.concatenate([[0], np.cumsum(counts)])), weights.shape)


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
        nearest = self.nearest(count)
        return lambda histories: (self._had(histories) @ nearest).toarray()

    def nearest(self, count: int) -> Any:
        """Return the cosines (items, items) of each item to its `count` nearest, sparse."""
        import scipy.sparse

        norms = np.sqrt(np.maximum(np.asarray(self.matrix.sum(axis=0)).ravel(), 1))
        unit = (self.matrix @ scipy.sparse.diags(1 / norms)).T.tocsr()
        found = []
        for start in range(0, self.size, ROWS):
            near = (unit[start : start + ROWS] @ unit.T).tocsr()
            near.sort_indices()
            owner = np.repeat(np.arange(start, start + near.shape[0]), np.diff(near.indptr))
            near.data[near.indices == owner] = 0.0
            found.append(trimmed(near, count))
        return scipy.sparse.vstack(found, format="csr")

    def ease(self, penalty: float) -> Scores:
        """Return EASE (Steck 2019): the linear model of every item by the others, solved at once."""
        weights = self.solved(penalty)
        return lambda histories: np.asarray(self._had(histories) @ weights)

    def solved(self, penalty: float) -> np.ndarray:
        """Return the weights (items, items) of EASE, by which each item of a history speaks for others."""
        gram = (self.matrix.T @ self.matrix).toarray()
        gram[np.diag_indices_from(gram)] += penalty
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        return np.asarray(weights)

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
    def _knn(self) -> tuple[Any, int]:
        best = self._chosen(NEIGHBOURS, Histories.neighbours)
        return self.nearest(best), best

    @cached_property
    def _linear(self) -> tuple[np.ndarray, float] | None:
        if self.size > MOST_ITEMS:
            return None
        best = self._chosen(PENALTIES, Histories.ease)
        return self.solved(best), best

    @property
    def knn_weights(self) -> Any:
        """The weights of item-kNN, (items, items), sparse, with the number of neighbours that is best for train."""
        return self._knn[0]

    @property
    def linear_weights(self) -> np.ndarray | None:
        """The weights of EASE, (items, items), with the penalty that is best for train; None for too many items."""
        return None if self._linear is None else self._linear[0]

    @property
    def knn(self) -> tuple[Scores, str]:
        """item-kNN with the number of neighbours that finds people's last items of train best."""
        weights, count = self._knn
        about = f"the cosine of who had both, {count} neighbours"
        return lambda histories: (self._had(histories) @ weights).toarray(), about

    @property
    def linear(self) -> tuple[Scores, str] | None:
        """EASE with the penalty that finds people's last items of train best; None for too many items."""
        if self._linear is None:
            return None
        weights, penalty = self._linear
        about = f"a linear model of each item by the others, penalty {penalty:g}"
        return lambda histories: np.asarray(self._had(histories) @ weights), about

    def _chosen(self, offered: Sequence[Any], make: Callable[[Histories, Any], Scores]) -> Any:
        histories, wanted, past = self.last
        some = np.random.default_rng(0).permutation(len(histories))[:2000]
        if not len(some) or not len(past.users):
            return offered[0]
        found = []
        for value in offered:
            scores, gains = make(past, value), []
            for part in parts(len(some), self.size):
                near = np.array(scores([histories[at] for at in some[part]]), np.float64)
                for line, at in zip(near, some[part], strict=True):
                    line[histories[at]] = -np.inf
                own = near[np.arange(len(near)), wanted[some[part]]]
                ranks = 1 + (near > own[:, None]).sum(axis=1)
                gains.append((ranks <= DEPTH) / np.log2(ranks + 1))
            found.append((float(np.concatenate(gains).mean()), value))
        return max(found, key=lambda one: one[0])[1]
