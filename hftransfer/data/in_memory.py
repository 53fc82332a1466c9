"""Rows that are on disk already: checked as whole columns, which stay where `datasets` mapped them, and split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features
from datasets.fingerprint import generate_random_fingerprint

from hftransfer.config import DataConfig
from hftransfer.data import hygiene, leakage
from hftransfer.data.cleaning import BadRows, Reading, bad_rows, canonical, plan, previewable, require_columns
from hftransfer.data.columns import PREVIEW_ROWS
from hftransfer.data.fingerprint import fingerprint
from hftransfer.data.labels import Tally, counted, encode, missing_names, refuse_unseen, vocabulary
from hftransfer.data.result import Data
from hftransfer.data.sources import SPLITS, Split
from hftransfer.data.splits import cut, label_sets, sample
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Task

SLICE = 10_000  # rows that are looked at together: looking copies them into memory


def read(
    picked: Mapping[str, Split],
    config: DataConfig,
    task: Task,
    seed: int,
    warnings: list[str],
    say: Callable[[str], None],
) -> Data:
    """Return the data of a source whose rows can be reached at random."""
    for use, split in picked.items():
        if not len(split.rows):
            raise UserError("rows are needed", f"{use} (`{split.name}`) is empty", "Check data.source.")
    kept = sample({use: len(split.rows) for use, split in picked.items()}, config.max_rows, seed)
    raw = {use: _select(split.rows, kept[use]) for use, split in picked.items()}
    features = raw["train"].features
    choices, reading, more = plan(features, *_preview(raw["train"]), config, task)
    warnings += more

    say("checking every row")
    tables = {}
    for use, split in picked.items():
        table = _table(use, raw[use], kept[use], split, reading)
        if use != "train" and table is None:
            warnings.append(f"the labels of {use} are hidden, so it is not used as {use}")
        else:
            tables[use] = table
    good, prints, sketches = {}, {}, {}
    for use, table in tables.items():
        good[use], prints[use], sketches[use], more = _good_rows(use, table, reading, config)
        warnings += more
    names, labels = _encode(tables, good, reading, features)

    say("splitting")
    places = dict(good)
    if len(tables) < len(SPLITS):
        groups = _groups(raw["train"], config.group)
        cuts, more = _cut(config, tables, good["train"], labels["train"], groups, reading, seed)
        places |= cuts
        warnings += more
    if config.group:
        warnings += _shared_groups({use: raw[use].select(good[use]) for use in tables}, config.group)

    say("fingerprinting")
    whole = {use: _dataset(table, labels[use], reading) for use, table in tables.items()}
    origin = {use: use if use in tables else "train" for use in SPLITS}
    splits = {use: whole[origin[use]].select(places[use]) for use in SPLITS}
    answers = {use: labels[origin[use]].take(pa.array(places[use])) for use in SPLITS}
    for use in SPLITS:
        warnings += missing_names(use, names, answers[use])
    shown = {use: prints[origin[use]][places[use]] for use in SPLITS}
    row_ids = {use: rows["row_id"] for use, rows in splits.items()}
    exact = leakage.shared(shown)
    leaks, more = leakage.report(exact, row_ids, reading.roles)
    warnings += more
    say("looking for near copies")
    sketched = {use: _taken(sketches[origin[use]], places[use]) for use in SPLITS}
    cleanness, more = hygiene.inspect(sketched, shown, exact, answers, row_ids, reading.roles)
    warnings += more
    if reading.kind != "regression":
        torn, more = leakage.contradictions(shown["train"], answers["train"], row_ids["train"], reading.roles)
        cleanness = replace(cleanness, contradicting=torn)
        warnings += more
    return Data(
        splits=dict(splits),
        labels=counted(reading.kind, names, answers["train"]),
        columns=choices,
        fingerprints={use: fingerprint(rows, reading.roles, names) for use, rows in splits.items()},
        warnings=tuple(warnings),
        sizes={use: len(rows) for use, rows in splits.items()},
        leakage=leaks,
        hygiene=cleanness,
    )


def _select(rows: Dataset, numbers: np.ndarray) -> Dataset:
    return rows if len(numbers) == len(rows) else rows.select(numbers)


def _preview(rows: Dataset) -> tuple[pa.Table, bool]:
    """Return rows spread over the data set, which may be sorted by label, and whether these are all."""
    spread = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), PREVIEW_ROWS)).astype(np.int64))
    values = _select(rows.select_columns(previewable(rows.features)), spread).with_format("arrow")[:]
    return values, len(spread) == len(rows)


def _table(use: str, rows: Dataset, numbers: np.ndarray, split: Split, reading: Reading) -> pa.Table | None:
    """Return a split's canonical columns with labels as names; None when it has no label at all."""
    if use != "train" and reading.columns[reading.label] not in rows.features:
        return None
    columns = require_columns(use, rows.features, reading)
    table = rows.select_columns(columns).with_format("arrow")[:]
    row_ids = pc.binary_join_element_wise(split.name, pa.array(numbers).cast(pa.string()), ":")
    table = canonical(table, rows.features, row_ids, replace(reading, folder=split.folder))
    answers = table[reading.label]
    return table if use == "train" or answers.null_count < len(answers) else None


def _taken(sketches: Any, places: np.ndarray) -> Any:
    return [sketches[place] for place in places] if isinstance(sketches, list) else sketches[places]


def _good_rows(
    use: str, table: pa.Table, reading: Reading, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, Any, list[str]]:
    """Return the places of the rows that can be used, the prints and sketches of all, and the warnings."""
    report = BadRows(use)
    found: dict[int, str] = {}
    prints = [np.empty(0, leakage.PRINT)]
    sketches = []
    for start in range(0, table.num_rows, SLICE):
        part = table.slice(start, SLICE)
        bad, pixels, thumbs = bad_rows(part, reading)
        prints.append(leakage.prints(part, reading.roles, pixels))
        sketches.append(hygiene.sketches(part, reading.roles, thumbs))
        report.add(part, bad, reading)
        found |= {start + place: reason for place, reason in bad.items()}
    good = np.delete(np.arange(table.num_rows), list(found))
    joined = (
        [text for part in sketches for text in part] if isinstance(sketches[0], list) else np.concatenate(sketches)
    )
    return good, np.concatenate(prints), joined, report.warnings(config.bad_rows)


def _encode(
    tables: Mapping[str, pa.Table], good: Mapping[str, np.ndarray], reading: Reading, features: Features
) -> tuple[tuple[str, ...], dict[str, pa.Array]]:
    by_name = {use: _joined(table[reading.label]) for use, table in tables.items()}
    usable = {use: found.take(pa.array(good[use])) for use, found in by_name.items()}
    tally = Tally()
    tally.add(usable["train"])
    column = reading.columns[reading.label]
    names = vocabulary(tally, features[column], reading.kind, column, features)
    for use in [use for use in tables if use != "train" and reading.kind != "regression"]:
        refuse_unseen(usable[use], tables[use]["row_id"].take(pa.array(good[use])), names, use)
    return names, {use: encode(found, reading.kind, names) for use, found in by_name.items()}


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _groups(rows: Dataset, column: str | None) -> np.ndarray | None:
    """Return a group number for each row; a row without a group is one by itself."""
    if column is None:
        return None
    if column not in rows.features:
        raise UserError("data.group must name a column", f"found {column!r}", hint(column, rows.features))
    values = _joined(rows.select_columns([column]).with_format("arrow")[:][column])
    codes = values.dictionary_encode().indices
    alone = np.arange(len(codes)) + len(codes)
    return np.where(codes.is_valid().to_numpy(zero_copy_only=False), codes.fill_null(0).to_numpy(), alone)


def _cut(
    config: DataConfig,
    present: Collection[str],
    good: np.ndarray,
    labels: pa.Array,
    groups: np.ndarray | None,
    reading: Reading,
    seed: int,
) -> tuple[dict[str, np.ndarray], list[str]]:
    sizes = {"test": config.test_size, "validation": config.validation_size}  # in this order: test first
    sizes = {use: size for use, size in sizes.items() if use not in present}
    strata = _strata(labels.take(pa.array(good)), reading)
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


def _strata(labels: pa.Array, reading: Reading) -> np.ndarray | None:
    if reading.kind == "single_label":
        return np.asarray(labels.to_numpy())
    if reading.kind == "multi_label":
        return label_sets(pc.list_parent_indices(labels).to_numpy(), labels.flatten().to_numpy(), len(labels))
    return None


def _shared_groups(rows: Mapping[str, Dataset], column: str) -> list[str]:
    values = {use: set(found.unique(column)) - {None} for use, found in rows.items() if column in found.features}
    return [
        f"{len(values[use] & values['train'])} groups of `{column}` are in both train and {use}"
        for use in values
        if use != "train" and values[use] & values["train"]
    ]


def _dataset(table: pa.Table, labels: pa.Array, reading: Reading) -> Dataset:
    features = reading.features()
    table = table.set_column(table.column_names.index(reading.label), reading.label, labels)
    # named at random: `datasets` would hash every value for a name, and never look at ours
    return Dataset(
        table.cast(features.arrow_schema), DatasetInfo(features=features), fingerprint=generate_random_fingerprint()
    )
