"""What the folders around files mean: splits, classes, or nothing; looked at, not told by the form of names alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from hftransfer.data.columns import words
from hftransfer.data.named_splits import SPLITS, split_of, split_word
from hftransfer.data.patterns import compiled, offer
from hftransfer.data.tree import Left, Parts
from hftransfer.errors import UserError

# words beside that of a split that make no class of a folder: training_set, test_images
FILLERS = frozenset({
    "set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "pics", "photos", "texts", "text", "txt",
    "files", "split", "folder", "samples", "sample", "all", "full",
})  # fmt: skip
# folders beside split folders that are left over, whatever is in them
SPARE = frozenset({
    "pred", "predict", "prediction", "predictions", "submission", "unlabeled", "unlabelled", "unsup", "unsupervised",
    "extra", "extras", "unknown", "unused", "other", "others", "backup", "old", "tmp", "temp", "raw",
})  # fmt: skip
UNLABELLED = frozenset({"unsup", "unlabeled", "unlabelled"})  # beside classes: no class
# of a class that is likely none, where a table tells the classes
PART = re.compile(
    r"(fold|part|batch|chunk|session|shard|subset|vol|volume|disc|disk|cd|take|block)[\W_]*\d+", re.IGNORECASE
)
ALL = "train"  # the split of files that lie in none


@dataclass
class Folder:
    """A folder with the files in it and below it that are read."""

    name: str
    files: list[Parts] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def below(self) -> Iterator[Parts]:
        """Yield all files in it and below it."""
        yield from self.files
        for folder in self.folders.values():
            yield from folder.below()

    @property
    def flat(self) -> bool:
        """Whether no folder with files is in it."""
        return not self.folders


@dataclass
class Layout:
    """The class (None: none is told) of each file, by split; what is not read for where it lies; what was guessed."""

    splits: dict[str, dict[Parts, str | None]] = field(default_factory=lambda: defaultdict(dict))
    left: list[Left] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)  # what could tell the class where nothing does
    base: Parts = ()  # the folder that holds everything

    @property
    def labelled(self) -> bool:
        """Whether any file has a class."""
        return any(label is not None for files in self.splits.values() for label in files.values())

    @property
    def numbered(self) -> bool:
        """Whether the classes are called as parts are: fold1, fold2."""
        labels = {label for files in self.splits.values() for label in files.values()} - {None}
        return bool(labels) and all(PART.fullmatch(str(label)) for label in labels)


def lay_out(
    files: Sequence[Parts], pattern: str | None, named: Collection[str], called: str, *, classes: bool = True
) -> Layout:
    """Tell splits and classes from where files lie; UserError where two readings are plausible.

    `named` are the splits that the user named, `called` is what the files are, in the plural; without `classes`
    something else tells those.
    """
    top, base, stray = _unwrapped(_grown(files))
    found = Layout(base=base, left=[Left(parts, "beside the folders") for parts in stray])
    if not classes:
        parts = _splits(top, found, called, named, classes=False) or {ALL: top}
        for name, part in parts.items():
            found.splits[name] |= dict.fromkeys(part.below(), None)
        return found
    if pattern is not None and "{split}" in pattern:
        _by_pattern(found, {ALL: list(top.below())}, pattern, called)
    elif pattern is not None:
        divided = None if _takes_top(top, base, pattern) else _splits(top, found, called, named, classes=False)
        held = {name: list(part.below()) for name, part in (divided or {ALL: top}).items()}
        _by_pattern(found, held, pattern, called)
    elif (swapped := _swapped(top)) is not None:
        _by_class_first(found, swapped)
        found.left += [Left(parts, "beside the folders") for parts in top.files]
    elif divided := _splits(top, found, called, named, classes=True):
        for name, part in divided.items():
            _classes(found, name, part, called, spare=not (split_of(name) or name in named))
    else:
        _classes(found, ALL, top, called)
    if not found.labelled:
        _offer(found, called)
    return found


def _grown(files: Iterable[Parts]) -> Folder:
    top = Folder("")
    for parts in files:
        place = top
        for name in parts[:-1]:
            place = place.folders.setdefault(name, Folder(name))
        place.files.append(parts)
    return top


def unwrapped(files: Iterable[Parts]) -> Parts:
    """Return the folder that holds all files, below folders that hold nothing else."""
    return _unwrapped(_grown(files))[1]


def _unwrapped(top: Folder) -> tuple[Folder, Parts, list[Parts]]:
    """Return the folder that holds everything, as those in archives do, its path, and the few files beside it."""
    base: Parts = ()
    stray: list[Parts] = []
    while len(top.folders) == 1:
        (only,) = top.folders.values()
        if top.files and (only.flat or len(top.files) > sum(1 for _ in only.below())):
            break
        inside = {split_of(name) for name in only.folders} - {None}
        if split_of(only.name) and not (len(inside) > 1 and not only.files):
            break
        stray += top.files
        top, base = only, (*base, only.name)
    return top, base, stray


def _inner(folder: Folder, split: str | None) -> Folder:
    """Return what a split's folder holds behind folders that only repeat it: train/train, seg_test/seg_test/images."""
    while not folder.files and len(folder.folders) == 1:
        (only,) = folder.folders.values()
        again = only.name.lower() == folder.name.lower() or (split is not None and split_of(only.name) == split)
        if not again and not set(words(only.name)) <= FILLERS:
            break
        folder = only
    return folder


def _rest(name: str) -> tuple[str, ...]:
    """Return what a name says beside its split: words that could name a class."""
    found = [word for word in words(name) if split_word(word) is None and word not in FILLERS and not word.isdigit()]
    return tuple(sorted(found))


def _splits(
    top: Folder, found: Layout, called: str, named: Collection[str], *, classes: bool
) -> dict[str, Folder] | None:
    """Return the folders that are splits, by their names; None where the folders are classes.

    `classes` tells that it must be one or the other: nothing else says what the classes are.
    """
    speaking = {name: split for name in top.folders if (split := split_of(name))}
    others = [name for name in top.folders if name not in speaking]
    inner = {name: _inner(folder, speaking.get(name)) for name, folder in top.folders.items()}
    if not set(named) & set(top.folders):
        if not speaking:
            return None
        plain = _plain(speaking, classes)
        nested = [name for name in speaking if not inner[name].flat]
        several = len(set(speaking.values())) > 1
        if not plain:
            if classes and several and (nested or any(not _rest(name) for name in speaking)):
                raise _unsure(speaking, others, called, top)
            return None  # train_station and test_tube
        if classes and others and not nested:
            if several:
                raise _unsure(speaking, others, called, top)
            found.guesses.append(f"{_few(list(speaking))} is a class, as {_few(others)} are, not a split")
            return None  # a train beside a plane
        spare = all(set(words(name)) & SPARE for name in others)
        if classes and others and not several and not (spare and len(nested) == len(speaking)):
            raise _unsure(speaking, others, called, top)
        if any(name.lower() not in SPLITS[speaking[name]] for name in plain):
            named_as = ", ".join(f"{name} is {speaking[name]}" for name in plain)
            found.guesses.append(f"folders are splits: {named_as} (data.train, data.validation, data.test)")
    found.left += [Left(parts, "beside the folders") for parts in top.files]
    return inner


def _plain(speaking: Mapping[str, str], classes: bool) -> list[str]:
    """Return the names that say a split and nothing else, or nothing that differs; none where they say classes."""
    rests = {name: _rest(name) for name in speaking}
    if len(set(rests.values())) == 1:
        return list(speaking)
    if classes:
        _refuse_both_in_one(speaking, rests)
    exact = [name for name in speaking if not rests[name]]
    return exact if {speaking[name] for name in exact} == set(speaking.values()) else []


def _refuse_both_in_one(speaking: Mapping[str, str], rests: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse train_cats, train_dogs, test_cats, test_dogs, which say split and class at once."""
    of = {split: {rests[name] for name in speaking if speaking[name] == split} for split in set(speaking.values())}
    grids = list(of.values())
    if len(grids) > 1 and len(grids[0]) > 1 and () not in grids[0] and all(one == grids[0] for one in grids):
        first = next(iter(speaking))
        mark = next((mark for mark in "_-. " if mark in first), "")
        order = ("{split}", "{label}") if split_of(re.split(r"[\W_]+", first)[0]) else ("{label}", "{split}")
        raise UserError(
            "folders must say either a split or a class",
            f"{_few(list(speaking))} say both",
            f'Set data.label_pattern="{mark.join(order)}/**", or put the classes into a folder for each split.',
        )


def _unsure(speaking: Mapping[str, str], others: Sequence[str], called: str, top: Folder) -> UserError:
    sides = _few(list(speaking)) + (f" and {_few(list(others))}" if others else "")
    by_name = offer([parts[-1] for parts in top.below()])
    if not all(folder.flat for folder in top.folders.values()):
        splits = "{split}/{label}/**"
    else:
        splits = "{split}/" + by_name[0] if by_name else ""
    either = f', or data.label_pattern="{splits}" if they are splits' if splits else ""
    return UserError(
        "it must be certain whether folders are splits or classes",
        f"{sides} lie side by side, and may be either",
        f'Set data.label_pattern="{{label}}/**" if all are classes of {called}{either}; or move what is neither.',
    )


def _swapped(top: Folder) -> dict[str, dict[str, Folder]] | None:
    """Return the split folders in each class folder, where every class is divided: cats/train, cats/test."""
    if len(top.folders) < 2 or any(split_of(name) for name in top.folders):
        return None
    inside = {split_of(name) for folder in top.folders.values() for name in folder.folders}
    loose = any(folder.files or folder.flat for folder in top.folders.values())
    if loose or None in inside or not {"train"} < inside:
        return None
    divided = {name: folder.folders for name, folder in top.folders.items()}
    sets = [name for name, parts in divided.items() if any(len(part.folders) > 1 for part in parts.values())]
    if sets:
        raise UserError(
            "data.source must name one data set", f"{_few(list(divided))} are divided and hold classes each",
            "Name one of them in data.source.",
        )  # fmt: skip
    return divided


def _by_class_first(found: Layout, divided: dict[str, dict[str, Folder]]) -> None:
    for label, parts in divided.items():
        for name, folder in parts.items():
            found.splits[str(split_of(name))] |= dict.fromkeys(folder.below(), label)
    found.guesses.append(f"classes are {_few(list(divided))}, and the folders in them are splits (data.label_pattern)")


def _classes(found: Layout, split: str, part: Folder, called: str, spare: bool = False) -> None:
    """Add the files of a split, each with its class: the folder that it lies in. A spare one is likely not used."""
    loose, inside = part.files, list(part.folders.values())
    none = [folder for folder in inside if folder.name.lower() in UNLABELLED and len(inside) > 2]
    for folder in none:
        inside.remove(folder)
        found.left += [Left(parts, "no class") for parts in folder.below()]
    if not inside:
        found.splits[split] |= dict.fromkeys(loose, None)
        return
    nested = sum(1 for folder in inside for _ in folder.below())
    if len(loose) > nested and not spare:
        raise UserError(
            f"{called} must lie in a folder for each class, or all in one",
            f"{len(loose):,} lie beside the folders {_few([one.name for one in inside])}, which hold {nested:,}",
            "Move them, or set data.label_pattern to say where the class stands in their paths.",
        )
    found.left += [Left(parts, "beside the folders") for parts in loose]
    for folder in inside:
        found.splits[split] |= dict.fromkeys(folder.below(), folder.name)
    deeper = Counter(name for folder in inside for name in folder.folders)
    if deeper and not spare and not any(guess.startswith("classes are") for guess in found.guesses):
        found.guesses.append(
            f"classes are {_few([folder.name for folder in inside])}, not the folders in them ("
            f'{_few(list(deeper))}): data.label_pattern="{{label}}/*" would take those'
        )


def _takes_top(top: Folder, base: Parts, pattern: str) -> bool:
    """Tell whether the class is the very folder that might be a split."""
    places = ["/".join(parts[len(base) :]) for folder in top.folders.values() for parts in islice(folder.below(), 1)]
    return any(found.start("label") == 0 for place in places if (found := compiled(pattern).fullmatch(place)))


def _by_pattern(found: Layout, parts: Mapping[str, list[Parts]], pattern: str, called: str) -> None:
    finds = compiled(pattern)
    unfit: list[Parts] = []
    for name, files in parts.items():
        for one in files:
            match = finds.fullmatch("/".join(one[len(found.base) :]))
            if match is None:
                unfit.append(one)
                continue
            split = match.groupdict().get("split") or name
            found.splits[split][one] = match["label"].strip()
    read = sum(len(files) for files in found.splits.values())
    if len(unfit) > read:
        raise UserError(
            f"data.label_pattern must fit the paths of the {called}",
            f"{pattern!r} fits {read:,} of {read + len(unfit):,}; not {_few(['/'.join(one) for one in unfit])}",
            "Mend it: {label} is the class, {number} digits, * anything within a name.",
        )
    found.left += [Left(one, "not of data.label_pattern") for one in unfit]


def _offer(found: Layout, called: str) -> None:
    # a split that hides its classes has names of another form
    offers = [offer([one[-1] for one in files]) for files in found.splits.values()]
    offered = next((one for one in offers if one is not None), None)
    if offered is not None:
        pattern, classes = offered
        found.offers.append(
            f'Set data.label_pattern="{pattern}" to take the class of the {called} ({_few(classes)}) from their names.'
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4:,} more" if len(names) > 4 else "")
