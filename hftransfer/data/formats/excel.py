"""Excel's workbooks: one sheet as a table; what stands in a cell is the text that was typed or the number stored."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features, Value

from hftransfer.data.formats.base import ROWS, Form, Settings, empty
from hftransfer.data.formats.headers import names_of
from hftransfer.errors import UserError, hint

MOST = 2**20  # rows that a sheet can have


@dataclass(frozen=True)
class Sheet(Form):
    """How one file is read."""

    path: Path
    sheet: str
    header: bool
    columns: tuple[str, ...]
    guesses: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def features(self) -> Features:
        """A string in every column."""
        return Features({name: Value("string") for name in self.columns})

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in parts."""
        schema = self.features.arrow_schema
        width = len(self.columns)
        rows = _rows(self.path, self.sheet, width)
        if self.header:
            next(rows)
        while part := list(islice(rows, ROWS)):
            columns = zip(*([*row, *[""] * width][:width] for row in part), strict=True)
            yield pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)


def look(path: Path, settings: Settings) -> Sheet:
    """Return how a workbook is read; UserError where it has several sheets, or openpyxl is missing."""
    book = _opened(path)
    try:
        names = book.sheetnames
        filled = [name for name in names if any(_cells(row) for row in _each(book[name]))]
    finally:
        book.close()
    guesses: tuple[str, ...] = ()
    if settings.name is not None:
        if settings.name not in names:
            raise UserError(f"data.name must name a sheet of {path.name}", f"found {settings.name!r}",
                            hint(settings.name, names))  # fmt: skip
        sheet = settings.name
    elif not filled:
        raise empty(path)
    elif len(filled) > 1:
        raise UserError(
            f"it must be known which sheet of {path.name} holds the rows", f"it has {', '.join(filled)}",
            settings.advice(f"data.name to one of them, for example to {filled[0]!r}", "keep one of them"),
        )  # fmt: skip
    else:
        sheet = filled[0]
        guesses = (f"{path.name}: the sheet `{sheet}`, of {len(names)}",) if len(names) > 1 else ()
    _refuse_formulas(path, sheet)
    sample = list(islice(_rows(path, sheet), 1000))
    width = max(map(len, sample))
    sample = [[*row, *[""] * width][:width] for row in sample]
    header, columns, said = names_of(path, sample, settings)
    twins = sorted(name for name, count in Counter(columns).items() if count > 1)
    if twins:
        raise UserError(f"the columns of {path.name} need names of their own", f"{twins[0]!r} stands twice", "Rename.")
    return Sheet(path, sheet, header, columns, (*guesses, *said))


def _refuse_formulas(path: Path, sheet: str) -> None:
    """Raise UserError for formulas whose values are not in the file: programs that are not Excel write such."""
    written, shown = _opened(path, values=False), _opened(path)
    try:
        for number, (row, values) in enumerate(
            zip(_each(written[sheet], values=False), _each(shown[sheet]), strict=False), 1
        ):
            for cell, value in zip(row, values, strict=False):
                if value is None and cell.value is not None:
                    raise UserError(
                        f"the cells of {path.name} must have values",
                        f"row {number} holds a formula without one: {str(cell.value)[:60]}",
                        "Open it in a spreadsheet and save it, or write texts that begin with = as texts.",
                    )
    finally:
        written.close()
        shown.close()


def _opened(path: Path, values: bool = True) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"openpyxl is needed to read {path.name}", "it is not installed",
            'Run: pip install "hftransfer-learning[excel]", or save the sheet as CSV.',
        ) from error  # fmt: skip
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=values)
        return book
    except Exception as error:  # openpyxl raises whatever its parsers raise
        raise UserError(f"{path.name} must be a workbook of Excel", str(error)[:200], "Save it again.") from error


def _rows(path: Path, sheet: str, width: int | None = None) -> Iterator[list[str]]:
    """Yield the rows that hold something in the first `width` columns, each cell as text, without what is empty at the
    end."""
    book = _opened(path)
    try:
        for row in _each(book[sheet], width):
            cells = _cells(row)
            if cells:
                yield cells
    finally:
        book.close()


def _each(sheet: Any, width: int | None = None, values: bool = True) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a sheet, each as long as it is or of `width` cells.

    openpyxl fills in what is missing: up to a row of any number, and in each row up to the sheet's last column.
    """
    sheet.reset_dimensions()
    return iter(sheet.iter_rows(max_row=MOST, max_col=width, values_only=values))


def _cells(row: tuple[Any, ...]) -> list[str]:
    cells = [_written(value) for value in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()  # as Excel shows it
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
