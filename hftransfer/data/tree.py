"""The files of a folder: links followed within limits, and what is not for reading, each with its why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from hftransfer.errors import with_rows
from hftransfer.safety.fence import VARIABLE as FENCED
from hftransfer.safety.pictures import suffix_of

Parts: TypeAlias = tuple[str, ...]  # a path relative to the folder

# what systems and editors leave in folders: never somebody's data
SYSTEM_FOLDERS = frozenset({"__macosx", ".ipynb_checkpoints", "__pycache__", ".git", ".svn", "@eadir", ".thumbnails"})
SYSTEM_FILES = frozenset({
    "thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r", ".gitkeep", ".gitignore", "dicomdir",
})  # fmt: skip
# what is written about data, not data
NOTES = frozenset({"readme", "license", "licence", "copying", "changelog", "citation", "notice"})
NOTE_SUFFIXES = frozenset({".md", ".rst"})
SHOWN = 6  # folders that a sentence names
HIDDEN = "hidden"


@dataclass(frozen=True)
class Left:
    """A file or folder that is not read, and why, in a word or a few."""

    path: Parts
    why: str


@dataclass
class Tree:
    """The files of a folder in order, what was left out, and the links to folders that were followed."""

    root: Path
    files: list[Parts] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    system: list[Parts] = field(default_factory=list)  # files of no person's making
    notes: list[Parts] = field(default_factory=list)  # files about the data
    followed: list[tuple[Parts, str]] = field(default_factory=list)
    suffixes: dict[Parts, str] = field(default_factory=dict)  # of those that were asked for

    def path(self, parts: Parts) -> Path:
        """Return where a file is."""
        return self.root.joinpath(*parts)

    def suffix(self, parts: Parts) -> str:
        """Return a file's suffix in small letters, that of DICOM also where only its content says so."""
        if parts not in self.suffixes:
            self.suffixes[parts] = suffix_of(self.path(parts))
        return self.suffixes[parts]

    def guesses(self) -> Iterator[str]:
        """Say which links were followed, and which files are no data."""
        if self.followed:
            named = [f"{'/'.join(parts)} -> {target}" for parts, target in self.followed]
            yield f"linked folders are read: {_some(named)}"
        system = [_system_name(parts) for parts in self.system]
        for kind, names in (("of the system", system), ("about the data", [parts[-1] for parts in self.notes])):
            if names:
                counted = _some([name for name, _ in Counter(names).most_common()])
                yield f"{len(names):,} {'file' if len(names) == 1 else 'files'} {kind} passed over: {counted}"


def walk(root: Path, most: int | None = None) -> Tree:
    """Find the files of a folder, sorted. Every folder is read once, however many links lead to it.

    In a process that works for a stranger no link is followed out of the folder. With `most`, no further folder is
    entered once so many files are known.
    """
    tree = Tree(root)
    seen: dict[tuple[int, int], Parts] = {}
    waiting: list[Parts] = []
    _enter(tree, (), seen, waiting, most)
    while waiting:
        _follow(tree, waiting.pop(0), seen, waiting, most)
    tree.files.sort()
    return tree


def _enter(tree: Tree, start: Parts, seen: dict[tuple[int, int], Parts], links: list[Parts], most: int | None) -> None:
    """Add what lies in a folder and the real folders below it; links to folders wait until those are all known."""
    waiting = [start]
    while waiting and (most is None or len(tree.files) < most):
        parts = waiting.pop()
        place = tree.path(parts)
        try:
            found = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            tree.left.append(Left(parts, "may not be opened"))
            continue
        seen[found.st_dev, found.st_ino] = parts
        for entry in entries:
            inner = (*parts, entry.name)
            if _of_system(entry.name):
                tree.system += _below(entry, inner)
            elif _is_note(entry):
                tree.notes.append(inner)
            elif entry.name.startswith((".", "__")):
                tree.left += [Left(path, HIDDEN) for path in _below(entry, inner)]
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(inner)
            elif entry.is_symlink() and entry.is_dir():
                links.append(inner)
            else:
                why = _unfit(entry, tree.root)
                tree.files.append(inner) if why is None else tree.left.append(Left(inner, why))


def _follow(
    tree: Tree, parts: Parts, seen: dict[tuple[int, int], Parts], links: list[Parts], most: int | None
) -> None:
    place = tree.path(parts)
    try:
        found = place.stat()
    except OSError:
        tree.left.append(Left(parts, "a link that leads nowhere"))
        return
    known = seen.get((found.st_dev, found.st_ino))
    if known is not None:
        tree.left.append(Left(parts, f"a link to {'/'.join(known) or 'the folder itself'}"))
    elif leads_out(place, tree.root):
        tree.left.append(Left(parts, "a link out of the folder"))
    else:
        tree.followed.append((parts, os.path.realpath(place)))
        _enter(tree, parts, seen, links, most)


def _unfit(entry: os.DirEntry[str], root: Path) -> str | None:
    """Return why a file is not read, None where nothing is against it."""
    try:
        if entry.is_symlink() and not os.path.exists(entry.path):
            return "a link that leads nowhere"
        if not entry.is_file():
            return "no file"  # a socket, a device
    except OSError:
        return "may not be opened"
    return "a link out of the folder" if entry.is_symlink() and leads_out(Path(entry.path), root) else None


def leads_out(place: Path, root: Path) -> bool:
    """Tell whether a path leads out of a folder, in a process that may not follow it there."""
    return FENCED in os.environ and not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(root))


def _of_system(name: str) -> bool:
    return name.lower() in SYSTEM_FILES | SYSTEM_FOLDERS or name.startswith("._")


def _is_note(entry: os.DirEntry[str]) -> bool:
    stem, suffix = os.path.splitext(entry.name.lower())
    return (stem in NOTES or suffix in NOTE_SUFFIXES) and entry.is_file()


def _system_name(parts: Parts) -> str:
    return next(part for part in parts if _of_system(part))


def _below(entry: os.DirEntry[str], parts: Parts) -> list[Parts]:
    """Return the files at and below an entry that is passed over."""
    if not entry.is_dir(follow_symlinks=False):
        return [parts]
    inside = [(folder, name) for folder, _, names in os.walk(entry.path) for name in names]
    return [
        (*parts, *os.path.relpath(os.path.join(folder, name), entry.path).split(os.sep)) for folder, name in inside
    ]


def unread(left: Iterable[Left], read: Collection[Parts], base: Parts = ()) -> list[str]:
    """Say what was left out, by folder below `base`, against what was read there; nothing where nothing was."""
    left = sorted(left, key=lambda one: one.path)
    if not left:
        return []
    of = Counter(parts[:-1] for parts in read)
    by_folder: dict[Parts, list[Left]] = {}
    for one in left:
        by_folder.setdefault(one.path[:-1], []).append(one)
    # a folder of which nothing is read comes first: a class may be missing
    order = sorted(by_folder.items(), key=lambda pair: (of[pair[0]] > 0, pair[0] == base, -len(pair[1])))
    named = [f"{_called(folder, base)} {_share(found, of[folder])}" for folder, found in order]
    said = f"not read: {len(left):,} of {len(left) + len(read):,} files: {_some(named)}"
    return [with_rows(said, [_called(one.path, base) for one in left])]


def _share(left: list[Left], read: int) -> str:
    whys = Counter(one.why for one in left)
    why = ", ".join(f"{count:,} {why}" if len(whys) > 1 else why for why, count in whys.most_common(3))
    return f"{len(left):,} of {len(left) + read:,} ({why})" if read else f"all {len(left):,} ({why})"


def _called(path: Parts, base: Parts) -> str:
    return "/".join(path[len(base) :] if path[: len(base)] == base else path) or "at the top"


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more:,} more" if more > 0 else "")


def sort_out(tree: Tree, suffixes: Container[str]) -> tuple[list[Parts], list[Left]]:
    """Return the files that have one of the suffixes, and the others with their suffix as the reason."""
    good, other = [], []
    for parts in tree.files:
        suffix = tree.suffix(parts)
        if suffix in suffixes:
            good.append(parts)
        else:
            other.append(Left(parts, suffix or "no suffix"))
    return good, other
