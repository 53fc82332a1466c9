"""A streamed training split as a model takes it: read from front to back in each epoch, decoded batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hftransfer.modeling import on_demand
from hftransfer.modeling.batches import Pending
from hftransfer.modeling.prepared import ASIDE, SLICE, Lazy, Prepared, drops, encode, of_targets
from hftransfer.tasks.base import Preparation, Task


def stream(task: Task, rows: Any, processor: Any, preparation: Preparation, count: int) -> Prepared:
    """Return a streamed training split of `count` rows.

    It is read once to count its items, where a row may give several or none: what is too long is known by its header
    and its tokens, without decoding it. Where every row is one item, the first rows tell how many are cut.
    """
    items = Streamed(task, rows, processor, replace(preparation, training=True), count)
    few = on_demand.LOOKED_AT if task.an_item_a_row else None
    found = items.counted(few)
    return Prepared(
        items,
        np.broadcast_to(np.int64(-1), (items.count,)),  # nobody keeps which row an item comes from
        truncated=found["_truncated"],
        unread=found["_unread"],
        cut_targets=found["_cut_target"],
        unmatched=found["_unmatched"],
        count=count,
        looked_at=few if few is not None and few < count else None,
        window=items.lazy.window,
        too_long=found["_long"],
    )


COUNTED = ("_truncated", "_unread", "_cut_target", "_unmatched", "_long")


class Streamed(torch.utils.data.IterableDataset):
    """The items of a stream, as many in each epoch, in an order keyed by (seed, epoch).

    Its length is known, so that Trainer sees where an epoch ends and a resume goes on where the run stopped. What is
    decoded lies in it undecoded, see `Pending`. Several worker processes take turns.
    """

    def __init__(self, task: Task, rows: Any, processor: Any, preparation: Preparation, count: int) -> None:
        self.task, self.processor, self.preparation, self.count = task, processor, preparation, count
        self.rows = rows.decode(False) if task.lazy else rows
        window = task.window(processor, preparation.config) if task.lazy else None
        self.lazy = Lazy(task, rows, processor, preparation, True, np.empty((0, 3), np.int64), window)

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next; accelerate's loader calls it."""
        self.rows.set_epoch(int(epoch))
        self.lazy.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        items = (item for batch in self.rows.iter(batch_size=SLICE) for item in self._items(batch)[0])
        return iter(items) if worker is None else itertools.islice(items, worker.id, None, worker.num_workers)

    def take(self, count: int) -> list[Any]:
        """Return the first items."""
        return list(itertools.islice(self, count))

    def counted(self, most: int | None = None) -> dict[str, int]:
        """Count the items, which sets the length, and the rows that are long, as the names of `encode` tell them.

        `most`: look at so many rows alone, each of which is one item.
        """
        total, items = dict.fromkeys(COUNTED, 0), 0
        rows = self.rows if most is None else self.rows.take(most)
        for batch in rows.iter(batch_size=SLICE):
            found, aside = self._items(batch)
            if aside is None:
                return total  # an item a row
            items += len(found)
            for name in total.keys() & aside.keys():
                total[name] += int(np.sum(aside[name]))
        if most is None:
            self.count = items
        return total

    def _items(self, batch: Mapping[str, list[Any]]) -> tuple[list[Any], dict[str, Any] | None]:
        """Return the items of some rows, and what is known beside them; None where every row gives one."""
        return self._undecoded(batch) if self.task.lazy else self._encoded(batch)

    def _encoded(self, batch: Mapping[str, list[Any]]) -> tuple[list[Any], dict[str, Any]]:
        found = encode(self.task, batch, self.processor, self.preparation)
        aside = {name: found[name] for name in ASIDE if name in found}
        cut = np.asarray(aside.get("_cut_target", np.zeros(len(aside["_row"]), bool)), bool)
        dropped = cut & (self.preparation.config.long_targets == "drop")
        names = [name for name in found if not name.startswith("_")]
        return [{name: found[name][i] for name in names} for i in np.flatnonzero(~dropped)], aside

    def _undecoded(self, batch: Mapping[str, list[Any]]) -> tuple[list[Any], dict[str, Any] | None]:
        count, window, task = len(batch["row_id"]), self.lazy.window, self.task
        long, seconds = np.zeros(count, bool), None
        if window is not None:
            role = next(role for role in task.shown if role.takes is not None and role.takes.lazy)
            assert role.takes is not None
            seconds = np.array([role.takes.seconds(value) or 0.0 for value in batch[role.name]])
            long = seconds > window
        targets = of_targets(batch[task.truth.name], seconds, self.processor, self.preparation)
        cut = np.zeros(count, bool) if targets is None else targets[0] & ~(long & task.splits)
        dropped = (long & task.splits) | (cut & drops(self.preparation))
        aside = None if window is None and targets is None else {"_long": long, "_cut_target": cut}
        rows = [{name: values[i] for name, values in batch.items()} for i in np.flatnonzero(~dropped)]
        return [Pending(self.lazy, row) for row in rows], aside
