"""The layout of CSV and TSV files: delimiter, encoding and column types, found before the builder reads the rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Features, Value

from hftransfer.errors import UserError

Quoting = Literal[0, 3]  # csv.QUOTE_MINIMAL, csv.QUOTE_NONE
DELIMITERS = (",", ";", "\t", "|")
GAPS = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")  # no value, but only among numbers
PATTERNS = {
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int64": re.compile(r"-?(0|[1-9][0-9]{0,17})"),  # 007 is a name, not a number
    "float64": re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"),
}
LEADING_ZERO = re.compile(r"[-+]?0[0-9]")


@dataclass
class Column:
    """What the cells of one column can still be, after those that were seen."""

    name: str
    kinds: list[str] = field(default_factory=lambda: list(PATTERNS))
    seen: bool = False
    gaps: bool = False

    def add(self, cell: str) -> None:
        """Rule out the types that this cell cannot have."""
        if cell in GAPS:
            self.gaps = True
        else:
            self.seen = True
            self.kinds = (
                [] if LEADING_ZERO.match(cell) else [kind for kind in self.kinds if PATTERNS[kind].fullmatch(cell)]
            )

    @property
    def dtype(self) -> str:
        """The type of the whole column; pandas has no integers or booleans with gaps."""
        if not self.seen or not self.kinds or (self.kinds[0] == "bool" and self.gaps):
            return "string"
        return "float64" if self.gaps else self.kinds[0]


@dataclass(frozen=True)
class Layout:
    """How one file is to be read."""

    delimiter: str
    encoding: str
    quoting: Quoting
    columns: tuple[Column, ...]

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)


def reading_options(files: Sequence[Path]) -> tuple[dict[str, Any], list[str]]:
    """Return the options with which `datasets`' csv builder reads these files as one table, and warnings.

    The builder alone would infer types per 10 000 rows (and fail where they change), count `NA` as no value, and
    fill short rows without a word.
    """
    layouts = [inspect(path) for path in files]
    first = layouts[0]
    for path, layout in zip(files, layouts, strict=True):
        if (layout.delimiter, layout.encoding, layout.header) != (first.delimiter, first.encoding, first.header):
            raise UserError(
                "the files of one split must have the same columns, delimiter and encoding",
                f"{files[0].name} has {', '.join(first.header)} ({first.delimiter!r}, {first.encoding}), "
                f"{path.name} has {', '.join(layout.header)} ({layout.delimiter!r}, {layout.encoding})",
                "Make them alike, or name one file in data.source.",
            )
    columns = [_merged(group) for group in zip(*(layout.columns for layout in layouts), strict=True)]
    warnings = [
        f"{path.name} is not UTF-8; it was read as latin-1"
        for path, layout in zip(files, layouts, strict=True)
        if layout.encoding == "latin-1"
    ]
    return {
        "sep": first.delimiter,
        "encoding": first.encoding,
        "quoting": first.quoting,
        "features": Features({column.name: Value(column.dtype) for column in columns}),
        "keep_default_na": False,
        "na_values": {column.name: list(GAPS) for column in columns if column.dtype == "float64"},
    }, warnings


def inspect(path: Path) -> Layout:
    """Read a file once from end to end and return its layout; UserError names the first line that does not fit."""
    try:
        return _inspect(path, _encoding(path))
    except UnicodeDecodeError:
        return _inspect(path, "latin-1")


def _inspect(path: Path, encoding: str) -> Layout:
    with _long_fields():
        header = _header(path, encoding)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=header.count)
        try:
            return _scan(path, encoding, delimiter, csv.QUOTE_MINIMAL)
        except UserError:
            if delimiter != "\t":
                raise
            return _scan(path, encoding, delimiter, csv.QUOTE_NONE)  # many TSV files hold bare quotes


def _scan(path: Path, encoding: str, delimiter: str, quoting: Quoting) -> Layout:
    with open(path, encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        names = next(row for row in reader if row)
        columns = tuple(Column(name or f"Unnamed: {i}") for i, name in enumerate(names))
        _refuse_twins(path, columns)
        undecided = list(enumerate(columns))
        for row in reader:
            if len(row) != len(columns):
                if row:
                    raise _ragged(path, reader.line_num, len(row), len(columns), delimiter)
                continue  # a blank line
            closed = False
            for i, column in undecided:
                column.add(row[i])
                closed = closed or not column.kinds
            if closed:
                undecided = [(i, column) for i, column in undecided if column.kinds]
    return Layout(delimiter, encoding, quoting, columns)


def _header(path: Path, encoding: str) -> str:
    with open(path, encoding=encoding) as file:
        for line in file:
            if line.strip():
                return line
    raise empty(path)


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(4)
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _merged(columns: Sequence[Column]) -> Column:
    seen = [column for column in columns if column.seen]
    kinds = [kind for kind in PATTERNS if all(kind in column.kinds for column in seen)]
    return Column(columns[0].name, kinds, bool(seen), any(column.gaps for column in columns))


def _refuse_twins(path: Path, columns: Sequence[Column]) -> None:
    names = [column.name for column in columns]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(f"the columns of {path.name} need names of their own", f"{twins[0]!r} stands twice", "Rename.")


def _ragged(path: Path, line: int, fields: int, wanted: int, delimiter: str) -> UserError:
    return UserError(
        f"every row of {path.name} needs as many fields as its header",
        f"line {line} has {fields} fields, the header has {wanted}",
        f"Mend that line; a field that holds the delimiter {delimiter!r} stands in quotes.",
    )


def empty(path: Path) -> UserError:
    """Build the error for a file without rows."""
    return UserError("rows are needed", f"{path} is empty", "Check data.source.")


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)  # the default refuses a text of 128 kB
    try:
        yield
    finally:
        csv.field_size_limit(before)
