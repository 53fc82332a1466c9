"""The rows of CSV and TSV files, when it is known how their fields are divided and quoted."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from datasets import Features, Value

from hftransfer.data.formats.base import ROWS, Form, Settings
from hftransfer.data.formats.encodings import Text
from hftransfer.errors import UserError

BLOCK = 1 << 20  # bytes that Arrow's reader takes at once
NOTHING = "\x1f"  # divides what is not to be divided
ESCAPED = re.compile(r'\\(["\\])')


class Malformed(Exception):
    """A line that cannot be as these delimiters and quotes say: its number and what is wrong."""

    def __init__(self, line: int, why: str, fields: int | None = None) -> None:
        super().__init__(line, why, fields)
        self.line, self.why, self.fields = line, why, fields


@dataclass(frozen=True)
class Delimited(Form):
    """How one file is read."""

    path: Path
    text: Text
    delimiter: str
    mode: str
    skipped: int  # lines above the names
    header: bool  # whether the first row names the columns
    columns: tuple[str, ...]
    joined: bool  # whether rows span lines
    guesses: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def features(self) -> Features:
        """A string in every column."""
        return Features({name: Value("string") for name in self.columns})

    @property
    def is_plain(self) -> bool:
        """Whether Arrow's reader gives what Python's gives, and sooner."""
        plain = self.text.is_utf8 and not self.text.returns and self.delimiter.isascii()
        return plain and self.mode != "backslash" and len(self.columns) > 1

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in parts: with Arrow's reader where the file is plain, else with Python's."""
        if self.is_plain:
            yield from self._plain()
        else:
            yield from self._any()

    def _plain(self) -> Iterator[pa.Table]:
        with open(self.path, "rb") as file:
            rows = records(self, (line.decode("utf-8-sig") for line in file))
            for _ in range(self.skipped):
                next(file)
            if self.header:
                next(rows)
            place = file.tell()
            if self.skipped == 0 and not self.header and self.text.encoding == "utf-8-sig":
                place = 3  # behind the mark
            file.seek(place)
            start = file.read(3)
            if not start:
                return
            if start == codecs.BOM_UTF8:  # of the first text: Arrow would take it for the file's
                yield from self._any()
                return
        read = 0
        with pa.OSFile(str(self.path)) as file:
            file.seek(place)
            try:
                with pyarrow.csv.open_csv(
                    file,
                    pyarrow.csv.ReadOptions(column_names=list(self.columns), block_size=BLOCK, use_threads=False),
                    pyarrow.csv.ParseOptions(
                        delimiter=self.delimiter,
                        quote_char='"' if self.text.quotes and self.mode == "double" else False,
                        newlines_in_values=self.joined,
                    ),
                    pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(self.columns, pa.string()),
                        strings_can_be_null=False,
                        check_utf8=False,  # which was done
                    ),
                ) as reader:
                    for batch in reader:
                        yield pa.Table.from_batches([batch])
                        read += batch.num_rows
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):
                    return
                # a row that is larger than a block, or one that does not fit: then its line is named
                yield from self._any(read)

    def _any(self, first: int = 0) -> Iterator[pa.Table]:
        schema = self.features.arrow_schema
        rows = itertools.islice(rows_of(self), first, None)
        while part := list(itertools.islice(rows, ROWS)):
            columns = zip(*part, strict=True)
            yield pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)


def broken(form: Delimited, problem: Malformed, settings: Settings) -> UserError:
    if problem.fields is not None:
        return ragged(form, problem)
    return UserError(
        f"quotes around a field of {form.path.name} must end with it", f"near line {problem.line} they do not "
        f"({problem.why})", settings.advice("data.quoting=none if quotes are part of the texts",
                                            'mend that line; a quote inside a quoted field is written `""`'),
    )  # fmt: skip


def ragged(form: Delimited, problem: Malformed) -> UserError:
    """Build the error for a row that has more or fewer fields than there are names."""
    if form.delimiter == NOTHING:
        return UserError(f"every row of {form.path.name} needs one field", f"line {problem.line} has more", "Mend it.")
    return UserError(
        f"every row of {form.path.name} needs as many fields as its header",
        f"line {problem.line} has {problem.fields} fields, the header has {problem.why}",
        f"Mend that line; a field that holds the delimiter {form.delimiter!r} stands in quotes.",
    )


def rows_of(form: Delimited) -> Iterator[list[str]]:
    """Yield the fields of each row below the names; UserError for a row of another length."""
    with long_fields(), open(form.path, encoding=form.text.encoding, errors=form.text.errors, newline="") as file:
        for _ in range(form.skipped):
            next(file)
        rows = records(form, file)
        if form.header:
            next(rows, None)
        width = len(form.columns)
        try:
            for line, row in rows:
                if width and len(row) != width:
                    raise Malformed(line, str(width), len(row))
                yield row
        except Malformed as error:
            raise broken(form, error, Settings()) from error


def records(form: Delimited, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that hold something, with the number of the line that each ends on."""
    reader = csv.reader(
        (ESCAPED.sub(_unescaped, line) for line in lines) if form.mode == "backslash" else lines,
        delimiter=form.delimiter, quoting=csv.QUOTE_NONE if form.mode == "none" else csv.QUOTE_MINIMAL,
        strict=True,
    )  # fmt: skip
    try:
        for row in reader:
            if row:
                yield reader.line_num + form.skipped, row
    except csv.Error as error:
        raise Malformed(reader.line_num + form.skipped, str(error)) from error


def _unescaped(found: re.Match[str]) -> str:
    return '""' if found[1] == '"' else "\\"


@contextmanager
def long_fields() -> Iterator[None]:
    """Let a field be as long as a text may be: the default refuses 128 kB."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
