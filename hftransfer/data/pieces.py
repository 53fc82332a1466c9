"""Parts of a stream, and which of their rows are used and held out: by hashes of their numbers alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import IterableDataset

from hftransfer.data.grouping import names_of
from hftransfer.data.splits import hashes
from hftransfer.data.tables import readable

BATCH = 1000
EVERY = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Piece:
    """One file (shard) of a stream, its rows numbered from 0, so that it is the same in whatever process reads it."""

    name: str
    rows: IterableDataset

    def batches(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Yield the numbers and the raw columns of the rows, a batch at a time."""
        start = 0
        with readable(self.name):
            for table in self.rows.with_format("arrow").iter(batch_size=BATCH):
                yield np.arange(start, start + table.num_rows), table
                start += table.num_rows


@dataclass(frozen=True)
class Draw:
    """Which rows are used, and in which order they are held out: hashes of a row's number, or of its group."""

    seed: int
    group: str | None = None
    highest: np.uint64 = EVERY  # rows whose hash is above it are over data.max_rows

    def number(self, piece: Piece, numbers: np.ndarray) -> np.ndarray:
        """Return a hash of each row."""
        return hashes(numbers, self.seed, "row", piece.name)

    def used(self, piece: Piece, numbers: np.ndarray) -> np.ndarray:
        """Return which rows are among data.max_rows."""
        return self.number(piece, numbers) <= self.highest

    def order(self, piece: Piece, numbers: np.ndarray, table: pa.Table) -> np.ndarray:
        """Return a hash that rows of one group share: the lowest are held out."""
        alone = hashes(numbers, self.seed, "order", piece.name)
        if self.group is None:
            return alone
        values = names_of(table[self.group]).dictionary_encode()
        keys = [f"{self.seed}\0{value}".encode() for value in values.dictionary.to_pylist()]
        orders = np.frombuffer(b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys), "<u8")
        grouped = values.indices.is_valid().to_numpy(zero_copy_only=False)
        alone[grouped] = orders[values.indices.drop_null().to_numpy()]
        return alone
