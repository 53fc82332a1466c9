"""Translation memories (TMX): units of the same text in two languages, as the columns source and target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pyarrow as pa
from datasets import Features, Value

from hftransfer.data.formats.base import ROWS, Form, Settings
from hftransfer.errors import UserError

CHUNK = 1 << 18  # bytes that are parsed at a time
CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})  # inside a segment: the marks of another format, no text
LANGUAGE = ("xml:lang", "lang")  # of TMX 1.4, and of 1.1
COLUMNS = ("source", "target")
NAMED = 6  # languages in a message


@dataclass(frozen=True)
class Memory(Form):
    """How one file is read: the languages of its two columns."""

    path: Path
    languages: tuple[str, str]
    regions: bool  # whether `en-GB` and `en-US` are two languages
    guesses: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def features(self) -> Features:
        """Two columns of text."""
        return Features(dict.fromkeys(COLUMNS, Value("string")))

    def tables(self) -> Iterator[pa.Table]:
        """Yield the units that have both languages, in parts."""
        units = (_told(unit, self.regions) for unit in _Units(self.path))
        found = (tuple(unit.get(one) for one in self.languages) for unit in units)
        whole = (pair for pair in found if all(pair))
        while part := list(islice(whole, ROWS)):
            yield pa.table([pa.array(one, pa.string()) for one in zip(*part, strict=True)], names=list(COLUMNS))


def look(path: Path, settings: Settings) -> Memory:
    """Return how a file is read; UserError where it is no TMX, or its units are not of two languages."""
    reader = _Units(path)
    units = [tuple(unit) for unit in reader]  # the languages alone
    counts = Counter(language for unit in units for language in unit)
    regions = len(counts) <= len(COLUMNS)
    if not regions:  # what is written in more ways may still be two languages
        units = [tuple(dict.fromkeys(map(_primary, unit))) for unit in units]
        counts = Counter(language for unit in units for language in unit)
    if len(counts) != len(COLUMNS):
        told = ", ".join(f"{name} in {n:,}" for name, n in counts.most_common(NAMED)) or "none"
        raise UserError(
            f"{path.name} needs units in two languages", f"of {len(units):,} units found {told}",
            "Export the two that are meant.",
        )  # fmt: skip
    declared = _plain(reader.declared) if regions else _primary(reader.declared)
    first = declared if declared in counts else next(iter(counts))
    other = next(one for one in counts if one != first)
    why = "which the file declares as its source" if declared in counts else "which stands first"
    half = sum(len(unit) < len(COLUMNS) for unit in units)
    left = f"{path.name}: {half:,} of {len(units):,} units have one language alone, and are left out"
    guess = f"{path.name}: from {first}, {why}, to {other}"
    return Memory(path, (first, other), regions, (guess,), (left,) if half else ())


def _told(unit: Mapping[str, str], regions: bool) -> dict[str, str]:
    """Return the texts of a unit by language, the first of each."""
    if regions:
        return dict(unit)
    found: dict[str, str] = {}
    for language, text in unit.items():
        found.setdefault(_primary(language), text)
    return found


def _plain(language: str) -> str:
    return language.strip().replace("_", "-").lower()


def _primary(language: str) -> str:
    return _plain(language).partition("-")[0]


class _Units:
    """The units of a file, each as its texts by language; nothing that a document declares is ever opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.declared = ""  # `srclang` of the header
        self._root = self._language = ""
        self._unit: dict[str, str] = {}
        self._text: list[str] | None = None
        self._codes = 0
        self._whole: list[dict[str, str]] = []

    def __iter__(self) -> Iterator[dict[str, str]]:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._said
        try:
            with open(self.path, "rb") as file:
                while chunk := file.read(CHUNK):
                    parser.Parse(chunk, False)
                    yield from self._taken()
                parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise UserError(f"{self.path.name} must be readable as TMX", str(error), "Export it again.") from error
        yield from self._taken()

    def _taken(self) -> list[dict[str, str]]:
        found, self._whole = self._whole, []
        return found

    def _doctype(self, name: str, place: Any, public: Any, inside: int) -> None:
        if inside:  # the usual reference to tmx14.dtd has none, and is not followed
            raise UserError(
                "a TMX file that declares nothing of its own is needed",
                f"{self.path.name} has declarations within its DOCTYPE, which may grow without end", "Remove them.",
            )  # fmt: skip

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if not self._root:
            self._root = name
            if name != "tmx":
                raise UserError(f"{self.path.name} must be TMX", f"its root is <{name}>", "Export it as TMX.")
        elif name == "header":
            self.declared = attributes.get("srclang", "")
        elif name == "tu":
            self._unit = {}
        elif name == "tuv":
            self._language = _plain(next((attributes[one] for one in LANGUAGE if one in attributes), ""))
        elif name == "seg":
            self._text, self._codes = [], 0
        elif name in CODES:
            self._codes += 1

    def _end(self, name: str) -> None:
        if name == "seg" and self._text is not None:
            text = " ".join("".join(self._text).split())
            if self._language and text:
                self._unit.setdefault(self._language, text)
            self._text = None
        elif name == "tu" and self._unit:
            self._whole.append(self._unit)
        elif name in CODES:
            self._codes -= 1

    def _said(self, text: str) -> None:
        if self._text is not None and not self._codes:
            self._text.append(text)
