"""What a source gives: its splits under its own names, and which split a name speaks of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.data.columns import words

if TYPE_CHECKING:
    from hftransfer.data.tables import Rows

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "eval", "evaluation"),
    "test": ("test", "testing"),
}
WORD = re.compile(
    rf"(?P<name>{'|'.join(name for names in SPLITS.values() for name in names)})(set|data|images?|imgs?|files?|\d+)*"
)


@dataclass(frozen=True)
class Source:
    """The splits that a source has, under its own names."""

    splits: dict[str, Rows]
    folder: Path | None = None  # that names in it and beside it are relative to
    warnings: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()  # what was not said and had to be found out, each with what overrules it
    files: dict[str, str] = field(default_factory=dict)  # the file of a split that is one file
    asides: tuple[str, ...] = ()  # what may be why, where the rows cannot be used
    offers: tuple[str, ...] = ()  # what would tell a class where nothing does
    settings: Mapping[str, Any] = field(default_factory=dict)  # of `data`, that lie beside the rows
    by_paths: bool = False  # whether classes were looked for in the paths of files


@dataclass(frozen=True)
class Split:
    """One split that is used, the name that its row ids begin with, and where its images lie."""

    rows: Rows
    name: str
    folder: Path | None


@dataclass(frozen=True)
class Picked:
    """The splits of a source that are used, as train, validation and test, and what there is to say of them."""

    splits: dict[str, Split]
    warnings: tuple[str, ...]
    guesses: tuple[str, ...]
    asides: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def split_word(word: str) -> str | None:
    """Return the split that one word (in lower case) speaks of: train, testset, val2017."""
    found = WORD.fullmatch(word)
    return next(split for split, names in SPLITS.items() if found["name"] in names) if found else None


def split_of(name: str) -> str | None:
    """Return the split that a name speaks of in whole words, or None when it is none or several."""
    found = {split for word in words(name) if (split := split_word(word))}
    return found.pop() if len(found) == 1 else None
