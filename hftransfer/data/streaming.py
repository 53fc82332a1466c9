"""Data sets larger than the disk: one pass checks and counts the rows and spools validation and test to files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features, IterableDataset

from hftransfer.answers.base import Answer, Learner
from hftransfer.config import DataConfig
from hftransfer.data import grouping, leakage
from hftransfer.data.archives import scratch
from hftransfer.data.cleaning import (
    BadRows,
    Reading,
    canonical,
    inspect,
    joined,
    learnt_of,
    plan,
    previewable,
    require_columns,
)
from hftransfer.data.fingerprint import ContentHash, fingerprint
from hftransfer.data.named_splits import Picked, Split, hidden
from hftransfer.data.pieces import BATCH, EVERY, Draw, Piece
from hftransfer.data.result import Data
from hftransfer.data.splits import Lowest, too_few
from hftransfer.data.tables import readable
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Role, Task

MOST_HELD_OUT = 10_000  # rows of a cut split: enough for an interval of +-1 point, small enough for any disk


@dataclass
class Pass:
    """What one reading of a split finds out; its rows, or those that may be held out, go to a file."""

    use: str
    path: Path
    learner: Learner
    report: BadRows
    content: ContentHash
    lowest: Lowest
    labelled: bool = False
    seen: dict[str, Any] = field(default_factory=dict)  # by role
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
    answer: Answer[Any]
    bad: dict[str, np.ndarray]

    def of(self, piece: Piece, numbers: np.ndarray, table: pa.Table) -> pa.Table:
        """Return the rows of a batch that are train's, as they are trained on."""
        keep = self.draw.used(piece, numbers) & ~np.isin(numbers, self.bad[piece.name])
        if self.held_out is not None:
            keep &= self.draw.order(piece, numbers, table) > self.held_out
        rows = _canonical(piece, numbers[keep], table.filter(pa.array(keep)), self.features, self.reading)
        return _encoded(rows, self.reading, self.answer)


def stream(
    source: Picked,
    config: DataConfig,
    task: Task,
    seed: int,
    work_dir: Path | None,
    say: Callable[[str], None],
) -> Data:
    """Return the data of a source that is read from front to back: train as a stream, the other splits on disk.

    Memory is bounded by the buffers above. Train's fingerprint is that of the whole stream that it is cut from.
    """
    picked, warnings, guesses = source.splits, [*source.warnings], [*source.guesses]
    features = {use: _features(split.rows) for use, split in picked.items()}
    choices, reading, more, formed = plan(
        features["train"], *_preview(picked["train"].rows, features["train"]), config, task
    )
    warnings += more
    guesses += formed
    pieces = {use: _pieces(use, split, features[use], reading, config.group or None) for use, split in picked.items()}
    draw = Draw(seed, config.group or None)
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
                warnings.append(hidden(use, picked[use], reading.columns[reading.truth]))
            else:
                warnings += found.report.warnings(config.bad_rows)
                passes[use] = found
        train = passes["train"]
        settled, more = learnt_of({use: one.seen for use, one in passes.items()}, reading)
        warnings += more
        learnt = train.learner.learn()
        guesses += learnt.guessed()
        ranges = _ranges(train, _asked(config, passes, "train"))
        spooled = {use: passes[use].spooled() if use in passes else train.spooled(*ranges[use]) for use in HELD_OUT}
        prints = {use: rows["print"].to_numpy() for use, rows in spooled.items()}
        groups = {use: rows[GROUP].to_pylist() for use, rows in spooled.items() if GROUP in rows.column_names}
        extra = {"print", GROUP}
        spooled = {use: rows.drop_columns([*extra & {*rows.column_names}]) for use, rows in spooled.items()}
        for use in [use for use in HELD_OUT if use in passes]:
            learnt.refuse_unseen(_joined(spooled[use][reading.truth]), _joined(spooled[use]["row_id"]), use)
        held_out = {use: _saved(use, rows, reading, learnt, folder, Path(temporary)) for use, rows in spooled.items()}

    cut = {use: held_out[use] for use in ranges}
    how = f"whole groups of `{config.group}`" if config.group else "at random"
    warnings += [
        f"no {use} split: {len(rows)} rows of {train.learner.rows} cut from train, {how}, seed {seed}"
        for use, rows in cut.items()
    ]
    answer = learnt
    for rows in cut.values():
        answer = answer.less(_truth(rows, reading))
    warnings += answer.missing("train")
    for use, rows in held_out.items():
        warnings += learnt.missing(use, _truth(rows, reading))
    counts = None
    if train.learner.rows <= leakage.MOST_PRINTS:
        shared = leakage.shared_with_stream(prints, np.concatenate(train.prints), cut)
        row_ids = {use: rows["row_id"] for use, rows in held_out.items()}
        counts, leaks = leakage.report(shared, row_ids, reading.shown)
        warnings += leakage.sentences(leaks)
    last = max((high for _, high in ranges.values()), default=None)
    here = replace(reading, folder=picked["train"].folder)
    rest = Rest(draw, last, features["train"], here, learnt, train.bad)
    return Data(
        splits={"train": _stream_of(pieces["train"], rest, seed), **held_out},
        answer=answer,
        columns=choices,
        fingerprints={"train": train.content.hexdigest(learnt.names)}
        | {use: fingerprint(rows, reading.roles, learnt.names) for use, rows in held_out.items()},
        warnings=tuple(warnings),
        guesses=tuple(guesses),
        sizes={"train": train.learner.rows - sum(map(len, cut.values()))}
        | {use: len(rows) for use, rows in held_out.items()},
        leakage=counts,
        groups=groups,
        settled=settled,
    )


HELD_OUT = ("validation", "test")
GROUP = " group"  # no role is called so


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
    if use != "train" and reading.columns[reading.truth] not in features:
        return []  # read as a split whose labels are hidden
    columns = require_columns(use, features, reading)
    if group is not None and group not in features and use == "train":
        raise UserError("data.group must name a column", f"found {group!r}", hint(group, features))
    if group is not None and group in features and group not in columns:
        columns = [*columns, group]
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
    learner = reading.learner(features)
    found = Pass(use, folder / f"{use}.raw", learner, BadRows(use), ContentHash(reading.roles), Lowest(most))
    schema = reading.features(encoded=False).arrow_schema.remove_metadata()
    for name in ("order", "print"):
        schema = schema.append(pa.field(name, pa.uint64()))
    grouped = reading.config.group if reading.config.group in features else None
    if grouped is not None:
        schema = schema.append(pa.field(GROUP, pa.string()))
    with pa.OSFile(str(found.path), "wb") as sink, pa.ipc.new_stream(sink, schema) as file:
        for piece in pieces:
            bad = []
            for numbers, table in piece.batches():
                used = draw.used(piece, numbers)
                numbers, table = numbers[used], table.filter(pa.array(used))
                rows = _canonical(piece, numbers, table, features, reading)
                looked = inspect(rows, reading)
                prints = leakage.prints(looked.prints)
                found.report.add(rows, looked.bad, reading)
                found.seen = joined(found.seen, looked.seen)
                found.labelled = found.labelled or rows[reading.truth].null_count < rows.num_rows
                good = np.delete(np.arange(rows.num_rows), list(looked.bad))
                bad.append(numbers[list(looked.bad)])
                rows, prints = rows.take(pa.array(good)), prints[good]
                found.learner.add(_joined(rows[reading.truth]))
                found.content.add(rows)
                order = np.zeros(len(good), np.uint64)
                if not whole:
                    if found.learner.rows <= leakage.MOST_PRINTS:
                        found.prints.append(prints)
                    order = draw.order(piece, numbers, table)[good]
                    found.lowest.add(order)
                if whole or asked:
                    near = pa.array(order <= found.lowest.limit)
                    kept = rows.append_column("order", pa.array(order)).append_column("print", pa.array(prints))
                    if grouped is not None:
                        kept = kept.append_column(GROUP, grouping.of_stream(table[grouped], rows, good))
                    kept = kept.filter(near)
                    file.write_table(embedded(kept, reading.shown).cast(schema))
            found.bad[piece.name] = np.concatenate(bad) if bad else np.empty(0, np.int64)
    return found


def _canonical(piece: Piece, numbers: np.ndarray, table: pa.Table, features: Features, reading: Reading) -> pa.Table:
    row_ids = pc.binary_join_element_wise(piece.name, pa.array(numbers).cast(pa.string()), ":")
    return canonical(table, features, row_ids, reading)


def embedded(table: pa.Table, roles: Sequence[Role]) -> pa.Table:
    """Put what lies elsewhere, such as pictures, into canonical rows that are kept."""
    for role in [role for role in roles if role.takes is not None and role.takes.lazy]:
        assert role.takes is not None
        values = pa.array(role.takes.embedded(table[role.name].to_pylist()), table[role.name].type)
        table = table.set_column(table.column_names.index(role.name), role.name, values)
    return table


def to_keep(table: pa.Table, roles: Sequence[Role], config: DataConfig) -> pa.Table:
    """Return canonical rows that stay in a run's folder: all of an input in them, and nothing beside it."""
    for role in [role for role in roles if role.takes is not None and role.takes.lazy]:
        assert role.takes is not None
        place = table.schema.get_field_index(role.name)
        field = table.schema.field(place)
        values = pa.array(role.takes.kept(table[role.name].to_pylist(), config), field.type)
        table = table.set_column(place, field, values)
    return embedded(datasets.table.embed_table_storage(table), roles)


def _ranges(train: Pass, asked: Mapping[str, int | float]) -> dict[str, tuple[np.uint64 | None, np.uint64]]:
    """Return between which orders (above the first, up to the second) the rows of each cut split lie."""
    rows, left = train.learner.rows, train.lowest.values()
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


def _encoded(table: pa.Table, reading: Reading, answer: Answer[Any]) -> pa.Table:
    truth = answer.encode(_joined(table[reading.truth]))
    table = table.set_column(table.column_names.index(reading.truth), reading.truth, truth)
    return table.cast(reading.features().arrow_schema)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _saved(use: str, rows: pa.Table, reading: Reading, answer: Answer[Any], folder: Path, temporary: Path) -> Dataset:
    """Write a split under the name of its content, whole or not at all, and return it as mapped from there."""
    path, info = temporary / f"{use}.arrow", DatasetInfo(features=reading.features())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, reading.features().arrow_schema) as file:
        for batch in rows.to_batches():
            file.write_table(_encoded(pa.Table.from_batches([batch]), reading, answer))
    content = fingerprint(Dataset.from_file(str(path), info=info), reading.roles, answer.names)
    final = folder / f"{use}-{content[:16]}.arrow"
    os.replace(path, final)
    return Dataset.from_file(str(final), info=info)


def _truth(rows: Dataset, reading: Reading) -> pa.Array:
    return _joined(rows.select_columns([reading.truth]).with_format("arrow")[:][reading.truth])


def _stream_of(pieces: Sequence[Piece], rest: Rest, seed: int) -> IterableDataset:
    buffer = min(role.takes.buffer for role in rest.reading.shown if role.takes is not None)
    return IterableDataset.from_generator(
        _train_rows, features=rest.reading.features(), gen_kwargs={"pieces": list(pieces), "rest": rest}
    ).shuffle(seed=seed, buffer_size=buffer)


def _train_rows(pieces: list[Piece], rest: Rest) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        for numbers, table in piece.batches():
            yield from rest.of(piece, numbers, table).to_pylist()
