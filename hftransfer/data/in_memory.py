"""Rows that are on disk already: checked as whole columns, which stay where `datasets` mapped them, and split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features
from datasets.fingerprint import generate_random_fingerprint

from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers.base import Answer
from hftransfer.config import DataConfig
from hftransfer.data import added, corrections, grouping, hygiene, leakage, slicing
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
from hftransfer.data.columns import PREVIEW_ROWS
from hftransfer.data.fingerprint import fingerprint
from hftransfer.data.gathering import beside_one_another, gathered
from hftransfer.data.named_splits import SPLITS, Picked, Split, hidden
from hftransfer.data.result import Data
from hftransfer.data.splits import cut, sample
from hftransfer.errors import UserError
from hftransfer.tasks.base import Task

SLICE = 10_000  # rows that are looked at together: looking copies them into memory


def read(
    source: Picked,
    config: DataConfig,
    task: Task,
    seed: int,
    say: Callable[[str], None],
    slices: Sequence[str] = (),
    catalogue: Catalogue | None = None,
) -> Data:
    """Return the data of a source whose rows can be reached at random, with the values of columns to slice by.

    `catalogue` is what answers are chosen from, where they are.
    """
    picked, warnings, guesses = source.splits, [*source.warnings], [*source.guesses]
    for use, split in picked.items():
        if not len(split.rows):
            raise UserError("rows are needed", f"{use} (`{split.name}`) is empty", "Check data.source.")
    kept = sample({use: len(split.rows) for use, split in picked.items()}, config.max_rows, seed)
    raw = {use: _select(split.rows, kept[use]) for use, split in picked.items()}
    if task.gathers and task.truth.name not in config.column_names:
        for use in picked:
            raw[use], told = beside_one_another(raw[use], task.truth.words)
            guesses += [] if told is None else [f"{use}: {told}"]
    choices, reading, more, formed = plan(raw["train"].features, *_preview(raw["train"]), config, task)
    if task.gathers:
        of_one, told_by = reading.columns[task.shown[0].name], reading.columns[reading.truth]
        for use in picked:
            raw[use], kept[use], told = gathered(raw[use], kept[use], of_one, told_by)
            formed += [] if told is None else [f"{use}: {told}"]
    features = raw["train"].features
    if catalogue is not None:
        reading = replace(reading, answer=reading.answer.among(catalogue))
    warnings += more
    guesses += formed
    tested = "test" if "test" in raw else "train"
    slicing.require(slices, {tested: raw[tested].features}, reading.columns)

    say("checking every row")
    tables: dict[str, pa.Table] = {}
    for use, split in picked.items():
        table = _table(use, raw[use], kept[use], split, reading)
        if table is not None:
            tables[use] = table
        else:  # never train's, of which `_table` says so itself
            warnings.append(hidden(use, split, reading.columns[reading.truth]))
    own = tables["train"].num_rows
    if config.added:
        tables["train"] = added.joined(tables["train"], config.added, reading)
    good, prints, sketches, seen = {}, {}, {}, {}
    for use, table in tables.items():
        good[use], prints[use], sketches[use], seen[use], more = _good_rows(use, table, reading, config)
        warnings += more
    settled, more = learnt_of(seen, reading)
    warnings += more
    learnt, truth = _encode(tables, good, reading, features)
    guesses += learnt.guessed()
    warnings += _suspicions(tables["train"].take(pa.array(good["train"])), learnt, reading)

    say("splitting")
    places = dict(good)
    if len(tables) < len(SPLITS):
        groups = grouping.numbered(raw["train"], config.group or None)
        mine, others = added.apart(good["train"], own)
        cuts, more = _cut(config, tables, mine, truth["train"], groups, learnt, seed)
        places |= cuts | {"train": np.concatenate([cuts["train"], others])}
        warnings += more
    if config.group:
        warnings += _shared_groups({use: raw[use].select(_of(raw[use], good[use])) for use in tables}, config.group)

    origin = {use: use if use in tables else "train" for use in SPLITS}
    if config.corrections:
        mended = corrections.read(config.corrections)
        row_ids = {use: table["row_id"] for use, table in tables.items()}
        truth, places, more = corrections.applied(mended, learnt, row_ids, truth, places, origin)
        warnings += more

    say("fingerprinting")
    whole = {use: _dataset(table, truth[use], reading) for use, table in tables.items()}
    splits = {use: whole[origin[use]].select(places[use]) for use in SPLITS}
    named = (
        {use: grouping.named(raw[use], config.group, tables[use]["row_id"]) for use in tables} if config.group else {}
    )
    grouped = {use: [names[place] for place in places[use]] for use in SPLITS if (names := named.get(origin[use]))}
    sliced = {
        use: slicing.values_of(raw[origin[use]].select(_of(raw[origin[use]], places[use])), slices)
        for use in SPLITS
        if slices and (all(column in raw[origin[use]].features for column in slices))
    }
    known = {use: truth[origin[use]].take(pa.array(places[use])) for use in SPLITS}
    for use in SPLITS:
        warnings += learnt.missing(use, known[use])
    shown = {use: prints[origin[use]][places[use]] for use in SPLITS}
    named_rows = {use: rows["row_id"] for use, rows in splits.items()}
    exact = leakage.shared(shown)
    counts, leaks = leakage.report(exact, named_rows, reading.shown)
    say("looking for near copies")
    sketched = {use: _taken(sketches[origin[use]], places[use]) for use in SPLITS}
    cleanness, near, more = hygiene.inspect(sketched, shown, exact, known, named_rows, reading.shown)
    warnings += [*leakage.sentences([*leaks, *near]), *more]
    if learnt.contradicts:
        torn, more = leakage.contradictions(shown["train"], known["train"], named_rows["train"], reading.shown)
        cleanness = replace(cleanness, contradicting=torn)
        warnings += more
    return Data(
        splits=dict(splits),
        answer=learnt.counted(known["train"]),
        columns=choices,
        fingerprints={use: fingerprint(rows, reading.roles, learnt.names) for use, rows in splits.items()},
        warnings=tuple(warnings),
        guesses=tuple(guesses),
        sizes={use: len(rows) for use, rows in splits.items()},
        leakage=counts,
        hygiene=cleanness,
        groups=grouped,
        slices=sliced,
        settled=settled,
        added=int((places["train"] >= own).sum()),
    )


def _select(rows: Dataset, numbers: np.ndarray) -> Dataset:
    return rows if len(numbers) == len(rows) else rows.select(numbers)


def _of(rows: Dataset, places: np.ndarray) -> np.ndarray:
    """Return the places that are rows of the source: what was added lies behind them."""
    return places[places < len(rows)]


def _preview(rows: Dataset) -> tuple[pa.Table, bool]:
    """Return rows spread over the data set, which may be sorted by label, and whether these are all."""
    spread = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), PREVIEW_ROWS)).astype(np.int64))
    shown = previewable(rows.features)
    # of no columns `datasets` cannot take rows
    values = _select(rows.select_columns(shown), spread).with_format("arrow")[:] if shown else pa.table({})
    return values, len(spread) == len(rows)


def _table(use: str, rows: Dataset, numbers: np.ndarray, split: Split, reading: Reading) -> pa.Table | None:
    """Return a split's canonical columns with the truth as it is read; None when it has none at all."""
    if use != "train" and reading.columns[reading.truth] not in rows.features:
        return None
    columns = require_columns(use, rows.features, reading)
    table = rows.select_columns(columns).with_format("arrow")[:]
    row_ids = pc.binary_join_element_wise(split.name, pa.array(numbers).cast(pa.string()), ":")
    table = canonical(table, rows.features, row_ids, replace(reading, folder=split.folder))
    truth = table[reading.truth]
    return table if use == "train" or truth.null_count < len(truth) else None


def _taken(sketches: Any, places: np.ndarray) -> Any:
    return [sketches[place] for place in places] if isinstance(sketches, list) else sketches[places]


def _good_rows(
    use: str, table: pa.Table, reading: Reading, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, Any, dict[str, Any], list[str]]:
    """Return the places of the rows that can be used, prints and sketches of all, what was seen, and the warnings."""
    report = BadRows(use)
    found: dict[int, str] = {}
    prints = [np.empty(0, leakage.PRINT)]
    sketches = []
    seen: dict[str, Any] = {}
    for start in range(0, table.num_rows, SLICE):
        part = table.slice(start, SLICE)
        looked = inspect(part, reading)
        prints.append(leakage.prints(looked.prints))
        sketches.append(hygiene.sketches(looked.sketches, reading.shown))
        report.add(part, looked.bad, reading)
        seen = joined(seen, looked.seen)
        found |= {start + place: reason for place, reason in looked.bad.items()}
    good = np.delete(np.arange(table.num_rows), list(found))
    return good, np.concatenate(prints), hygiene.joined(sketches), seen, report.warnings(config.bad_rows)


def _encode(
    tables: Mapping[str, pa.Table], good: Mapping[str, np.ndarray], reading: Reading, features: Features
) -> tuple[Answer[Any], dict[str, pa.Array]]:
    """Return the answer with what train taught, and the encoded truth of all rows."""
    read = {use: _joined(table[reading.truth]) for use, table in tables.items()}
    usable = {use: found.take(pa.array(good[use])) for use, found in read.items()}
    learner = reading.learner(features)
    learner.add(usable["train"])
    learnt = learner.learn()
    for use in [use for use in tables if use != "train"]:
        learnt.refuse_unseen(usable[use], tables[use]["row_id"].take(pa.array(good[use])), use)
    return learnt, {use: learnt.encode(found) for use, found in read.items()}


def _suspicions(table: pa.Table, answer: Answer[Any], reading: Reading) -> list[str]:
    """Return what the truth of train beside inputs of its own type makes one wonder."""
    truth = table[reading.truth]
    inputs = {role.name: table[role.name] for role in reading.shown if table[role.name].type == truth.type}
    return answer.suspicions(truth, inputs, reading.columns)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _cut(
    config: DataConfig,
    present: Collection[str],
    good: np.ndarray,
    truth: pa.Array,
    groups: np.ndarray | None,
    answer: Answer[Any],
    seed: int,
) -> tuple[dict[str, np.ndarray], list[str]]:
    sizes = {"test": config.test_size, "validation": config.validation_size}  # in this order: test first
    sizes = {use: size for use, size in sizes.items() if use not in present}
    strata = answer.strata(truth.take(pa.array(good)))
    cuts = cut(len(good), sizes, seed, strata, None if groups is None else groups[good])
    how = ", ".join(
        (["stratified by label"] if strata is not None else ["at random"])
        + ([f"whole groups of `{config.group}`"] if groups is not None else [])
    )
    warnings = [
        f"no {use} split: {len(cuts[use]) / len(good):.0%} ({len(cuts[use])} rows) cut from train, {how}, seed {seed}"
        for use in sizes
    ]
    return {use: good[found] for use, found in cuts.items()}, warnings


def _shared_groups(rows: Mapping[str, Dataset], column: str) -> list[str]:
    values = {use: grouping.known(found, column) for use, found in rows.items()}
    return [
        f"{len(values[use] & values['train'])} groups of `{column}` are in both train and {use}"
        for use in values
        if use != "train" and values[use] & values["train"]
    ]


def _dataset(table: pa.Table, truth: pa.Array, reading: Reading) -> Dataset:
    features = reading.features()
    table = table.set_column(table.column_names.index(reading.truth), reading.truth, truth)
    # named at random: `datasets` would hash every value for a name, and never look at ours
    return Dataset(
        table.cast(features.arrow_schema), DatasetInfo(features=features), fingerprint=generate_random_fingerprint()
    )
