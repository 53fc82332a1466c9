"""Lists beside files in folders of classes that say which files are whose split: testing_list.txt, meta/test.txt."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hftransfer.data.layout import ALL, Layout
from hftransfer.data.named_files import Finder
from hftransfer.data.named_splits import split_of
from hftransfer.data.tree import Left, Parts, Tree
from hftransfer.errors import UserError, with_rows

SUFFIXES = frozenset({"", ".txt", ".lst", ".list"})
MOST = 50_000_000  # bytes of a list


def divide(tree: Tree, laid: Layout, suffixes: Collection[str]) -> list[Parts]:
    """Put the files of a layout that has no splits into those that lists tell, and return the lists.

    Files in no list are for training, but where a list says which are. UserError for a file in two lists.
    """
    if set(laid.splits) != {ALL}:
        return []
    held = {tree.path(parts): parts for parts in laid.splits[ALL]}
    split_of_file: dict[Parts, str] = {}
    lists: dict[Parts, str] = {}
    for parts in sorted(tree.files):
        use = split_of(Path(parts[-1]).stem) if tree.suffix(parts) in SUFFIXES else None
        named = None if use is None else _named(tree.path(parts), tree.root, held, suffixes)
        if use is None or not named:
            continue
        for one in named:
            if split_of_file.setdefault(one, use) != use:
                raise UserError(
                    "each file stands in the list of one split",
                    f"{'/'.join(one)} stands in those of {use} and {split_of_file[one]}", "Mend the lists.",
                )  # fmt: skip
        lists[parts] = use
    if not set(lists.values()) - {ALL}:
        return []
    labels = laid.splits.pop(ALL)
    told = ALL in lists.values()
    for one, label in labels.items():
        if one in split_of_file or not told:
            laid.splits[split_of_file.get(one, ALL)][one] = label
        else:
            laid.left.append(Left(one, "in no list of a split"))
    names = ", ".join(f"{'/'.join(parts)} lists {use}" for parts, use in lists.items())
    laid.guesses.append(f"splits are told by lists: {names} (data.train, data.validation, data.test)")
    return list(lists)


def _named(path: Path, root: Path, held: dict[Path, Parts], suffixes: Collection[str]) -> list[Parts]:
    """Return the files that the lines of a list name; none where a line names no file that is held."""
    if path.stat().st_size > MOST:
        return []
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return []
    finder = Finder(root, suffixes)
    if not lines or not finder.found(lines[0]):
        return []
    found = [held.get(finder.place(line)) for line in lines]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        if 2 * len(known) > len(found):
            raise UserError(
                f"every line of {path.name} must name a file", with_rows(
                    f"{len(found) - len(known):,} of {len(found):,} name none",
                    [line for line, one in zip(lines, found, strict=True) if one is None],
                ), "Mend the list, or take it out of the folder.",
            )  # fmt: skip
        return []
    return known
