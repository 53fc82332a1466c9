"""Table files of one format, read as one table: each looked at, then read as it was found to be."""

from __future__ import annotations

import glob
import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset
from datasets.builder import Key
from datasets.exceptions import DatasetsError

from hftransfer.data.formats.base import Form, Settings, empty
from hftransfer.data.formats.conll import is_conll
from hftransfer.data.suffixes import BUILDERS
from hftransfer.errors import UserError

Rows: TypeAlias = Dataset | IterableDataset

NO_ROWS = "rows are needed"  # what is wanted of a table that has none


def format_of(path: Path) -> str | None:
    """Return the module of `formats` that reads a file; None where none does."""
    found = BUILDERS.get(path.suffix.lower())
    return "conll" if found is None and path.suffix.lower() == ".txt" and is_conll(path) else found


@dataclass(frozen=True)
class Table:
    """The rows of table files, what is to be said of them, and what was guessed about their form."""

    rows: Rows
    warnings: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()


def read_tables(files: Sequence[Path], streaming: bool, settings: Settings = Settings()) -> Table:  # noqa: B008
    """Read files of one format as one table; their columns are joined by name."""
    for path in files:
        if path.stat().st_size == 0:
            raise empty(path)
    formats = sorted({str(format_of(path)) for path in files})
    if len(formats) > 1:
        raise UserError(
            "the files of one split must have one format",
            ", ".join(path.name for path in files[:6]),
            "Name one of them in data.source.",
        )
    module = importlib.import_module(f"hftransfer.data.formats.{formats[0]}")
    with readable(", ".join(path.name for path in files[:6])), empties(files[0]):
        forms: list[Form] = [module.look(path, settings) for path in files]
        features = joined(forms)
        # explicit names, escaped: the builder would read patterns and split names into them
        builder = _reader(files, forms, features)
        rows: Rows
        if streaming:
            rows = builder.as_streaming_dataset(split="train")
        else:
            builder.download_and_prepare()
            rows = builder.as_dataset(split="train")
    warnings = tuple(warning for form in forms for warning in form.warnings)
    return Table(rows, warnings, tuple(dict.fromkeys(guess for form in forms for guess in form.guesses)))


def _reader(files: Sequence[Path], forms: Sequence[Form], features: Features) -> Reader:
    """Return what reads files; UserError where what it read can be kept nowhere."""
    names = [glob.escape(str(path)) for path in files]
    try:
        return Reader(data_files={"train": names}, forms=tuple(forms), features=features)
    except OSError as error:
        raise UserError(
            "a folder for what is read is needed", f"{error.filename}: {error.strerror}",
            "Set HF_HOME to a folder that can be written.",
        ) from error  # fmt: skip


def joined(forms: Sequence[Form]) -> Features:
    """Return the columns of all files, in the order of the first; UserError where they are not the same."""
    first = forms[0]
    for form in forms[1:]:
        missing = [name for name in first.features if name not in form.features]
        more = [name for name in form.features if name not in first.features]
        if missing or more:
            raise UserError(
                "the files of one split must have the same columns",
                f"{first.path.name} has {', '.join(first.features)}, {form.path.name} has {', '.join(form.features)}",
                "Make them alike, or name one file in data.source.",
            )
        for name, feature in first.features.items():
            if feature != form.features[name]:
                raise UserError(
                    f"the column `{name}` must have one type in all files of a split",
                    f"it is {feature} in {first.path.name}, {form.features[name]} in {form.path.name}",
                    "Make them alike, or name one file in data.source.",
                )
    return first.features


@dataclass
class Forms(datasets.BuilderConfig):
    """How each file is read."""

    forms: tuple[Form, ...] = ()
    features: Features = field(default_factory=Features)


class Reader(datasets.ArrowBasedBuilder):
    """Files as their forms read them; `datasets` keeps what was read on disk, or streams it."""

    BUILDER_CONFIG_CLASS = Forms

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.config.features)

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        return [datasets.SplitGenerator(name="train", gen_kwargs={"forms": list(self.config.forms)})]

    def _generate_shards(self, forms: list[Form]) -> Iterator[str]:
        yield from (str(form.path) for form in forms)

    def _generate_tables(self, forms: list[Form]) -> Iterator[tuple[Key, pa.Table]]:
        schema = self.config.features.arrow_schema
        for shard, form in enumerate(forms):
            for number, table in enumerate(form.tables()):
                yield Key(shard, number), table.select(schema.names).cast(schema)


@contextmanager
def empties(path: Path) -> Iterator[None]:
    """Turn what `datasets` raises for a table without rows into a UserError."""
    try:
        yield
    except ValueError as error:
        if "corresponds to no data" not in str(error):
            raise
        raise UserError(NO_ROWS, f"{path} has none below the names of its columns", "Check it.") from error


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what is raised for damaged files into a UserError that names the file."""
    try:
        yield
    except (DatasetsError, pa.ArrowException, json.JSONDecodeError, UnicodeDecodeError) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        cause = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{name} must be readable", cause[:300], "Mend the file.") from error
