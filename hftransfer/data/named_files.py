"""Files that a table names: found beside it, with or without suffix, in whatever folder they lie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, IterableDataset, Value, concatenate_datasets

from hftransfer.column_types import NUMBERS, STRINGS, is_value
from hftransfer.data.columns import IDENTIFIERS, words
from hftransfer.data.named_splits import Picked, Split
from hftransfer.data.parts_of_recordings import heads
from hftransfer.data.tables import Rows
from hftransfer.data.tree import leads_out, walk
from hftransfer.errors import with_rows
from hftransfer.tasks.base import Role, Task

FIRST = 50  # names that tell whether a column holds any
MOST = 200_000  # files beside a table that are looked through


class Finder:
    """Finds files by the names that a table holds of them, relative to the table or anywhere below its folder."""

    def __init__(self, folder: Path, suffixes: Collection[str]) -> None:
        self.folder, self.suffixes = folder, suffixes
        self.index: dict[str, list[tuple[str, ...]]] | None = None
        self.places: Counter[str] = Counter()  # where names were found that are no paths from the folder
        self.missing: list[str] = []

    def place(self, name: str) -> Path:
        """Return where a file is; where it would be, when it is nowhere to be found."""
        plain = name.strip().replace("\\", "/")
        direct = Path(os.path.normpath(self.folder / plain))
        if "://" in plain or (os.path.isfile(direct) and not leads_out(direct, self.folder)):
            return direct
        found = self._look(tuple(part for part in plain.split("/") if part not in ("", ".")))
        if found is None:
            self.missing.append(name)
            return self.folder / plain.replace("/", "_") if leads_out(direct, self.folder) else direct
        self.places["/".join(found[:-1]) or "."] += 1
        return self.folder.joinpath(*found)

    def found(self, name: str) -> bool:
        """Tell whether there is such a file, without keeping count."""
        plain = name.strip().replace("\\", "/")
        if not plain:
            return False
        here = Path(plain).suffix.lower() in self.suffixes and os.path.isfile(self.folder / plain)
        return here or self._look(tuple(part for part in plain.split("/") if part not in ("", "."))) is not None

    def several(self, name: str) -> list[str]:
        """Return the files that a name may mean, where it may mean several and is the path of none."""
        plain = name.strip().replace("\\", "/")
        if os.path.isfile(self.folder / plain):
            return []
        best = self._best(tuple(part for part in plain.split("/") if part not in ("", ".")))
        return ["/".join(parts) for parts in best] if len(best) > 1 else []

    def _look(self, parts: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the one file whose path ends most like a name; None for none, or for several that end alike."""
        best = self._best(parts)
        return best[0] if len(best) == 1 else None

    def _best(self, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        if not parts or ".." in parts:
            return []
        if self.index is None:
            self.index = self._indexed()
        candidates = self.index.get(parts[-1].casefold(), [])
        shared = [_shared_tail(parts[:-1], one[:-1]) for one in candidates]
        return [one for one, length in zip(candidates, shared, strict=True) if length == max(shared)]

    def _indexed(self) -> dict[str, list[tuple[str, ...]]]:
        index: dict[str, list[tuple[str, ...]]] = {}
        tree = walk(self.folder, MOST)
        for parts in tree.files:
            stem = os.path.splitext(parts[-1])[0]
            if tree.suffix(parts) in self.suffixes:
                for key in {parts[-1].casefold(), stem.casefold()}:
                    index.setdefault(key, []).append(parts)
        return index

    def said(self, column: str) -> list[str]:
        """Say where files were found that are not where their names say."""
        if not self.places:
            return []
        where = ", ".join(f"{count:,} in {place}" for place, count in self.places.most_common(4))
        return [f"{column}: files are found by their names: {where}"]

    def lost(self, column: str) -> list[str]:
        """Say which names have no file, and where it was looked for."""
        if not self.missing:
            return []
        count = f"{len(self.missing):,} {'name has' if len(self.missing) == 1 else 'names have'}"
        said = f"{column}: {count} no file in {self.folder} or below (or several)"
        return [with_rows(said, self.missing)]


def _shared_tail(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    length = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a.casefold() != b.casefold():
            break
        length += 1
    return length


def names_files(rows: Rows, column: str, finder: Finder) -> bool:
    """Tell whether a column holds names of files, by its first values: most of them have one, each its own.

    Rows that are parts of recordings name theirs again and again.
    """
    feature = (rows.features or {}).get(column)
    if not isinstance(rows, Dataset) or not is_value(feature, *STRINGS, *NUMBERS) or is_value(feature, "float"):
        return False
    first = rows.select_columns([column])[:FIRST][column]
    names = {str(value) for value in first if value is not None}
    own = 1 < len(names) > len(first) / 2 or (names and heads(rows.features))
    return bool(own) and 2 * sum(finder.found(name) for name in names) > len(names)


def located(picked: Picked, task: Task, columns: Mapping[str, str]) -> Picked:
    """Return splits in which the names of files are paths, where a task reads files and a table only names them."""
    warnings, guesses = [*picked.warnings], [*picked.guesses]
    splits = dict(picked.splits)
    held = frozenset().union(*(answer.suffixes for answer in task.answers))
    for role in task.roles:
        suffixes = held if role.takes is None else role.takes.suffixes
        if not suffixes:
            continue
        for use, split in splits.items():
            found = _located(split, role, columns.get(role.name), suffixes)
            if found is not None:
                splits[use], finder, column = found
                guesses += finder.said(f"{use}, `{column}`")
                warnings += finder.lost(f"{use}, `{column}`")
    return replace(picked, splits=splits, warnings=tuple(warnings), guesses=tuple(guesses))


def _located(
    split: Split, role: Role, named: str | None, suffixes: Collection[str]
) -> tuple[Split, Finder, str] | None:
    rows = split.rows
    if isinstance(rows, IterableDataset) or split.folder is None or not len(rows):
        return None
    finder = Finder(split.folder, suffixes)
    column = named if named in rows.features else _column(rows, role, finder)
    if column is None or not is_value(rows.features[column], *STRINGS, *NUMBERS):
        return None
    values = rows.select_columns([column])[:][column]
    paths = [None if value is None or not str(value).strip() else str(finder.place(str(value))) for value in values]
    made = Dataset(pa.table({column: pa.array(paths, pa.string())}))
    rest = rows.remove_columns([column])
    rows = concatenate_datasets([rest, made], axis=1) if rest.column_names else made
    return replace(split, rows=rows.select_columns(list(split.rows.features))), finder, column


def _column(rows: Dataset, role: Role, finder: Finder) -> str | None:
    """Return the column that names files: one that is named after the role, or like a file, before any other."""
    if any(role.takes is not None and role.takes.fits(feature, ()) for feature in rows.features.values()):
        return None  # the files themselves are in a column
    names = [name for name, feature in rows.features.items() if isinstance(feature, Value)]
    if role.answer:  # a column of files may be anything else
        names = [name for name in names if {*words(name)} & {words(one)[-1] for one in role.words}]
    wanted = {word for one in role.words for word in words(one)}
    names.sort(key=lambda name: (not set(words(name)) & wanted, not set(words(name)) & IDENTIFIERS))
    return next((name for name in names if names_files(rows, name, finder)), None)
