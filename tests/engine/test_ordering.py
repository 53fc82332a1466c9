"""The order of an epoch: every row once, the same for the same seed and epoch, rows of like length together."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer.fitting.ordering import Epochs, order_of

LENGTHS = np.random.default_rng(0).integers(3, 120, 1003)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_every_row_once(lengths):
    order = order_of(1003, lengths, 32, [1, 0])
    assert sorted(order) == list(range(1003))
    assert (order == order_of(1003, lengths, 32, [1, 0])).all()
    assert (order != order_of(1003, lengths, 32, [1, 1])).any()
    assert (order != order_of(1003, lengths, 32, [2, 0])).any()


def test_rows_of_like_length_share_a_unit():
    order = order_of(1003, LENGTHS, 32, [1, 0])
    units = LENGTHS[order[:992]].reshape(-1, 32)
    padded = (units.max(axis=1) * 32).sum()
    assert padded < 1.1 * units.sum()  # at random, batches of 32 pad these lengths to nearly twice
    assert units[0].max() == LENGTHS[order[:992]].max()  # too little memory shows in the first step
    assert (np.diff(units.mean(axis=1)) > 0).any() and (np.diff(units.mean(axis=1)) < 0).any()  # no curriculum


def test_few_rows_are_plainly_shuffled():
    assert sorted(order_of(5, np.arange(5), 32, [0, 0])) == [0, 1, 2, 3, 4]


class Rows:
    """A data set that fetches in batches, as datasets.Dataset does."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index):
        return index

    def __getitems__(self, indices):
        return list(indices)


def test_epochs_follow_the_loader():
    told = []
    epochs = Epochs(Rows(), None, 8, seed=3, tell=told.append)
    first = epochs.__getitems__(list(range(40)))
    assert first == [epochs[i] for i in range(40)] == order_of(40, None, 8, [3, 0]).tolist()
    epochs.set_epoch(1)
    assert epochs.__getitems__(list(range(40))) == order_of(40, None, 8, [3, 1]).tolist() != first
    assert told == [1]
