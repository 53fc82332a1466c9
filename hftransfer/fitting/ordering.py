"""The order in which training reads its rows: keyed by (seed, epoch), rows of like length side by side.

transformers' `group_by_length` draws from the global random state, which a resume in mid-epoch finds elsewhere, visits
lengths in falling order, and reorders evaluation and prediction too. Here the rows lie in the order of the epoch
behind a sequential sampler: any process, worker or resume sees the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

MEGABATCH = 50  # units of rows that are sorted by length together: more pads less, fewer mixes more


class Epochs:
    """A torch-style data set that shows `dataset` in a new order each epoch.

    `unit` rows make one update (batch x accumulation x processes); rows of one unit are of like length, units come at
    random, the one with the longest row first, so that too little memory shows at once. `tell` is told each epoch too.
    """

    def __init__(
        self, dataset: Any, lengths: np.ndarray | None, unit: int, seed: int, tell: Callable[[int], None] | None = None
    ) -> None:
        self.dataset, self.lengths, self.unit, self.seed, self.tell = dataset, lengths, unit, seed, tell
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it too
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next; accelerate's loader calls it."""
        self.epoch.fill_(int(epoch))
        if self.tell is not None:
            self.tell(epoch)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self._current()[index])]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        order = self._current()
        return list(self.dataset.__getitems__([int(order[i]) for i in indices]))

    def _current(self) -> np.ndarray:
        epoch = int(self.epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, order_of(len(self), self.lengths, self.unit, [self.seed, epoch])
        return self._order[1]


def order_of(count: int, lengths: np.ndarray | None, unit: int, key: list[int]) -> np.ndarray:
    """Return a permutation of `count` rows drawn with `key`, rows of like length together when lengths are given."""
    rng = np.random.default_rng(key)
    order = rng.permutation(count)
    if lengths is None or count <= unit:
        return order
    size = unit * MEGABATCH
    parts = [order[i : i + size] for i in range(0, count, size)]
    order = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])
    whole = count // unit * unit  # the incomplete unit stays last: an epoch has one, at its end
    units = order[:whole].reshape(-1, unit)
    units = units[rng.permutation(len(units))]
    longest = int(lengths[units].max(axis=1).argmax())
    units[[0, longest]] = units[[longest, 0]]
    return np.concatenate([units.reshape(-1), order[whole:]])
