"""Very many rows of texts: tokenized when they are asked for, so that a start waits for none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from hftransfer.modeling.prepared import ASIDE, SLICE, Prepared, encode, truth_of
from hftransfer.tasks.base import Preparation, Task

MANY = 200_000  # rows of a split from which on they are read so
LOOKED_AT = 20_000  # of them, before training: what they say of the others is said to be of so many
LONGEST = 256  # rows of most bytes, whose tokens are counted: what memory must hold is not guessed


class OnDemand:
    """A torch-style data set of rows that are tokenized when they are asked for, one item each."""

    def __init__(self, task: Task, rows: Any, processor: Any, preparation: Preparation) -> None:
        self.task, self.rows, self.processor, self.preparation = task, rows, processor, preparation

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        found = self.encoded(places)
        names = [name for name in found if name not in ASIDE]
        return [{name: found[name][i] for name in names} for i in range(len(places))]

    def encoded(self, places: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Return some rows as `encode` gives them."""
        return encode(self.task, self.rows[[int(place) for place in places]], self.processor, self.preparation)

    def select(self, places: Any) -> OnDemand:
        """Return the same items in another order."""
        return OnDemand(self.task, self.rows.select(places), self.processor, self.preparation)


def possible(task: Task, rows: Any) -> bool:
    """Tell whether a split is to be read so."""
    return task.an_item_a_row and len(rows) > MANY


def on_demand(task: Task, rows: Any, processor: Any, preparation: Preparation) -> Prepared:
    """Return a split whose rows are tokenized when they are asked for.

    `lengths` are told by the rows' bytes, on a line through the rows that are looked at; the longest have their own.
    """
    dataset, count = OnDemand(task, rows, processor, preparation), len(rows)
    sizes = _bytes(task, rows)
    places = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(np.int64))
    tokens, cut = _looked_at(dataset, places)
    whole = ~cut if (~cut).any() else ~np.zeros(len(cut), bool)
    lengths = np.clip(np.rint(_line(sizes[places[whole]], tokens[whole], sizes)), 1, preparation.max_length)
    lengths = lengths.astype(np.int64)
    longest = np.argsort(-sizes, kind="stable")[:LONGEST]
    lengths[places], lengths[longest] = tokens, _looked_at(dataset, longest)[0]
    return Prepared(
        dataset, np.arange(count), truth_of(task, rows, preparation), lengths, int(cut.sum()), count=count,
        looked_at=len(places),
    )  # fmt: skip


def _bytes(task: Task, rows: Any) -> np.ndarray:
    """Return how many bytes of text each row has."""
    names = [role.name for role in task.shown if role.name in rows.column_names]
    table, found = rows.select_columns(names).with_format("arrow"), []
    for start in range(0, len(rows), LOOKED_AT):
        part = table[start : start + LOOKED_AT]
        found.append(sum(pc.fill_null(pc.binary_length(part[name]), 0).to_numpy() for name in names))
    return np.concatenate(found).astype(np.float64)


def _line(known: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return where the straight line of least squares is at some places."""
    spread = known.var()
    slope = ((known - known.mean()) * (values - values.mean())).mean() / spread if spread else 0.0
    return np.asarray(values.mean() + slope * (asked - known.mean()))


def _looked_at(dataset: OnDemand, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of some rows (rows,), and which were cut (rows,)."""
    found = [dataset.encoded(places[start : start + SLICE]) for start in range(0, len(places), SLICE)]
    tokens, cut = (np.concatenate([np.asarray(one[name]) for one in found]) for name in ("_length", "_truncated"))
    return tokens.astype(np.int64), cut.astype(bool)
