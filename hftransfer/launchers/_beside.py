"""Files that a table names, looked for beside it without reading it as a table: by their names in its text."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

FIELDS = re.compile(r"[,;|\t\r\n\"\[\]{}]|::")  # between which a name may stand, in CSV, JSON and their like
MOST = 200_000  # files beside a table that are looked through
BINARY = (".parquet", ".arrow", ".feather", ".xlsx", ".xls", ".zip", ".gz", ".bz2", ".xz", ".zst")


def named(table: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of these suffixes beside or below a table whose name, with or without suffix, stands in it.

    Tables that are no text name none: what they hold, they hold themselves.
    """
    if not suffixes or table.suffix.lower() in BINARY:
        return []
    places: dict[str, list[Path]] = {}
    for path in _below(table.parent):
        if path.suffix.lower() in suffixes and path != table:
            for name in {path.name.casefold(), path.stem.casefold()}:
                places.setdefault(name, []).append(path)
    found: set[Path] = set()
    if places:
        for word in _words(table):
            found.update(places.get(word, ()))
    return sorted(found)


def tables(source: Path, beginnings: Collection[str]) -> list[Path]:
    """Return the files beside a table whose names begin like those of the tables that are read with it."""
    found = [path for path in sorted(source.parent.iterdir()) if path != source and path.is_file()]
    return [path for path in found if path.suffix == ".item" or path.stem.lower().startswith(tuple(beginnings))]


def _below(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            count += 1
            if count > MOST:
                return
            path = Path(place, name)
            if not path.is_symlink():
                yield path


def _words(table: Path) -> Iterator[str]:
    with open(table, "rb") as file:
        begins = file.read(2)
    encoding = "utf-16" if begins in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    with open(table, encoding=encoding, errors="replace") as lines:
        for line in lines:
            for word in FIELDS.split(line):
                yield re.split(r"[/\\]", word.strip(" '"))[-1].casefold()
