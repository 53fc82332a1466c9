"""Rows as a model takes them: every task's, once, before training or while rows are asked for; and how they batch."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from hftransfer.answers.base import Answer, Rows
from hftransfer.inputs.base import Input
from hftransfer.processors import side_of
from hftransfer.tasks.base import Preparation, Task


@dataclass(frozen=True)
class Prepared:
    """The rows of one split as a model takes them.

    `dataset` yields items: dicts of tensors or lists, with `labels` where truth is known; `rows` (items,) tells from
    which row each comes (a long row may give several). `truth` has an entry a row in the rows' order, None where
    nobody knows it; `lengths` (items,) is what an item costs; `truncated` rows lost their end; `on_epoch` is told the
    number of each epoch before it starts. `count` is how many rows there are.
    """

    dataset: Any
    rows: np.ndarray
    truth: Rows | None = None
    lengths: np.ndarray | None = None
    truncated: int = 0
    unread: int = 0  # words that the tokenizer makes nothing of
    cut_targets: int = 0  # rows whose target is longer than the decoder takes
    unmatched: int = 0  # answers that could not be told from what a template makes around them
    target_lengths: np.ndarray | None = None  # (items,) tokens of each target, of answers that have some
    on_epoch: Callable[[int], None] | None = None
    count: int = 0
    looked_at: int | None = None  # rows that `truncated` is of, where those are not all: see `on_demand`
    rows_per_item: float = 1.0  # where an item holds several rows
    window: float | None = None  # seconds that a model is shown at once, of inputs that last
    too_long: int = 0  # rows that last longer
    mixed: bool = True  # whether items of unlike length may stand in one batch where answers are kept
    entries: Entries | None = None  # what the rows are answered with one of

    def __len__(self) -> int:
        return len(self.rows)

    def items(self, places: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return some items."""
        return [self.dataset[int(place)] for place in places]


class Entries:
    """The entries of a catalogue as a model takes them, read when they are asked for: there may be millions."""

    def __init__(self, task: Task, processor: Any, preparation: Preparation) -> None:
        catalogue = preparation.answer.catalogue
        assert catalogue is not None
        self.task, self.processor, self.preparation, self.catalogue = task, processor, preparation, catalogue
        self.lengths = pc.binary_length(catalogue.table["text"]).to_numpy()  # what an entry costs, nearly

    def __len__(self) -> int:
        return len(self.catalogue)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: list[int]) -> list[dict[str, Any]]:
        if self.preparation.answer.sees:
            found = self.task.seen(self.catalogue.pictures(places), self.processor, self.preparation)
        else:
            found = self.task.entries(self.catalogue.texts(places), self.processor, self.preparation)
        names = [name for name in found if name not in ASIDE]
        return [{name: found[name][i] for name in names} for i in range(len(places))]


def prepare(task: Task, rows: Any, processor: Any, preparation: Preparation, training: bool) -> Prepared:
    """Turn a split's rows (columns named by role) into model inputs; `training` turns augmentation on."""
    preparation = replace(preparation, training=training)
    truth = truth_of(task, rows, preparation)
    if task.lazy:
        return _lazily(task, rows, processor, preparation, training, truth)
    encoded = rows.map(
        lambda batch, indices: _numbered(encode(task, batch, processor, preparation), indices),
        batched=True,
        with_indices=True,
        remove_columns=rows.column_names,
        desc=None,
    )
    aside = {name: np.asarray(encoded[name]) for name in ASIDE if name in encoded.column_names}
    encoded = encoded.remove_columns(list(aside))
    cut = aside.get("_cut_target", np.zeros(len(encoded), bool))
    if training and preparation.config.long_targets == "drop" and cut.any():
        kept = np.flatnonzero(~cut)
        encoded, aside = encoded.select(kept), {name: values[kept] for name, values in aside.items()}
    return Prepared(
        encoded,
        aside["_row"].astype(np.int64),
        truth,
        aside["_length"].astype(np.int64) if "_length" in aside else None,
        int(aside["_truncated"].sum()) if "_truncated" in aside else 0,
        int(aside["_unread"].sum()) if "_unread" in aside else 0,
        int(cut.sum()),
        int(aside["_unmatched"].sum()) if "_unmatched" in aside else 0,
        aside.get("_target_length"),
        count=len(rows),
    )


class _Items(list[dict[str, Any]]):
    """Items in memory, read as those of a data set are."""

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        return [self[place] for place in places]


def few(task: Task, columns: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> Prepared:
    """Return what `prepare` makes of a few rows without truth, lists by role, of a task that decodes nothing."""
    found = encode(task, columns, processor, replace(preparation, training=False))
    names = [name for name in found if name not in ASIDE]
    items = _Items({name: found[name][i] for name in names} for i in range(len(found["_row"])))
    lengths = np.asarray(found["_length"], np.int64) if "_length" in found else None
    return Prepared(items, np.asarray(found["_row"], np.int64), None, lengths, count=len(next(iter(columns.values()))))


def of_values(
    task: Task, columns: Mapping[str, list[Any]], processor: Any, preparation: Preparation
) -> Prepared:  # fmt: skip
    """Return what `prepare` makes of values that `Task.row` read, lists by role, whose truth nobody knows."""
    texts = all(isinstance(value, str) for values in columns.values() for value in values)
    if texts and not task.lazy and len(next(iter(columns.values()))) <= FEW:
        return few(task, columns, processor, preparation)
    import datasets  # pandas comes with it: a text or two are answered without

    datasets.disable_progress_bars()
    features = {role.name: role.takes.feature() for role in task.shown if role.name in columns and role.takes}
    table = datasets.Dataset.from_dict(dict(columns), features=datasets.Features(features))
    return prepare(task, table, processor, preparation, training=False)


FEW = 256  # rows of texts that are read without a data set of their own
MOSAIC = 1  # of the key of what is drawn for mosaics, so that turning them on leaves other draws as they were
SLICE = 256  # rows whose encoded bytes are in memory at a time
PLACES = 50  # a second of an input that lasts counts as so many tokens: as many as most models make of it


def _lazily(
    task: Task, rows: Any, processor: Any, preparation: Preparation, training: bool, truth: Rows | None
) -> Prepared:
    """Return rows that are decoded when they are asked for, one item each, or one for each part of a long one.

    A row of train that is longer than a model is shown at once is left out where its truth cannot be parted.
    """
    window, count = task.window(processor, preparation.config), len(rows)
    lengths, seconds, long = None, None, 0
    spans = np.array([(row, 0, 1) for row in range(count)], np.int64).reshape(-1, 3)
    if window is not None:
        seconds = np.array([*_seconds(task, rows)])
        takes = next(role.takes for role in task.shown if role.takes is not None and role.takes.lazy)
        parts = [takes.parts(float(one), window) if task.splits else 1 for one in seconds]
        long = int((seconds > window).sum())
        kept = [row for row in range(count) if not (training and parts[row] > 1)]
        spans = np.array([(row, n, parts[row]) for row in kept for n in range(parts[row])], np.int64).reshape(-1, 3)
        lengths = PLACES * np.minimum(seconds[spans[:, 0]] / spans[:, 2], window)
    side = task.tile(preparation.config)
    if side is not None:
        spans = np.array([(row, n, many) for row, many in _tiles(task, rows, side) for n in range(many)], np.int64)
    cut, sizes = _of_targets(task, rows, processor, preparation, seconds)
    if training and seconds is not None and task.splits:
        cut &= seconds <= window  # what is left out anyhow is too long for one reason alone
    if training and drops(preparation) and cut.any():
        keep = ~cut[spans[:, 0]]
        spans, lengths = spans[keep], lengths if lengths is None else lengths[keep]
    lazy = Lazy(task, rows, processor, preparation, training, spans, window)
    return Prepared(
        lazy, spans[:, 0], truth, lengths, cut_targets=int(cut.sum()), target_lengths=sizes, on_epoch=lazy.set_epoch,
        count=count, window=window, too_long=long, mixed=task.mixes_lengths(processor),
    )  # fmt: skip


def _tiles(task: Task, rows: Any, side: int) -> Iterator[tuple[int, int]]:
    """Yield each row's number, and into how many tiles it is cut."""
    role = next(role for role in task.shown if role.takes is not None and role.takes.lazy)
    assert role.takes is not None
    for start in range(0, len(rows), SLICE):
        for place, value in enumerate(rows[start : start + SLICE][role.name], start):
            yield place, role.takes.tiles(value, side)


def _seconds(task: Task, rows: Any) -> Iterator[float]:
    role = next(role for role in task.shown if role.takes is not None and role.takes.lazy)
    assert role.takes is not None
    for start in range(0, len(rows), SLICE):
        for value in rows[start : start + SLICE][role.name]:
            yield role.takes.seconds(value) or 0.0


def _of_targets(
    task: Task, rows: Any, processor: Any, preparation: Preparation, seconds: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which rows' targets are longer than a model takes (rows,), and how long each is, if they have lengths."""
    cut, sizes = [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    truth: Any = rows.select_columns([task.truth.name]) if task.truth.name in rows.column_names else []
    for start in range(0, len(truth), SLICE):
        lasting = None if seconds is None else seconds[start : start + SLICE]
        found = of_targets(truth[start : start + SLICE][task.truth.name], lasting, processor, preparation)
        if found is None:
            return np.zeros(len(rows), bool), None
        cut.append(found[0])
        sizes.append(found[1])
    return (np.concatenate(cut), np.concatenate(sizes)) if len(truth) else (np.zeros(len(rows), bool), None)


def of_targets(
    truth: list[Any], seconds: np.ndarray | None, processor: Any, preparation: Preparation
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return which targets are longer than a model takes and how long each is (rows,); None where they have no length.

    `seconds` (rows,) is how long each input lasts, of those that last.
    """
    encoded = {} if seconds is None else {"_seconds": seconds}
    found = preparation.answer.targets(truth, encoded, processor, preparation)
    if "_target_length" not in found:
        return None
    return np.array(found.get("_cut_target", [False] * len(truth)), bool), np.array(found["_target_length"], np.int64)


def drops(preparation: Preparation) -> bool:
    """Tell whether rows whose target is too long are not trained on, of rows that are decoded when they are asked."""
    return preparation.config.long_targets == "drop" or not preparation.answer.cuts_targets


# what is known of an item besides what a model or an answer is given: see `encode`
ASIDE = ("_row", "_length", "_truncated", "_unread", "_cut_target", "_target_length", "_unmatched")


def encode(task: Task, batch: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
    """Return a batch of rows as items: a list or tensor by name; see `Task.items`."""
    shown = {role.name: batch[role.name] for role in task.shown if role.name in batch}
    return task.items(shown, batch.get(task.truth.name), processor, preparation)


def informed(answer: Answer[Any], prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """Return prepared splits whose truth tells what train's items alone say of it, of kinds that look at them."""
    told = answer.told_by_items(iter(prepared["train"].dataset))
    if told is None:
        return dict(prepared)
    return {
        split: found
        if split == "train" or found.truth is None
        else replace(found, truth=told(found.truth, zip(found.rows.tolist(), found.dataset, strict=True)))
        for split, found in prepared.items()
    }


def _numbered(found: dict[str, Any], indices: Sequence[int]) -> dict[str, Any]:
    found["_row"] = [indices[at] for at in found["_row"]]
    return found


def truth_of(task: Task, rows: Any, preparation: Preparation) -> Rows | None:
    """Return the truth of a split's rows as metrics take it; None where it has none."""
    name = task.truth.name
    if name not in rows.column_names:
        return None
    column = rows.select_columns([name]).with_format("arrow")[:][name]
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return preparation.answer.truth(whole)


class Lazy:
    """A torch-style data set that decodes, augments and processes rows as they are asked for.

    Each row's randomness is keyed by (seed, epoch, row): neither the order of reading, nor the number of worker
    processes, nor a resume in the middle of an epoch changes what a row looks like.
    """

    def __init__(
        self, task: Task, rows: Any, processor: Any, preparation: Preparation, training: bool, spans: np.ndarray,
        window: float | None,
    ) -> None:  # fmt: skip
        self.task, self.rows, self.processor, self.preparation = task, rows, processor, preparation
        self.training, self.spans, self.window = training, spans, window  # spans (items, 3): row, part, of how many
        self.augmentation = preparation.config.augmentation if training else None
        self.side = task.tile(preparation.config)
        self.copies = self._side_of_copies()
        if self.copies is not None:
            for role in self._seen():
                self.rows = role.takes.undecoded(self.rows, role.name)
        self.token = secrets.token_hex(8)  # what tells these rows, so prepared, from all others of this machine
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it too

    def _seen(self) -> list[Any]:
        """Return the roles that are read when they are asked for."""
        names = self.rows.column_names
        return [role for role in self.task.shown if role.takes is not None and role.takes.lazy and role.name in names]

    def _side_of_copies(self) -> int | None:
        """Return how many pixels the shorter side of a copy has that a picture far larger than it is trained on by.

        A random crop of it has still twice the pixels each way that a model is shown, or nearly. None: pictures are
        trained on as they are, because truth counts in their pixels, or nobody asked for copies.
        """
        config = self.preparation.config
        if not (self.training and config.reduced):
            return None
        from datasets import Dataset

        if not isinstance(self.rows, Dataset):
            return None
        side = side_of(self.processor) if self.window is None else None
        if side is None or self.preparation.answer.in_places or self.side is not None:
            return None
        crop = config.augmentation.crop if config.augmentation is not None else 1.0
        return math.ceil(2 * side / math.sqrt(crop))

    def __len__(self) -> int:
        return len(self.spans)

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next."""
        self.epoch.fill_(int(epoch))

    def select(self, indices: Any) -> Lazy:
        """Return the same items in another order."""
        spans = self.spans[np.asarray(indices)]
        found = Lazy(self.task, self.rows, self.processor, self.preparation, self.training, spans, self.window)
        found.token = self.token
        return found

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        spans = self.spans[indices]
        return self.of(dict(self.rows[spans[:, 0]]), spans)

    def of(self, batch: dict[str, list[Any]], spans: np.ndarray) -> list[dict[str, Any]]:
        """Return items of rows that were read; `spans` (items, 3) are their keys, parts, and of how many."""
        name = self.task.truth.name
        truth = list(batch[name]) if name in batch else [None] * len(spans)
        for role in self.task.shown:
            if role.name in batch and role.takes is not None:
                opened = [self._opened(role.takes, *row) for row in zip(batch[role.name], truth, spans, strict=True)]
                batch[role.name], truth = [value for value, *_ in opened], [own for _, own, _ in opened]
        if name in batch:
            batch[name] = truth
        found = encode(self.task, batch, self.processor, self.preparation)
        if self.side is not None:
            found["_tile"] = [change for _, _, change in opened]
        names = [name for name in found if name not in ASIDE]
        return [{name: found[name][i] for name in names} for i in range(len(spans))]

    def _opened(self, takes: Input, value: Any, truth: Any, span: np.ndarray) -> tuple[Any, Any, Any]:
        """Return a row's value as a model takes it, the row's truth beside it, and which tile of the value it is."""
        row, number, count = (int(part) for part in span)
        answer, tile = self.preparation.answer, None
        if self.copies is not None:
            value = takes.reduced(value, self.copies, self.preparation.shelf)
        if self.side is not None:
            value, tile = takes.tiled(value, number, self.side)
            truth = truth if truth is None or tile is None else answer.changed(truth, tile)
        whole = None if truth is None else self._mosaic(takes, value, truth, row)
        if whole is not None:
            return *whole, tile
        suits = None if truth is None else partial(answer.suits, truth)
        found, change = takes.changed(value, self.preparation.config, self._rng(row), suits)
        if self.window is not None:
            found = takes.part(found, number, count, self.window)
        return found, truth if change is None or truth is None else answer.changed(truth, change), tile

    def _mosaic(self, takes: Input, value: Any, truth: Any, row: int) -> tuple[Any, Any] | None:
        """Return a row's value and truth among those of three others of train, where one is drawn; None: it is not."""
        rng = np.random.default_rng([self.preparation.seed, int(self.epoch), row, MOSAIC])
        if self.augmentation is None or rng.random() >= self.augmentation.mosaic:
            return None
        answer, known = self.preparation.answer, np.unique(self.spans[:, 0])
        others = self.rows[known[rng.integers(len(known), size=3)].tolist()]
        role = next(role.name for role in self.task.shown if role.takes is takes)
        values, truths = [value, *others[role]], [truth, *others[self.task.truth.name]]
        suits = [partial(answer.suits, one) for one in truths]
        found, mosaic = takes.together(values, self.preparation.config, rng, suits)
        return found, answer.together(truths, mosaic)

    def _rng(self, index: int) -> np.random.Generator | None:
        if self.augmentation is None:
            return None
        return np.random.default_rng([self.preparation.seed, int(self.epoch), index])
