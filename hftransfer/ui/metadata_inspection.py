"""Looks at a table in an archive that names the files beside it, in the process that looks at uploads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from hftransfer.errors import UserError
from hftransfer.ui.delimited_inspection import tables_of


def require_inside(file: IO[bytes], name: str) -> None:
    """Refuse metadata that names pictures elsewhere than beside it."""
    for value in _file_names(file, name):
        parts = PurePosixPath(value.replace("\\", "/")).parts
        if value.startswith(("/", "~", "\\")) or ".." in parts or ":" in value or "\0" in value:
            raise UserError(f"{name} must name files beside it", f"found {value[:80]!r}", "Mend the file.")


def _file_names(file: IO[bytes], name: str) -> Iterator[str]:
    suffix = PurePosixPath(name.lower()).suffix
    if suffix in (".parquet", ".pq"):
        import pyarrow.parquet as pq

        table = pq.ParquetFile(file)
        if "file_name" in table.schema_arrow.names:
            yield from (str(value) for value in table.read(["file_name"])["file_name"].to_pylist())
    elif suffix in (".csv", ".tsv"):
        for rows in tables_of(file.read()):
            header = [field.strip() for field in next(rows, [])]
            if "file_name" in header:
                place = header.index("file_name")
                yield from (row[place] for row in rows if len(row) > place)
    else:
        if suffix == ".json":
            with contextlib.suppress(ValueError):  # else it is of lines, as the others
                yield from _of_tree(json.load(file))
            file.seek(0)
        for line in file:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "file_name" in row:
                    yield str(row["file_name"])


def _of_tree(tree: Any) -> Iterator[str]:
    """Yield what stands under `file_name` in a list of rows, or in columns."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from _texts(value.get("file_name"))
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _texts(named: Any) -> Iterator[str]:
    if isinstance(named, list | dict):
        yield from map(str, named.values() if isinstance(named, dict) else named)
    elif named is not None:
        yield str(named)
