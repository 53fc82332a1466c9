"""Data sets larger than the disk: one pass checks and counts the rows and spools validation and test to files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features, IterableDataset

from hftransfer.config import DataConfig
from hftransfer.data import leakage
from hftransfer.data.archives import scratch
from hftransfer.data.cleaning import (
    BadRows,
    Reading,
    bad_rows,
    canonical,
    image_bytes,
    plan,
    previewable,
    require_columns,
)
from hftransfer.data.fingerprint import ContentHash, fingerprint
from hftransfer.data.labels import Tally, counted, encode, missing_names, refuse_unseen, vocabulary
from hftransfer.data.result import Data
from hftransfer.data.sources import Split, readable
from hftransfer.data.splits import Lowest, hashes, too_few
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Labels, Task

BATCH = 1000
MOST_HELD_OUT = 10_000  # rows of a cut split: enough for an interval of +-1 point, small enough for any disk
SHUFFLED_ROWS, SHUFFLED_IMAGES = 10_000, 1_000  # in memory; an encoded image is some hundred kB
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
        values = table[self.group].combine_chunks().dictionary_encode()
        keys = [f"{self.seed}\0{value}".encode() for value in values.dictionary.to_pylist()]
        orders = np.frombuffer(b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys), "<u8")
        grouped = values.indices.is_valid().to_numpy(zero_copy_only=False)
        alone[grouped] = orders[values.indices.drop_null().to_numpy()]
        return alone


@dataclass
class Pass:
    """What one reading of a split finds out; its rows, or those that may be held out, go to a file."""

    use: str
    path: Path
    tally: Tally
    report: BadRows
    content: ContentHash
    lowest: Lowest
    labelled: bool = False
    prints: list[np.ndarray] = field(default_factory=list)  # of the inputs of usable rows
    bad: dict[str, np.ndarray] = field(default_factory=dict)  # by piece: the numbers of rows that cannot be used

    def spooled(self, low: np.uint64 | None = None, high: np.uint64 = EVERY) -> pa.Table:
        """Return the rows in the file whose order lies above `low` and not above `high`, with their prints."""
        table = pa.ipc.open_stream(pa.memory_map(str(self.path))).read_all()
        order = table["order"]
        wanted = pc.less_equal(order, pa.scalar(high, pa.uint64()))
        if low is not None:
            wanted = pc.and_(wanted, pc.greater(order, pa.scalar(low, pa.uint64())))
        return table.drop_columns(["order"]).filter(wanted)


@dataclass(frozen=True)
class Rest:
    """The rows of a stream that are left to train on, and how they are read."""

    draw: Draw
    held_out: np.uint64 | None  # rows up to this order are in another split
    features: Features
    reading: Reading
    names: tuple[str, ...]
    bad: dict[str, np.ndarray]

    def of(self, piece: Piece, numbers: np.ndarray, table: pa.Table) -> pa.Table:
        """Return the rows of a batch that are train's, with labels as indexes."""
        keep = self.draw.used(piece, numbers) & ~np.isin(numbers, self.bad[piece.name])
        if self.held_out is not None:
            keep &= self.draw.order(piece, numbers, table) > self.held_out
        rows = _canonical(piece, numbers[keep], table.filter(pa.array(keep)), self.features, self.reading)
        return _encoded(rows, self.reading, self.names)


def stream(
    picked: Mapping[str, Split],
    config: DataConfig,
    task: Task,
    seed: int,
    work_dir: Path | None,
    warnings: list[str],
    say: Callable[[str], None],
) -> Data:
    """Return the data of a source that is read from front to back: train as a stream, the other splits on disk.

    Memory is bounded by the buffers above. Train's fingerprint is that of the whole stream that it is cut from.
    """
    features = {use: _features(split.rows) for use, split in picked.items()}
    choices, reading, more = plan(features["train"], *_preview(picked["train"].rows, features["train"]), config, task)
    warnings += more
    pieces = {use: _pieces(use, split, features[use], reading, config.group) for use, split in picked.items()}
    draw = Draw(seed, config.group)
    if config.max_rows is not None:
        say("counting rows")
        draw = replace(draw, highest=_highest(pieces, config.max_rows, draw))

    folder = scratch(work_dir) / "spooled"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".spooling-") as temporary:
        passes: dict[str, Pass] = {}
        for use in sorted(pieces, key=lambda use: use == "train"):  # train last: by then it is known what it must give
            say(f"reading {use}")
            here = replace(reading, folder=picked[use].folder)
            found = _read(use, pieces[use], features[use], here, draw, _asked(config, passes, use), Path(temporary))
            if use != "train" and not found.labelled:
                warnings.append(f"the labels of {use} are hidden, so it is not used as {use}")
            else:
                warnings += found.report.warnings(config.bad_rows)
                passes[use] = found
        train = passes["train"]
        column = reading.columns[reading.label]
        names = vocabulary(train.tally, features["train"][column], reading.kind, column, features["train"])
        ranges = _ranges(train, _asked(config, passes, "train"))
        spooled = {use: passes[use].spooled() if use in passes else train.spooled(*ranges[use]) for use in HELD_OUT}
        prints = {use: rows["print"].to_numpy() for use, rows in spooled.items()}
        spooled = {use: rows.drop_columns(["print"]) for use, rows in spooled.items()}
        for use in [use for use in HELD_OUT if use in passes and reading.kind != "regression"]:
            refuse_unseen(_joined(spooled[use][reading.label]), _joined(spooled[use]["row_id"]), names, use)
        held_out = {use: _saved(use, rows, reading, names, folder, Path(temporary)) for use, rows in spooled.items()}

    cut = {use: held_out[use] for use in ranges}
    warnings += [
        f"no {use} split: {len(rows)} rows of {train.tally.rows} cut from train, "
        + (f"whole groups of `{config.group}`" if config.group else "at random")
        + f", seed {seed}"
        for use, rows in cut.items()
    ]
    labels = _remaining(train.tally, reading, names, cut)
    warnings += _absent(names, labels, held_out, reading)
    leaks = None
    if train.tally.rows <= leakage.MOST_PRINTS:
        shared = leakage.shared_with_stream(prints, np.concatenate(train.prints), cut)
        row_ids = {use: rows["row_id"] for use, rows in held_out.items()}
        leaks, more = leakage.report(shared, row_ids, reading.roles)
        warnings += more
    last = max((high for _, high in ranges.values()), default=None)
    here = replace(reading, folder=picked["train"].folder)
    rest = Rest(draw, last, features["train"], here, names, train.bad)
    return Data(
        splits={"train": _stream_of(pieces["train"], rest, seed), **held_out},
        labels=labels,
        columns=choices,
        fingerprints={"train": train.content.hexdigest(names)}
        | {use: fingerprint(rows, reading.roles, names) for use, rows in held_out.items()},
        warnings=tuple(warnings),
        sizes={"train": train.tally.rows - sum(map(len, cut.values()))}
        | {use: len(rows) for use, rows in held_out.items()},
        leakage=leaks,
    )


HELD_OUT = ("validation", "test")


def _features(rows: IterableDataset) -> Features:
    if rows.features is not None:
        return rows.features
    first = next(iter(rows.with_format("arrow").iter(batch_size=BATCH)))
    return Features.from_arrow_schema(first.schema)


def _preview(rows: IterableDataset, features: Features) -> tuple[pa.Table, bool]:
    """Return the first rows, and whether these are all."""
    columns = previewable(features)
    with readable("the stream"):
        first = next(iter(rows.with_format("arrow").iter(batch_size=BATCH)), None)
    if first is None:
        raise UserError("rows are needed", "the stream is empty", "Check data.source.")
    return first.select(columns), first.num_rows < BATCH


def _pieces(use: str, split: Split, features: Features, reading: Reading, group: str | None) -> list[Piece]:
    if use != "train" and reading.columns[reading.label] not in features:
        return []  # read as a split whose labels are hidden
    columns = require_columns(use, features, reading)
    if group is not None and use == "train":
        if group not in features:
            raise UserError("data.group must name a column", f"found {group!r}", hint(group, features))
        columns = [*columns, group] if group not in columns else columns
    rows, count = split.rows.select_columns(columns), split.rows.num_shards
    if count == 1:
        return [Piece(split.name, rows)]
    return [Piece(f"{split.name}-{i:05}", rows.shard(num_shards=count, index=i)) for i in range(count)]


def _highest(pieces: Mapping[str, Sequence[Piece]], most: int, draw: Draw) -> np.uint64:
    lowest = Lowest(most)
    for piece in [piece for found in pieces.values() for piece in found]:
        for numbers, _ in piece.batches():
            lowest.add(draw.number(piece, numbers))
    return np.uint64(lowest.values()[-1])


def _asked(config: DataConfig, present: Mapping[str, Any], use: str) -> dict[str, int | float]:
    """Return the sizes of the splits that must be cut out of train, test first."""
    sizes = {"test": config.test_size, "validation": config.validation_size}
    return {name: size for name, size in sizes.items() if use == "train" and name not in present}


def _read(
    use: str,
    pieces: Sequence[Piece],
    features: Features,
    reading: Reading,
    draw: Draw,
    asked: Mapping[str, int | float],
    folder: Path,
) -> Pass:
    """Read a split once. A split of the source goes to the file whole; of train, the rows that may yet be held out."""
    whole = use != "train"
    most = sum(size if isinstance(size, int) else MOST_HELD_OUT for size in asked.values()) + 1
    found = Pass(use, folder / f"{use}.raw", Tally(), BadRows(use), ContentHash(reading.roles), Lowest(most))
    schema = reading.features(encoded=False).arrow_schema.remove_metadata()
    for name in ("order", "print"):
        schema = schema.append(pa.field(name, pa.uint64()))
    with pa.OSFile(str(found.path), "wb") as sink, pa.ipc.new_stream(sink, schema) as file:
        for piece in pieces:
            bad = []
            for numbers, table in piece.batches():
                used = draw.used(piece, numbers)
                numbers, table = numbers[used], table.filter(pa.array(used))
                rows = _canonical(piece, numbers, table, features, reading)
                reasons, pixels, _ = bad_rows(rows, reading)
                prints = leakage.prints(rows, reading.roles, pixels)
                found.report.add(rows, reasons, reading)
                found.labelled = found.labelled or rows[reading.label].null_count < rows.num_rows
                good = np.delete(np.arange(rows.num_rows), list(reasons))
                bad.append(numbers[list(reasons)])
                rows, prints = rows.take(pa.array(good)), prints[good]
                found.tally.add(_joined(rows[reading.label]))
                found.content.add(rows)
                order = np.zeros(len(good), np.uint64)
                if not whole:
                    if found.tally.rows <= leakage.MOST_PRINTS:
                        found.prints.append(prints)
                    order = draw.order(piece, numbers, table)[good]
                    found.lowest.add(order)
                if whole or asked:
                    near = pa.array(order <= found.lowest.limit)
                    kept = (
                        rows.append_column("order", pa.array(order))
                        .append_column("print", pa.array(prints))
                        .filter(near)
                    )
                    file.write_table(_embedded(kept, reading).cast(schema))
            found.bad[piece.name] = np.concatenate(bad) if bad else np.empty(0, np.int64)
    return found


def _canonical(piece: Piece, numbers: np.ndarray, table: pa.Table, features: Features, reading: Reading) -> pa.Table:
    row_ids = pc.binary_join_element_wise(piece.name, pa.array(numbers).cast(pa.string()), ":")
    return canonical(table, features, row_ids, reading)


def _embedded(table: pa.Table, reading: Reading) -> pa.Table:
    """Put the bytes of images that lie elsewhere than on this machine into the rows that stay on it."""
    for role in [role for role in reading.roles if role.kind == "image"]:
        values = table[role.name].to_pylist()
        for value in values:
            if "://" in (value["path"] or ""):
                value["bytes"] = image_bytes(value)
        images = pa.array(values, table[role.name].type)
        table = table.set_column(table.column_names.index(role.name), role.name, images)
    return table


def _ranges(train: Pass, asked: Mapping[str, int | float]) -> dict[str, tuple[np.uint64 | None, np.uint64]]:
    """Return between which orders (above the first, up to the second) the rows of each cut split lie."""
    rows, left = train.tally.rows, train.lowest.values()
    numbers = {use: _number(size, rows) for use, size in asked.items()}
    ranges: dict[str, tuple[np.uint64 | None, np.uint64]] = {}
    low = None
    for use, number in numbers.items():
        if len(left) <= number:
            raise too_few(rows, numbers)
        high = np.uint64(left[number - 1])
        ranges[use] = (low, high)
        low, left = high, left[left > high]
    if ranges and not len(left):
        raise too_few(rows, numbers)
    return ranges


def _number(size: int | float, rows: int) -> int:
    return min(size if isinstance(size, int) else max(1, round(size * rows)), MOST_HELD_OUT)


def _encoded(table: pa.Table, reading: Reading, names: Sequence[str]) -> pa.Table:
    labels = encode(_joined(table[reading.label]), reading.kind, names)
    table = table.set_column(table.column_names.index(reading.label), reading.label, labels)
    return table.cast(reading.features().arrow_schema)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _saved(use: str, rows: pa.Table, reading: Reading, names: Sequence[str], folder: Path, temporary: Path) -> Dataset:
    """Write a split under the name of its content, whole or not at all, and return it as mapped from there."""
    path, info = temporary / f"{use}.arrow", DatasetInfo(features=reading.features())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, reading.features().arrow_schema) as file:
        for batch in rows.to_batches():
            file.write_table(_encoded(pa.Table.from_batches([batch]), reading, names))
    content = fingerprint(Dataset.from_file(str(path), info=info), reading.roles, names)
    final = folder / f"{use}-{content[:16]}.arrow"
    os.replace(path, final)
    return Dataset.from_file(str(final), info=info)


def _remaining(tally: Tally, reading: Reading, names: Sequence[str], cut: Mapping[str, Dataset]) -> Labels:
    if reading.kind == "regression":
        return Labels(reading.kind)
    counts = np.array([tally.counts[name] for name in names])
    for rows in cut.values():
        counts -= counted(reading.kind, names, _answers(rows, reading)).counts
    return Labels(reading.kind, tuple(names), tuple(counts.tolist()))


def _absent(names: Sequence[str], labels: Labels, held_out: Mapping[str, Dataset], reading: Reading) -> list[str]:
    warnings = missing_names("train", names, pa.array(np.flatnonzero(labels.counts)))
    for use, rows in held_out.items():
        warnings += missing_names(use, names, _answers(rows, reading))
    return warnings


def _answers(rows: Dataset, reading: Reading) -> pa.Array:
    return _joined(rows.select_columns([reading.label]).with_format("arrow")[:][reading.label])


def _stream_of(pieces: Sequence[Piece], rest: Rest, seed: int) -> IterableDataset:
    images = any(role.kind == "image" for role in rest.reading.roles)
    return IterableDataset.from_generator(
        _train_rows, features=rest.reading.features(), gen_kwargs={"pieces": list(pieces), "rest": rest}
    ).shuffle(seed=seed, buffer_size=SHUFFLED_IMAGES if images else SHUFFLED_ROWS)


def _train_rows(pieces: list[Piece], rest: Rest) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        for numbers, table in piece.batches():
            yield from rest.of(piece, numbers, table).to_pylist()
