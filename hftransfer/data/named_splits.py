"""What a source gives: its splits under its own names, and which split a name speaks of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


def named_as_train(splits: Mapping[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """Return splits whose columns are called as train's are where only capitals or signs differ, and what was guessed.

    `Label` is then no column that train lacks, with `label` missing, which would hide what the rows are.
    """
    wanted = list(splits["train"].rows.features or {}) if "train" in splits else []
    found, guesses = dict(splits), []
    for use, split in splits.items():
        own = list(split.rows.features or {})
        mine = {name: [other for other in own if words(other) == words(name)] for name in wanted if name not in own}
        twins = {name: others[0] for name, others in mine.items() if words(name) and len(others) == 1}
        called = Counter(twins.values())
        twins = {name: other for name, other in twins.items() if other not in wanted and called[other] == 1}
        if twins:
            found[use] = replace(split, rows=split.rows.rename_columns({other: name for name, other in twins.items()}))
            guesses += [f"{use}: its column `{other}` is `{name}`, as train calls it" for name, other in twins.items()]
    return found, guesses


def hidden(use: str, split: Split, column: str) -> str:
    """Return the warning that nothing says what the rows of a split are: what it has in place of the column."""
    own = list(split.rows.features or {})
    lacks = f": it has no column `{column}` but {', '.join(own[:8])}" if own and column not in own else ""
    return f"the labels of {use} are hidden{lacks}; so it is not used as {use}"


def split_word(word: str) -> str | None:
    """Return the split that one word (in lower case) speaks of: train, testset, val2017."""
    found = WORD.fullmatch(word)
    return next(split for split, names in SPLITS.items() if found["name"] in names) if found else None


def split_of(name: str) -> str | None:
    """Return the split that a name speaks of in whole words, or None when it is none or several."""
    found = {split for word in words(name) if (split := split_word(word))}
    return found.pop() if len(found) == 1 else None
