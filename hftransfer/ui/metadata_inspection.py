"""Looks at a table in an archive that names the files beside it, in the process that looks at uploads."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from hftransfer.errors import UserError


def require_inside(file: IO[bytes], name: str) -> None:
    """Refuse metadata that names pictures elsewhere than beside it."""
    for value in _file_names(file, name):
        parts = PurePosixPath(value.replace("\\", "/")).parts
        if value.startswith(("/", "~", "\\")) or ".." in parts or ":" in value or "\0" in value:
            raise UserError(f"{name} must name files beside it", f"found {value[:80]!r}", "Mend the file.")


def _file_names(file: IO[bytes], name: str) -> Iterator[str]:
    suffix = PurePosixPath(name.lower()).suffix
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(file)
        if "file_name" in table.schema_arrow.names:
            yield from (str(value) for value in table.read(["file_name"])["file_name"].to_pylist())
    elif suffix in (".csv", ".tsv"):
        text = file.read().decode("utf-8-sig", errors="replace")
        for delimiter in ",;\t|":
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            header = next(rows, [])
            if "file_name" in header:
                place = header.index("file_name")
                yield from (row[place] for row in rows if len(row) > place)
    else:
        for line in file:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "file_name" in row:
                    yield str(row["file_name"])
