"""What people had, beside what a model reads: popularity, and what goes with what, by shares that validation chose.

Ids know what no text says: that everybody takes an item, that two are taken together. Texts know items that nobody had
yet. A score is a cosine, and a share of each of the two more; the shares are those by which validation rows find most,
and may be 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hftransfer.answers import _nearest
from hftransfer.answers._histories import DEPTH, Histories, parts, trimmed

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)  # of what is 1 for the best, beside a cosine
FRESH = (0.0, 0.5, 1.0)  # of what the items nearest to it have, that an item counts which nobody had
NEIGHBOURS = 10  # of such an item, by a model's vectors
MOST_PAIRS = 2**31  # of items that nobody had with others, that are compared for it
KEPT = 100  # items that one of a history speaks for, those of the largest weights
SCORES = 2**24  # of people by items, that shares are chosen on
FEWEST = 50  # people, even so


class Shares(NamedTuple):
    """What was chosen: how much of each counts, what it is, and what validation rows found without and with it."""

    popular: float = 0.0
    together: float = 0.0
    fresh: float = 0.0
    window: str = ""
    model: str = ""
    people: int = 0
    alone: float = 0.0
    both: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether anything counts beside a cosine."""
        return bool(self.popular or self.together)

    def told(self) -> str:
        """Say what was chosen."""
        if not self.counts:
            return (
                f"what people had is not added to what the model reads: of {self.people:,} people of validation it "
                f"finds no more (nDCG@10 {self.alone:.3f})"
            )
        parts = [f"{self.popular:g} of popularity {self.window}"] if self.popular else []
        parts += [f"{self.together:g} of what goes together ({self.model})"] if self.together else []
        fresh = (
            f"; items that nobody had count {self.fresh:g} of the mean of those nearest to them" if self.fresh else ""
        )
        return (
            f"beside a cosine count {' and '.join(parts)}{fresh}: chosen on {self.people:,} people of validation, "
            f"whose nDCG@10 is {self.both:.3f} with it and {self.alone:.3f} without"
        )


@dataclass(frozen=True, eq=False)
class Crowd:
    """What is added to cosines: `popular` (m,) to each item, `together` (m, m) by each item that was had to others."""

    popular: np.ndarray
    together: Any  # sparse, float32

    def spoken(self, histories: Sequence[Sequence[int]]) -> Any:
        """Return what histories of places add to items, (n, m), sparse."""
        import scipy.sparse

        had = [sorted(set(one)) for one in histories]
        owner = np.repeat(np.arange(len(had)), [len(one) for one in had])
        places = np.fromiter((place for one in had for place in one), np.int64, len(owner))
        ones = np.ones(len(owner), np.float32)
        return scipy.sparse.csr_matrix((ones, (owner, places)), (len(had), len(self.popular))) @ self.together


def chosen(
    histories: Histories,
    vectors: np.ndarray,
    queries: np.ndarray,
    had: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
) -> tuple[Shares, Crowd]:
    """Return the shares by which people find most of what came next, and what is added to cosines then.

    `vectors` (m, d) are those of the items, `queries` (n, d) of what asks; `had` and `right` the places of histories
    and of what came next. One after the other is varied, the other held: what goes together, popularity, what goes
    together again; begun with either, and for each share of what stands in for items that nobody had.
    """
    size = len(vectors)
    some = np.random.default_rng(0).permutation(len(had))[: max(FEWEST, SCORES // size)]
    had, right = [list(had[at]) for at in some], [list(right[at]) for at in some]
    search = _Search(np.asarray(queries, np.float32)[some] @ np.asarray(vectors, np.float32).T, had, right)
    nobody = Crowd(np.zeros(size, np.float32), nothing(size))
    alone = search.found(nobody.spoken(had), nobody.popular)
    best, found = Shares(people=len(had), alone=alone, both=alone), nobody
    together, popular = [*_together(histories, had)], [*_popularity(histories)]
    alike = _alike(histories.counts == 0, vectors)
    for fresh in FRESH:
        if fresh and alike is None:
            break
        speak, count = together, popular
        if fresh:
            speak = [(name, one + np.float32(fresh) * (one @ alike.T)) for name, one in together]
            count = [(name, one + np.float32(fresh) * (alike @ one)) for name, one in popular]
        for order in ("together", "popular", "together"), ("popular", "together", "popular"):
            begun = Shares(people=len(had), alone=alone, both=alone, fresh=fresh)
            shares, crowd = _varied(search, order, speak, count, nobody, begun)
            if shares.both > best.both:
                best, found = shares, crowd
    return best, found


def _varied(
    search: _Search, order: Sequence[str], together: Any, popular: Any, nobody: Crowd, begun: Shares
) -> tuple[Shares, Crowd]:
    """Return the best shares of what goes together and of popularity, each by name, and what is added then."""
    shares, crowd, said = begun, nobody, nobody.spoken(search.had)
    for kind in order:
        for name, weights in together if kind == "together" else ():
            own = Crowd(nobody.popular, weights).spoken(search.had)
            for share in map(np.float32, SHARES):
                value = search.found(share * own, crowd.popular)
                if value > shares.both:
                    said, crowd = share * own, Crowd(crowd.popular, share * weights)
                    shares = shares._replace(together=round(float(share), 6), model=name, both=value)
        for name, values in popular if kind == "popular" else ():
            for share in map(np.float32, SHARES):
                value = search.found(said, share * values)
                if value > shares.both:
                    crowd = Crowd(share * values, crowd.together)
                    shares = shares._replace(popular=round(float(share), 6), window=name, both=value)
    return shares, crowd


def _alike(cold: np.ndarray, vectors: np.ndarray) -> Any:
    """Return weights (m, m), sparse, of the items nearest to each of those that nobody had: they stand in for it.

    None where there are none, or too many to be compared.
    """
    import scipy.sparse

    new, known = np.flatnonzero(cold), np.flatnonzero(~cold)
    if not len(new) or not len(known) or len(new) * len(known) > MOST_PAIRS:
        return None
    places, _ = _nearest.nearest(vectors[new], vectors[known], min(NEIGHBOURS, len(known)))
    each = np.full(places.size, 1 / places.shape[1], np.float32)
    at = np.repeat(new, places.shape[1]), known[places.ravel()]
    return scipy.sparse.csr_matrix((each, at), (len(cold), len(cold)))


def nothing(size: int) -> Any:
    """Return weights (size, size) of nothing."""
    import scipy.sparse

    return scipy.sparse.csr_matrix((size, size), dtype=np.float32)


def _popularity(histories: Histories) -> Iterator[tuple[str, np.ndarray]]:
    """Yield how popular items are (m,), 1 for the most, by the log of how often they were had; and when."""
    for name, recent in (("in the last quarter of train's time", True), ("in all of train", False)):
        counts = np.asarray(histories.popularity(recent)([[]]))[0]
        yield name, (np.log1p(counts) / np.log1p(max(counts.max(), 1))).astype(np.float32)


def _together(histories: Histories, had: Sequence[Sequence[int]]) -> Iterator[tuple[str, Any]]:
    """Yield weights (m, m) of what goes together, so that the best item of these people has 1 on average."""
    for name, weights in (("EASE", histories.linear_weights), ("item-kNN", histories.knn_weights)):
        if weights is None:
            continue
        made = trimmed(weights, KEPT).astype(np.float32)
        found = Crowd(np.zeros(histories.size, np.float32), made).spoken(had)
        largest = float(found.max(axis=1).toarray().mean()) if len(had) else 0.0
        if largest > 0:
            yield name, made / np.float32(largest)


class _Search:
    """What people find by scores: cosines (n, m), and what is added to them."""

    def __init__(self, cosines: np.ndarray, had: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> None:
        self.cosines, self.had = cosines, had
        self.right = np.zeros(cosines.shape, bool)
        for row, places in enumerate(right):
            self.right[row, places] = True
        gains = np.cumsum(1 / np.log2(np.arange(2, DEPTH + 2)))
        self.most = gains[np.minimum([len(set(places)) for places in right], DEPTH) - 1]

    def found(self, spoken: Any, popular: np.ndarray) -> float:
        """Return nDCG@10 over all people, of what is added by histories (n, m), sparse, and to items (m,)."""
        gains = []
        for part in parts(len(self.had), self.cosines.shape[1]):
            scores = self.cosines[part] + popular
            own = spoken[part].tocoo()
            scores[own.row, own.col] += own.data
            for row, places in enumerate(self.had[part]):
                scores[row, places] = -np.inf
            depth = min(DEPTH, scores.shape[1])
            top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
            values = np.take_along_axis(scores, top, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            top, values = (np.take_along_axis(one, order, axis=1) for one in (top, values))
            known = np.isfinite(values) & np.take_along_axis(self.right[part], top, axis=1)
            gains.append((known / np.log2(np.arange(2, depth + 2))).sum(axis=1))
        return float((np.concatenate(gains) / self.most).mean())


# --- beside a model ---


def columns(crowd: Crowd) -> dict[str, Any]:
    """Return what is added to cosines as columns of a table of items: `popular`, `others` (places) and `weights`."""
    import pyarrow as pa

    ends = pa.array(crowd.together.indptr, pa.int32())
    return {
        "popular": pa.array(crowd.popular, pa.float32()),
        "others": pa.ListArray.from_arrays(ends, pa.array(crowd.together.indices, pa.int32())),
        "weights": pa.ListArray.from_arrays(ends, pa.array(crowd.together.data, pa.float32())),
    }


def of_columns(table: Any) -> Crowd | None:
    """Return what `columns` gave; None of a table without."""
    import scipy.sparse

    if "popular" not in table.column_names:
        return None
    places, weights = (table[name].combine_chunks() for name in ("others", "weights"))
    parts = weights.flatten().to_numpy(), places.flatten().to_numpy(), places.offsets.to_numpy()
    together = scipy.sparse.csr_matrix(parts, (len(table), len(table)))
    return Crowd(table["popular"].to_numpy(), together)
