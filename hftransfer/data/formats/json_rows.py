"""JSON and JSON lines: where the rows are in it, and the type of each column over all of its values.

Numbers are numbers where all values of a column are some that 64 bits hold; in columns that mix them with strings they
are the text that was written. Strings stay strings, dates among them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
from datasets import Features

from hftransfer.data.formats import spans
from hftransfer.data.formats.base import ROWS, Form, Settings, empty
from hftransfer.data.formats.encodings import Text
from hftransfer.data.formats.encodings import look as look_at_text
from hftransfer.data.formats.json_trees import rows_in
from hftransfer.errors import UserError

LARGE = 1 << 26  # bytes of JSON lines from which on Arrow's reader is tried first
EXACT = 2**53  # whole numbers up to this are exact as floats


class Written(float):
    """A number that knows how it was written."""

    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class Rows(Form):
    """How one file is read."""

    path: Path
    text: Text
    settings: Settings
    lines: bool  # a row a line
    quick: bool  # by Arrow's reader
    reading: spans.Reading | None
    accepted: bool  # whether a person answered which rows are right: the others are left out
    features: Features
    guesses: tuple[str, ...]
    warnings: tuple[str, ...]

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in parts."""
        schema = self.features.arrow_schema
        if self.quick:
            yield from _quickly(self.path, schema)
            return
        rows = spans.accepted(_rows(self.text, self.settings, self.lines), self.accepted)
        rows = rows if self.reading is None else map(self.reading.row, rows)
        while part := list(islice(rows, ROWS)):
            yield pa.table(
                [_array([row.get(column.name) for row in part], column.type) for column in schema],
                schema=schema.remove_metadata(),
            )


def look(path: Path, settings: Settings) -> Rows:
    """Return how a file is read; UserError where no rows are found in it, or several lists of rows."""
    text = look_at_text(path, settings)
    lines = settings.key is None and _is_lines(text)
    guesses = list(text.guesses)
    if lines and text.is_utf8 and text.size > LARGE:
        first = list(islice(_rows(text, settings, lines), ROWS))
        schema = Types(first).schema()
        if spans.detect(first) is None and not spans.are_answered(first) and _reads_quickly(path, schema):
            features = Features.from_arrow_schema(schema)
            return Rows(path, text, settings, lines, True, None, False, features, tuple(guesses), text.warnings)
    if lines:
        first = list(islice(_rows(text, settings, lines), 100))
    else:
        found, said = rows_in(path, _tree(text), settings)
        guesses += said
        first = found[:100]
    if not first:
        raise empty(path)
    reading, answered = spans.detect(first), spans.are_answered(first)
    rows = spans.accepted(_rows(text, settings, lines) if lines else iter(found), answered)
    if answered:
        guesses.append(f"{path.name}: an export of Prodigy, of which the accepted rows are read")
    types = Types(rows if reading is None else map(reading.row, rows))
    guesses += [f"{path.name}: {one}" for one in (*types.said(), *(reading.said if reading else ()))]
    features = Features.from_arrow_schema(types.schema())
    return Rows(path, text, settings, lines, False, reading, answered, features, tuple(guesses), text.warnings)


# --- rows ---


def _rows(text: Text, settings: Settings, lines: bool) -> Iterator[dict[str, Any]]:
    if not lines:
        yield from rows_in(text.path, _tree(text), settings)[0]
        return
    with open(text.path, encoding=text.encoding, errors=text.errors) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                row = _parsed(line, text.path, number)
                if not isinstance(row, dict):
                    raise UserError(
                        f"every line of {text.path.name} must be a JSON object", f"line {number} is {line[:60]!r}",
                        'Write it as {"name": value, ...}.',
                    )  # fmt: skip
                yield row


def _parsed(line: str, path: Path, number: int) -> Any:
    try:
        return _whole(json.loads(line, parse_float=Written), line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path.name} must be readable JSON", f"line {number} is not: {str(error)[:200]}", "Mend that line."
        ) from error


def _whole(value: Any, written: str) -> Any:
    """Return values with halves of characters, as cut texts end with, as the sign for what is no character."""
    if "\\ud" not in written and "\\uD" not in written:
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(one, written) for one in value]
    return {_whole(k, written): _whole(v, written) for k, v in value.items()} if isinstance(value, dict) else value


def _tree(text: Text) -> Any:
    with open(text.path, encoding=text.encoding, errors=text.errors) as file:
        try:
            content = file.read()
            return _whole(json.loads(content, parse_float=Written), content)
        except RecursionError as error:
            raise UserError(
                f"{text.path.name} must hold rows", "its values are nested too deep", "Flatten it."
            ) from error
        except json.JSONDecodeError as error:
            raise UserError(
                f"{text.path.name} must be readable JSON",
                f"line {error.lineno} is not: {error.msg}",
                "Mend that line.",
            ) from error
        except ValueError as error:  # a number of thousands of digits
            raise UserError(f"{text.path.name} must be readable JSON", str(error)[:200], "Mend it.") from error


LINES = (".jsonl", ".ndjson")  # names that say how a file is written


def _is_lines(text: Text) -> bool:
    """Tell whether a file holds a JSON object a line, and not one value as a whole."""
    with open(text.path, encoding=text.encoding, errors=text.errors) as file:
        full = (line for line in file if line.strip())
        first, second = next(full, ""), next(full, "")
    if not first.lstrip().startswith("{"):
        return False
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return second.lstrip().startswith("{") and first.rstrip().endswith("}")  # a damaged line, which is named
    if second:
        return True
    suffix = text.path.suffix.lower()
    if suffix in LINES:  # one row, whose values may be lists: but for rows under the key that exports use
        return not (isinstance(row.get("data"), list) and row["data"] and isinstance(row["data"][0], dict))
    return suffix != ".json" and not any(isinstance(value, dict | list) for value in row.values())


def _quickly(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    with pyarrow.json.open_json(path, pyarrow.json.ReadOptions(block_size=1 << 24), options) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _reads_quickly(path: Path, schema: pa.Schema) -> bool:
    plain = (pa.types.is_string, pa.types.is_int64, pa.types.is_float64, pa.types.is_boolean)
    if not all(any(test(field.type) for test in plain) for field in schema):
        return False
    try:
        for _ in _quickly(path, schema):
            pass
    except pa.ArrowInvalid:
        return False
    return True


# --- types ---


@dataclass
class Column:
    """What the values of one column are."""

    kinds: set[str] = field(default_factory=set)
    widest: int = 0
    nested: pa.DataType | None = None
    mixed: bool = False

    def add(self, values: Sequence[Any]) -> None:
        """Count the values of a batch in."""
        nested = []
        for value in values:
            if value is None:
                continue
            if isinstance(value, bool):
                self.kinds.add("truth")
            elif isinstance(value, int):
                self.kinds.add("whole")
                self.widest = max(self.widest, abs(value))
            elif isinstance(value, float):
                self.kinds.add("decimal")
            elif isinstance(value, str):
                self.kinds.add("string")
            else:
                self.kinds.add("list" if isinstance(value, list) else "object")
                nested.append(value)
        if nested and not self.mixed:
            self._add_nested(nested)

    def _add_nested(self, values: list[Any]) -> None:
        try:
            found = pa.infer_type(values)
            if self.nested is not None:
                fields = [pa.schema([pa.field("it", type)]) for type in (self.nested, found)]
                found = pa.unify_schemas(fields, promote_options="permissive").field("it").type
            self.nested = found
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError):
            self.mixed = True

    @property
    def type(self) -> pa.DataType:
        """The type of the whole column."""
        if not self.kinds:
            return pa.null()
        if self.kinds == {"truth"}:
            return pa.bool_()
        if self.kinds == {"whole"} and self.widest < 2**63:
            return pa.int64()
        if self.kinds == {"decimal"} or (self.kinds == {"whole", "decimal"} and self.widest <= EXACT):
            return pa.float64()
        if self.kinds == {"list", "string"} and self.nested in (pa.list_(pa.string()), pa.list_(pa.null())):
            return pa.list_(pa.string())  # one name, or several
        if self.kinds in ({"list"}, {"object"}) and not self.mixed and self.nested is not None:
            return self.nested
        return pa.string()


class Types:
    """The types of all columns."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.columns: dict[str, Column] = {}
        rows = iter(rows)
        while part := list(islice(rows, ROWS)):
            for name in dict.fromkeys(name for row in part for name in row):
                self.columns.setdefault(str(name), Column()).add([row.get(name) for row in part])

    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(name, column.type) for name, column in self.columns.items()])

    def said(self) -> list[str]:
        several = [name for name, one in self.columns.items() if len(one.kinds) > 1 and pa.types.is_string(one.type)]
        among = [name for name, one in self.columns.items() if one.kinds == {"list", "string"} and name not in several]
        return [
            *(f"`{name}` holds values of several types, read as the texts that were written" for name in several),
            *(f"`{name}` holds single values among lists, read as lists of one" for name in among),
        ]


def _array(values: Sequence[Any], type: pa.DataType) -> pa.Array:
    if pa.types.is_string(type):
        return pa.array([_written(value) for value in values], type)
    if type == pa.list_(pa.string()):
        return pa.array([[value] if isinstance(value, str) else value for value in values], type)
    return pa.array(values, type)


def _written(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Written):
        return value.text
    return json.dumps(value, ensure_ascii=False)
