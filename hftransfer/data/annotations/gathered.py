"""Pictures with what was drawn on them, as files tell it: each picture once, by the file that tells most of it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer.answers.base import Answer
from hftransfer.data.annotations import exports, placing
from hftransfer.data.annotations.drawn import Drawn, Form, Picture, Thing
from hftransfer.data.named_files import Finder
from hftransfer.data.named_splits import Source
from hftransfer.errors import with_rows
from hftransfer.safety.pictures import SUFFIXES

FEW = 5  # classes that a warning names


@dataclass(frozen=True)
class Row:
    """A picture by its file; `key` tells it from others of its split, whether its file is there or not."""

    file: str
    picture: Picture
    key: str


class Pictures:
    """Pictures with what was drawn on them, by split, as files of one form tell them."""

    def __init__(self, root: Path, form: Form) -> None:
        self.root, self.form = root, form
        self.splits: dict[str, list[Row]] = defaultdict(list)
        self.warnings: list[str] = []
        self.guesses: list[str] = []
        self.known = Finder(root, SUFFIXES)
        self.found = 0
        self.last: Pictures | None = None  # part that was begun

    def add(self, split: str | None, name: str, picture: Picture, beside: Path | None = None) -> None:
        """Add a picture by the name of its file, which may lie beside the file that names it."""
        near = [] if beside is None else [beside.parent / name, beside.parent / Path(name).name]
        place = next((one for one in near if one.is_file()), None) or self.known.place(name)
        there = place.is_file()
        self.found += there
        key = str(place) if there or beside is None else str(near[0])
        self.splits[split or "train"].append(Row(str(place), picture, os.path.normpath(key)))

    def part(self) -> Pictures:
        """Return a place for the pictures of one of several files."""
        made = Pictures(self.root, self.form)
        if self.known.index is None and self.last is not None:
            self.known.index = self.last.known.index  # the folder is looked through once
        made.known.index, self.last = self.known.index, made
        return made

    def take(self, part: Pictures) -> None:
        """Add the pictures of one of several files."""
        for split, rows in part.splits.items():
            self.splits[split] += rows
        self.warnings += part.warnings
        self.guesses += part.guesses
        self.known.missing += part.known.missing
        self.known.places += part.known.places
        self.found += part.found

    def things(self) -> list[Thing]:
        """Return all that was drawn."""
        return [thing for rows in self.splits.values() for row in rows for thing in row.picture.things or ()]

    def keys(self) -> list[tuple[str, str]]:
        """Return the split and the key of each picture."""
        return [(split, row.key) for split, rows in self.splits.items() for row in rows]

    def source(self, name: str) -> Source:
        """Return them as a source; UserError where none of the pictures is there."""
        if not self.found:
            raise exports.refuse_without_pictures(name)
        rows: dict[str, Any] = {}
        twice: list[str] = []
        for split, every in self.splits.items():
            held = _each_once(every)
            kept = {id(row) for row in held}
            twice += [os.path.basename(row.key) for row in every if id(row) not in kept]
            drawn = Drawn([row.picture for row in held], self.form)
            rows[split] = placing.as_rows([row.file for row in held], drawn)
        warnings = [*self.warnings, *self.known.lost(name)]
        if twice:
            said = f"{len(twice):,} annotations are of pictures that have one: the first that says something is read"
            warnings.append(with_rows(said, twice))
        return Source(rows, self.root, tuple(warnings), (*self.guesses, *self.known.said(name)))

    def left(self, files: Sequence[Path]) -> list[str]:
        """Return the pictures among files that none of these is, but for masks and copies of them by their names."""
        keys = {key for _, key in self.keys()}
        suffixes: dict[str, set[str]] = defaultdict(set)
        for key in keys:
            stem, suffix = os.path.splitext(os.path.basename(key))
            suffixes[stem].add(suffix.lower())
        left = [path for path in files if path.suffix.lower() in SUFFIXES and os.path.normpath(path) not in keys]
        # Pascal VOC's masks are called as its pictures are, with a suffix of their own
        left = [path for path in left if not suffixes.get(path.stem, set()) - {path.suffix.lower()}]
        return [path.relative_to(self.root).as_posix() for path in left]


def _each_once(rows: Sequence[Row]) -> list[Row]:
    """Return rows each of another picture: the first of each that tells what is on it, else the first."""
    best: dict[str, Row] = {}
    for row in rows:
        first = best.setdefault(row.key, row)
        if first.picture.things is None and row.picture.things is not None:
            best[row.key] = row
    return list(best.values())


def together(made: Pictures, parts: Mapping[str, Pictures], asked: Answer[Any]) -> None:
    """Add the pictures of several files to those that are made: what is of the same pictures is read once.

    Where files of one split name the same pictures, that one is read which tells most of what the answer asked for
    learns: single things where it learns such, then the most classes, then the most things. Of the other nothing is
    read where most of its pictures are there: each has another truth.
    """
    classes = {name: _classes(part, asked) for name, part in parts.items()}
    ranked = sorted(parts, key=lambda name: _rank(parts[name], classes[name], asked), reverse=True)
    owner: dict[tuple[str, str], str] = {}
    said, dropped = [], set()
    for name in ranked:
        keys = parts[name].keys()
        shared = Counter(owner[key] for key in keys if key in owner)
        for first, count in shared.most_common(1):
            if 2 * shared.total() >= len(keys):
                dropped.add(name)
                said.append(_not_read(name, first, sorted(set(classes[name]) - set(classes[first]))))
            else:
                few = f"{count:,} of its {len(keys):,} pictures" if count > 1 else f"1 of its {len(keys):,} pictures"
                said.append(f"{name}: {few} are in {first} too: read from there")
        if name not in dropped:
            _keep_new(parts[name], owner)
            owner |= {key: owner.get(key, name) for key in keys}
    made.warnings += said
    for name in parts:
        if name not in dropped:
            made.take(parts[name])


def _keep_new(part: Pictures, known: Mapping[tuple[str, str], str]) -> None:
    for split, rows in part.splits.items():
        part.splits[split] = [row for row in rows if (split, row.key) not in known]


def _classes(part: Pictures, asked: Answer[Any]) -> Counter[str]:
    """Return how many things there are of each class that can be learned."""
    return Counter(
        thing.name
        for thing in part.things()
        if thing.name is not None and (thing.outline is not None or (asked.annotated and thing.place is not None))
    )


def _rank(part: Pictures, classes: Counter[str], asked: Answer[Any]) -> tuple[bool, bool, int, int]:
    """Return how well a file fits what is asked for; COCO's file of stuff has one thing a class and picture."""
    several = False
    if asked.annotated or asked.apart:
        for row in (row for rows in part.splits.values() for row in rows):
            names = [thing.name for thing in row.picture.things or () if thing.name is not None]
            several = several or len(set(names)) < len(names)
    return bool(classes), several, len(classes), classes.total()


def _not_read(name: str, first: str, own: Sequence[str]) -> str:
    if not own:
        return f"not read beside {first}, which is of the same pictures: {name}"
    few = ", ".join(own[:FEW]) + (", ..." if len(own) > FEW else "")
    return (
        f"not read beside {first}, which is of the same pictures: {name}, with {len(own):,} classes of its own "
        f"({few}); to learn these too, join both into one file"
    )


def unread(made: Pictures, files: Sequence[Path], kind: str) -> list[str]:
    """Say which pictures among files no annotation names."""
    left = made.left(files)
    return [with_rows(f"{len(left):,} pictures are in no annotation of {kind}: not read", left)] if left else []
