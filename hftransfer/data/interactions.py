"""Who had what and when, beside a table of items: cut at one moment for all into histories and what came after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value

from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._histories import Histories
from hftransfer.config import DataConfig
from hftransfer.data import interaction_files
from hftransfer.data.collections import TRUTH, catalogue_of
from hftransfer.data.interaction_files import Raw
from hftransfer.data.named_files import Finder
from hftransfer.data.named_splits import Picked, Split
from hftransfer.errors import UserError
from hftransfer.inputs.image import IMAGE
from hftransfer.tasks.base import Task

TAKEN = 50  # items of a history that a row of train keeps: more than any model here reads
HELD = 0.2  # of a person's items that are looked for, where people are cut
UNITS = {  # of numbers that are times since 1970, by their size: 1973 to 5138 in each unit
    "seconds": (1e8, 1e11), "milliseconds": (1e11, 1e14), "microseconds": (1e14, 1e17), "nanoseconds": (1e17, 1e20),
}  # fmt: skip
ORDER = "numbers below 100,000,000, which are no times since 1970"
COSTS = (
    "without a time nothing can be cut at one moment: set data.cut=user to hold people out, or data.cut=last to hold "
    "out everybody's last row. Both let a model learn from what came after, so scores are higher than they will be"
)


@dataclass(frozen=True)
class Ordered:
    """Interactions in the order of their time: whose, with which item (places), when; each pair once."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray


def read_interactions(place: Path, task: Task, config: DataConfig) -> tuple[Picked, Catalogue]:
    """Read interactions and items, and return a row a history with what came next, by split, and the catalogue."""
    _refuse_splits(config)
    raw = interaction_files.read(place, config, task.tables_beside)
    guesses = [*raw.guesses]
    items, known = _items(raw)
    warnings = [*raw.warnings, *items.said]
    guesses += items.guesses
    catalogue = catalogue_of(items.ids, items.titles, items.texts, items.pictures)
    catalogue.require_choice()
    if raw.times is None and config.cut == "time":
        raise UserError("a column with the time is needed", f"found {', '.join(raw.columns)}", f"{COSTS}.")
    times = np.arange(len(raw.users), dtype=np.float64) if raw.times is None else _times(raw.times, raw.dated)
    ordered, said, lost = _ordered(raw, known, times)
    guesses += said
    warnings += lost
    if config.cut == "time":
        parts, more, said = _at_one_moment(ordered, config)
        guesses += said
    else:
        parts, more = _by_person(ordered, config, raw.times is not None)
    warnings += more
    cold = np.bincount(parts.train.items, minlength=len(items.ids)) == 0
    catalogue = Catalogue(catalogue.table, catalogue.digest, Histories(
        np.unique(parts.train.users, return_inverse=True)[1], parts.train.items, parts.train.times, len(catalogue)
    ))  # fmt: skip
    names = catalogue.ids
    features = Features({task.shown[0].name: List(Value("string")), task.truth.name: TRUTH})

    def rows(found: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Dataset:
        histories = [[names[at] for at in history] for history, _ in found]
        truth = [[{"id": names[at], "grade": 1.0, "cold": bool(cold[at])} for at in wanted] for _, wanted in found]
        columns = {task.shown[0].name: histories, task.truth.name: truth}
        return Dataset(pa.table(columns, schema=features.arrow_schema))

    made = {"train": _next(parts.train), "validation": parts.validation, "test": parts.test}
    for use, found in made.items():
        if not found:
            raise UserError(
                f"people with a history and something that came after are needed in {use}", "there are none",
                "Give more interactions, or set data.test_size and data.validation_size.",
            )  # fmt: skip
    people, shown = len(np.unique(ordered.users)), int(cold.sum())
    guesses.append(
        f"{len(ordered.users):,} interactions of {people:,} people with {len(names):,} items; no k-core: people and "
        f"items with few stay; {shown:,} items have none in train and are cold"
    )
    splits = {use: Split(rows(found), use, place) for use, found in made.items()}
    return Picked(splits, tuple(warnings), tuple(guesses)), catalogue


def _refuse_splits(config: DataConfig) -> None:
    """Raise UserError for splits that are named: they are cut, of all interactions."""
    named = [name for name in ("train", "validation", "test", "split_column") if getattr(config, name)]
    if named:
        raise UserError(
            "interactions are cut by data.cut, all of them together", f"data.{named[0]} names a split of its own",
            f"Drop {', '.join(f'data.{name}' for name in named)}, and give one folder with all interactions.",
        )  # fmt: skip


@dataclass(frozen=True)
class Items:
    """The items that have a text or a picture, by their places."""

    ids: pa.Array
    titles: pa.Array
    texts: pa.Array
    said: list[str]
    guesses: list[str]
    pictures: pa.ChunkedArray | None = None


def _items(raw: Raw) -> tuple[Items, dict[str, int]]:
    """Return items with a text or a picture, and their places; UserError where most interactions are with others."""
    pictures, said, guesses = _pictures(raw)
    shown = [False] * len(raw.of.ids) if pictures is None else pictures.is_valid().to_pylist()
    named = zip(raw.of.titles, raw.of.texts, shown, strict=True)
    kept = [i for i, (title, text, seen) in enumerate(named) if title or text or seen]
    known = {raw.of.ids[i]: place for place, i in enumerate(kept)}
    lost = [name for name in raw.items if name not in known]
    if 2 * len(lost) > len(raw.items) or not known:
        some = ", ".join(sorted(set(lost))[:3])
        raise UserError(
            "items with a title, a text or a picture are needed: ids say nothing to a model",
            f"{len(lost):,} of {len(raw.items):,} interactions are with items that have none ({some})",
            "Put a table of the items beside the interactions, with their id, title and text.",
        )  # fmt: skip
    if lost:
        what = "no text" if pictures is None else "neither a text nor a picture"
        said.append(f"{len(lost):,} of {len(raw.items):,} interactions dropped: {len(set(lost)):,} items have {what}")
    ids, titles, texts = (
        pa.array([values[i] or None for i in kept], pa.string())
        for values in (raw.of.ids, raw.of.titles, raw.of.texts)
    )
    seen = None if pictures is None else pictures.take(pa.array(kept, pa.int64()))
    return Items(ids, titles, texts, said, guesses, seen), known


def _pictures(raw: Raw) -> tuple[pa.ChunkedArray | None, list[str], list[str]]:
    """Return the pictures of items, null where there is none (None where none has one), warnings and guesses."""
    if raw.of.pictures is None or raw.of.folder is None:
        return None, [], []
    column, said = raw.of.pictures, []
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        finder = Finder(raw.of.folder, IMAGE.suffixes)
        names = [name if name and name.strip() else None for name in column.to_pylist()]
        paths = [None if name is None else finder.place(name) for name in names]
        found = [str(path) if path is not None and path.is_file() else None for path in paths]
        lost = [name for one, name in zip(found, names, strict=True) if one is None and name is not None]
        if lost and not any(found):  # addresses, most likely
            return (
                None,
                [],
                [f"pictures are not looked at: {lost[0]!r} and the like are no files below {raw.of.folder}"],
            )
        said += [f"pictures of {len(lost):,} items are not there"] if lost else []
        column = pa.chunked_array([pa.array(found, pa.string())])
    elif not (pa.types.is_struct(column.type) or pa.types.is_binary(column.type)):
        return None, [], [f"pictures are not looked at: they are of type {column.type}"]
    canonical = IMAGE.canonical(column, False, None)
    return (None if canonical.null_count == len(canonical) else canonical), said, []


def _times(values: np.ndarray, dated: bool) -> np.ndarray:
    """Return times as numbers; UserError where they are of several units, which dates cannot be."""
    if dated:
        return values
    known = values[np.isfinite(values)]
    found = {name: int(((known >= low) & (known < high)).sum()) for name, (low, high) in UNITS.items()}
    found[ORDER] = int((known < UNITS["seconds"][0]).sum())
    units = {name: count for name, count in found.items() if count}
    if len(units) > 1:
        told = " and ".join(f"{count:,} look like {name}" for name, count in units.items())
        raise UserError("times of one unit are needed", told, "Bring them to one unit: nothing tells which is meant.")
    return values


def _ordered(raw: Raw, known: dict[str, int], times: np.ndarray) -> tuple[Ordered, list[str], list[str]]:
    """Return usable interactions by time, each person with each item once; what is to be said, and to be warned of."""
    said = []
    named = np.array([bool(user.strip()) for user in raw.users], bool)
    usable = named & np.array([item in known for item in raw.items], bool)
    dated = np.isfinite(times)
    lost = {"without a person": int((~named).sum()), "without a time": int((usable & ~dated).sum())}
    warned = [f"{count:,} of {len(named):,} interactions dropped: {why}" for why, count in lost.items() if count]
    kept = np.flatnonzero(usable & dated)
    if not len(kept):
        raise UserError("interactions are needed", "none has a person, an item with a text and a time", "Mend them.")
    users = np.unique(np.asarray(raw.users, dtype=object)[kept].astype(str), return_inverse=True)[1]
    items = np.array([known[raw.items[i]] for i in kept])
    order = np.argsort(times[kept], kind="stable")
    users, items, when = users[order], items[order], times[kept][order]
    _, first = np.unique(users * (int(items.max()) + 1) + items, return_index=True)
    if len(first) < len(users):
        said.append(
            f"{len(users) - len(first):,} of {len(users):,} interactions are repeats, of a person with the same item: "
            "each counts once, when it came first, and what somebody had is not recommended again"
        )
    first = np.sort(first)
    return Ordered(users[first], items[first], when[first]), said, warned


@dataclass(frozen=True)
class Parts:
    """What is trained on, and what is asked: histories, each with what came after."""

    train: Ordered
    validation: list[tuple[list[int], list[int]]]
    test: list[tuple[list[int], list[int]]]


def _at_one_moment(found: Ordered, config: DataConfig) -> tuple[Parts, list[str], list[str]]:
    """Cut at two moments for all: train before the first, validation up to the second, test after it."""
    count = len(found.users)
    held = _share(config.test_size, count)
    more = _share(config.validation_size, count)
    if held + more >= count:
        raise UserError(
            f"interactions of train are needed, of {count:,} in all",
            f"data.test_size and data.validation_size ask for {held:,} and {more:,}", "Lower them.",
        )  # fmt: skip
    second = found.times[max(count - held, 0)]
    first = found.times[max(count - held - more, 0)]
    masks = [found.times < first, (found.times >= first) & (found.times < second), found.times >= second]
    train, between, after = (Ordered(found.users[m], found.items[m], found.times[m]) for m in masks)
    if not len(train.users) or not len(between.users):
        raise UserError(
            "moments that tell train, validation and test apart are needed",
            f"the times of {count:,} interactions have {len(np.unique(found.times)):,} values", "Give finer times.",
        )  # fmt: skip
    validation, no_history = _asked(train, between)
    before = Ordered(*(np.concatenate([getattr(train, name), getattr(between, name)]) for name in vars(train)))
    test, cold = _asked(before, after)
    said = []
    if cold or no_history:
        said.append(
            f"cold people: {cold:,} of {cold + len(test):,} in test and {no_history:,} of "
            f"{no_history + len(validation):,} in validation have no history before the cut; they are left out"
        )
    told = (
        f"cut at one moment for all: {len(train.users):,} interactions before it are trained on, "
        f"{len(between.users):,} after it are for validation, the last {len(after.users):,} for test"
    )
    return Parts(train, validation, test), said, [told]


def _by_person(found: Ordered, config: DataConfig, timed: bool) -> tuple[Parts, list[str]]:
    """Hold out people, or everybody's last two items: what a cut in time is not."""
    people = np.unique(found.users)
    sequences = _sequences(found)
    if config.cut == "last":
        many = {user: items for user, items in sequences.items() if len(items) > 3}
        test = [(items[:-1], items[-1:]) for items in many.values()]
        validation = [(items[:-2], items[-2:-1]) for items in many.values()]
        ends = {user: len(items) - 2 for user, items in many.items()}
        said = (
            "leave-one-out: everybody's last item is the test. Train holds what others did after that moment, which "
            "no model will know (Ji et al. 2023): scores are higher than they will be. data.cut=time cuts at one"
        )
        short = len(people) - len(many)
    else:
        order = np.random.default_rng([0, len(people)]).permutation(people)
        held = _share(config.test_size, len(people))
        more = _share(config.validation_size, len(people))
        groups = order[:held], order[held : held + more]
        parts = [[_apart(sequences[user]) for user in group if len(sequences[user]) > 1] for group in groups]
        test, validation = parts
        ends = {user: 0 for group in groups for user in group}
        said = (
            f"people are cut: {len(groups[0]):,} of {len(people):,} are for test, and the last {HELD:.0%} of what "
            "each had is looked for. No moment tells what a model knows from what it does not: scores are higher than "
            "they will be"
        )
        short = sum(len(sequences[user]) < 2 for group in groups for user in group)
    kept = np.ones(len(found.users), bool)
    seen: dict[int, int] = {}
    for at, user in enumerate(found.users.tolist()):
        seen[user] = seen.get(user, 0) + 1
        kept[at] = seen[user] <= ends.get(user, len(found.users))
    train = Ordered(found.users[kept], found.items[kept], found.times[kept])
    if not len(train.users):
        raise UserError("interactions of train are needed", "none is left", "Set data.test_size.")
    told = [f"{short:,} of {len(people):,} people have too few items to be asked, and are in no test"] if short else []
    return Parts(train, validation, test), [
        said,
        *told,
        *([] if timed else ["there is no time: rows are in their order"]),
    ]


def _apart(items: list[int]) -> tuple[list[int], list[int]]:
    end = len(items) - max(1, round(HELD * len(items)))
    return items[:end], items[end:]


def _sequences(found: Ordered) -> dict[int, list[int]]:
    made: dict[int, list[int]] = {}
    for user, item in zip(found.users.tolist(), found.items.tolist(), strict=True):
        made.setdefault(user, []).append(item)
    return made


def _asked(before: Ordered, after: Ordered) -> tuple[list[tuple[list[int], list[int]]], int]:
    """Return the histories of people with what came after, and how many people have none."""
    histories = _sequences(before)
    wanted = _sequences(after)
    return [(histories[user], items) for user, items in wanted.items() if user in histories], len(
        wanted.keys() - histories.keys()
    )


def _next(train: Ordered) -> list[tuple[list[int], list[int]]]:
    """Return a row for every item of train that has a history before it."""
    return [
        (items[max(0, at - TAKEN) : at], [items[at]])
        for items in _sequences(train).values()
        for at in range(1, len(items))
    ]


def _share(size: Any, count: int) -> int:
    return int(size) if isinstance(size, int) else max(1, round(size * count))
