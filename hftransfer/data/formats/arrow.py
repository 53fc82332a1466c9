"""Parquet, Arrow and Feather files: typed already, but for types that only some libraries know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from datasets import Features
from datasets.table import table_cast

from hftransfer.data.formats.base import ROWS, Form, Settings

LOOKED_AT = 1000  # values that tell bytes of texts from others


@dataclass(frozen=True)
class Typed(Form):
    """How one file is read."""

    path: Path
    features: Features
    guesses: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def tables(self) -> Iterator[pa.Table]:
        """Yield the file's own parts, in types that everything behind knows."""
        for batch in _batches(self.path):
            table = pa.Table.from_batches([batch])
            plain = pa.schema([pa.field(name, self._plain(name, table)) for name in table.column_names])
            yield table_cast(table.cast(plain), self.features.arrow_schema)

    def _plain(self, name: str, table: pa.Table) -> pa.DataType:
        known = plain_type(table.schema.field(name).type)
        wanted = self.features.arrow_schema.field(name).type
        return wanted if pa.types.is_binary(known) and pa.types.is_string(wanted) else known


def look(path: Path, settings: Settings) -> Typed:
    """Return how a file is read: bytes that are texts become texts, decimals are read as they are written."""
    schema = _schema(path)
    found, guesses = [], []
    first = next(_batches(path), None)
    for field in schema:
        type = plain_type(field.type)
        if pa.types.is_binary(type) and first is not None and _are_texts(first.column(field.name)):
            type = pa.string()
            guesses.append(f"{path.name}: the bytes of `{field.name}` are UTF-8, read as text")
        elif pa.types.is_decimal(field.type):
            guesses.append(f"{path.name}: the decimals of `{field.name}` are read as they are written")
        found.append(field.with_type(type))
    return Typed(path, Features.from_arrow_schema(pa.schema(found, schema.metadata)), tuple(guesses))


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _schema(path: Path) -> pa.Schema:
    if _is_parquet(path):
        return pa.parquet.read_schema(path)
    with pa.memory_map(str(path)) as file:
        try:
            return pa.ipc.open_stream(file).schema
        except pa.ArrowInvalid:
            return pa.ipc.open_file(file).schema


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if _is_parquet(path):
        with pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=ROWS)
        return
    with pa.memory_map(str(path)) as file:
        try:
            yield from pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(file)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))


def plain_type(type: pa.DataType) -> pa.DataType:
    """Return the type that holds the same values and is known to everything behind."""
    kinds = pa.types
    if kinds.is_dictionary(type):
        return plain_type(type.value_type)
    if kinds.is_string_view(type) or kinds.is_decimal(type):
        return pa.string()
    if kinds.is_binary_view(type) or kinds.is_large_binary(type) or kinds.is_fixed_size_binary(type):
        return pa.binary()
    if kinds.is_float16(type):
        return pa.float32()
    if kinds.is_list(type) or isinstance(type, pa.ListViewType | pa.LargeListViewType):
        return pa.list_(plain_type(type.value_type))
    if kinds.is_large_list(type):
        return pa.large_list(plain_type(type.value_type))
    if kinds.is_struct(type):
        return pa.struct([field.with_type(plain_type(field.type)) for field in type])
    return type


def _are_texts(values: pa.Array) -> bool:
    some = values.drop_null().slice(0, LOOKED_AT).to_pylist()
    try:
        texts = [value.decode("utf-8") for value in some]
    except UnicodeDecodeError:
        return False
    return bool(texts) and all(sign.isprintable() or sign in "\t\r\n" for text in texts for sign in text[:LOOKED_AT])
