"""CoNLL files: a word a line with its tags in columns, sentences divided by blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
from datasets import Features, List, Value

from hftransfer.data.formats.base import ROWS, Form, Settings, empty
from hftransfer.data.formats.encodings import Text
from hftransfer.data.formats.encodings import look as look_at_text
from hftransfer.errors import UserError

NAMES = {
    2: ("tokens", "ner_tags"), 3: ("tokens", "pos_tags", "ner_tags"),
    4: ("tokens", "pos_tags", "chunk_tags", "ner_tags"),  # CoNLL-2003
    10: ("id", "tokens", "lemmas", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"),  # CoNLL-U
}  # fmt: skip
TAG = re.compile(r"O|[BIESLU]-.+")


@dataclass(frozen=True)
class Sentences(Form):
    """How one file is read."""

    path: Path
    text: Text
    columns: tuple[str, ...]
    guesses: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def features(self) -> Features:
        """A list of strings in every column."""
        return Features({name: List(Value("string")) for name in self.columns})

    def tables(self) -> Iterator[pa.Table]:
        """Yield the sentences in parts."""
        schema = self.features.arrow_schema
        found = sentences(self.text, len(self.columns))
        while part := list(islice(found, ROWS)):
            lists = [[list(column) for column in zip(*lines, strict=True)] for lines in part]
            yield pa.table(
                [pa.array([one[i] for one in lists], field.type) for i, field in enumerate(schema)],
                schema=schema.remove_metadata(),
            )


def look(path: Path, settings: Settings) -> Sentences:
    """Return how a file is read; UserError names the first line with another number of columns."""
    text = look_at_text(path, settings)
    width = next((len(lines[0]) for lines in sentences(text, 0)), 0)
    if not width:
        raise empty(path)
    guesses = text.guesses
    if isinstance(settings.header, tuple):
        names = settings.header
    else:
        names = NAMES.get(width) or ("tokens", *(f"column_{place}" for place in range(2, width)), "ner_tags")
        guesses = (*guesses, f"{path.name}: the columns are called {', '.join(names)} (data.header=[...] names them)")
    if len(names) != width or width < 2:
        raise UserError(
            f"{path.name} needs a word and its tags in each line", f"the first line has {width} columns"
            + (f", data.header names {len(names)}" if settings.header else ""), "Mend the file, or name them all.",
        )  # fmt: skip
    for _ in sentences(text, width):
        pass
    return Sentences(path, text, tuple(names), guesses, text.warnings)


def is_conll(path: Path) -> bool:
    """Tell whether a text file reads like one: lines of a few columns of which the last are tags, and blank lines."""
    try:
        sample = look_at_text(path, Settings()).sample()[0]
    except UserError:
        return False
    lines = [line.split() for line in re.split(r"\r?\n", sample)]
    full = [line for line in lines if line and not line[0].startswith("-DOCSTART-")]
    return bool(full) and len({*map(len, full)}) == 1 and len(full[0]) > 1 and all(TAG.fullmatch(f[-1]) for f in full)


def sentences(text: Text, width: int) -> Iterator[list[list[str]]]:
    """Yield the lines of each sentence as lists of columns; UserError for another `width`, where it is not 0."""
    found: list[list[str]] = []
    with open(text.path, encoding=text.encoding, errors=text.errors) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                if found:
                    yield found
                found = []
                continue
            parts = line.split("\t") if "\t" in line else line.split(" ") if "  " not in line else line.split()
            parts = [part for part in parts if part] if "\t" not in line else parts
            if parts[0] == "-DOCSTART-" or _is_note(line, parts, width) or _is_no_word(parts):
                continue
            if width and len(parts) != width:
                raise UserError(
                    f"every line of {text.path.name} needs as many columns as the first",
                    f"line {number} has {len(parts)}, the first has {width}", "Mend that line.",
                )  # fmt: skip
            found.append(parts)
            width = width or len(parts)
    if found:
        yield found


def _is_note(line: str, parts: list[str], width: int) -> bool:
    return line.startswith("# ") and (width == 10 or len(parts) != width or not TAG.fullmatch(parts[-1]))


def _is_no_word(parts: list[str]) -> bool:
    """Tell whether a line of CoNLL-U stands for several words, or for one that is not written."""
    return len(parts) == 10 and re.fullmatch(r"[0-9]+[-.][0-9]+", parts[0]) is not None
