"""How likely tokens are by the tokens before them in train alone: what a model of language must beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

MOST = 2_000_000  # tokens of train that are counted


class Bigrams:
    """Pairs of tokens with single ones behind them, each weighted by how many kinds follow (Witten and Bell 1991)."""

    def __init__(self, items: Iterable[tuple[Sequence[int], Sequence[int]]]) -> None:
        """Count (ids, labels) of items: a token counts where its label is one, and after any token."""
        before, here, seen = [], [], 0
        for ids, labels in items:
            first, then = pairs(ids, labels)
            before.append(first)
            here.append(then)
            seen += len(then)
            if seen >= MOST:
                break
        first = np.concatenate([*before, np.empty(0, np.int64)])
        then = np.concatenate([*here, np.empty(0, np.int64)])
        self.base = int(max(first.max(initial=0), then.max(initial=0))) + 1
        self.keys, self.counts = np.unique(first * self.base + then, return_counts=True)
        self.single = np.bincount(then, minlength=self.base)
        self.follow = np.bincount(first, minlength=self.base)  # tokens behind each
        self.kinds = np.bincount(self.keys // self.base, minlength=self.base)  # distinct ones

    def nll(self, ids: Sequence[int], labels: Sequence[int], vocabulary: int) -> tuple[float, int]:
        """Return the negative log likelihood in nats of an item's learned tokens, and how many there are."""
        first, then = pairs(ids, labels)
        if not len(then):
            return 0.0, 0
        total, distinct = int(self.single.sum()), int((self.single > 0).sum())
        single = (_at(self.single, then) + distinct / vocabulary) / (total + distinct) if total else 1 / vocabulary
        keys = first * self.base + then
        place = np.minimum(np.searchsorted(self.keys, keys), max(0, len(self.keys) - 1))
        inside = (first < self.base) & (then < self.base)
        known = inside & (self.keys[place] == keys) if len(self.keys) else np.zeros(len(keys), bool)
        counts = np.where(known, self.counts[place], 0) if len(self.keys) else np.zeros(len(keys))
        kinds, follow = _at(self.kinds, first), _at(self.follow, first)
        with np.errstate(invalid="ignore"):
            chance = np.where(follow > 0, (counts + kinds * single) / np.maximum(follow + kinds, 1), single)
        return float(-np.log(chance).sum()), len(then)


def pairs(ids: Sequence[int], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the token before each learned one, and that one."""
    whole, wanted = np.asarray(ids, np.int64), np.asarray(labels, np.int64)
    places = np.flatnonzero(wanted[1:] >= 0) + 1
    return whole[places - 1], whole[places]


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return values by place, 0 beyond the last."""
    return np.where(places < len(values), values[np.minimum(places, len(values) - 1)], 0)
