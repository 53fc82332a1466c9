"""A folder as a source: pictures, recordings or texts in folders of classes, tables, or what `datasets` saved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, Features, Image, Value

from hftransfer.config import DataConfig
from hftransfer.data import masked, parts_of_recordings, recordings, split_lists
from hftransfer.data.formats.base import Settings
from hftransfer.data.layout import Layout, lay_out, unwrapped
from hftransfer.data.named_files import Finder, names_files
from hftransfer.data.named_splits import SPLITS, Source, split_of
from hftransfer.data.plain_texts import Texts, read_texts
from hftransfer.data.suffixes import BUILDERS, TEXTS
from hftransfer.data.tables import NO_ROWS, Rows, Table, format_of, read_tables, readable
from hftransfer.data.tree import Left, Parts, Tree, sort_out, unread, walk
from hftransfer.errors import UserError, brief
from hftransfer.inputs._dicom import refuse_volumes
from hftransfer.inputs._sounds import SUFFIXES as SOUNDS
from hftransfer.safety.pictures import SUFFIXES as PICTURES
from hftransfer.safety.pictures import VOLUMES

FEW = 20  # texts of a folder that are looked into for tags
NOT_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True)
class Medium:
    """Files that hold one row each: what they are called, the column that they become, and how it is read."""

    called: str
    suffixes: Collection[str]
    column: str
    feature: Any
    read: Callable[[Sequence[Path], DataConfig], Texts] | None = None  # None: by its path
    whole: bool = False  # whether a file that its metadata leaves out is an error, and one that they name twice


MEDIA = (
    Medium("pictures", PICTURES, "image", Image()),
    Medium("recordings", SOUNDS, recordings.COLUMN, Value("string"), whole=True),
    Medium("texts", TEXTS, "text", Value("string"), read_texts),
)


def open_folder(folder: Path, config: DataConfig, named: Collection[str] = ()) -> Source:
    """Open a folder; `named` are the splits that the user named. UserError where it holds nothing that is read."""
    tree = walk(folder)
    base = unwrapped(tree.files)
    if any((*base, name) in tree.files for name in SAVED):
        return _open_saved(tree.path(base), config.streaming)
    tables = [parts for parts in tree.files if tree.suffix(parts) in BUILDERS and parts[-1] not in NOT_DATA]
    texts = [parts for parts in tree.files if tree.suffix(parts) in TEXTS]
    if len(texts) <= FEW:  # train.txt and test.txt may be sentences with their tags
        tables += [parts for parts in texts if format_of(tree.path(parts)) is not None]
    for medium in MEDIA:
        if not any(tree.suffix(parts) in medium.suffixes for parts in tree.files):
            continue
        if medium.suffixes is TEXTS and tables:
            break  # notes beside tables
        source = _open_media(tree, medium, tables, config, named)
        if source is not None:
            others = recordings.said_of_others(folder, map(tree.path, tree.files)) if medium.whole else ()
            return replace(source, warnings=(*source.warnings, *others))
    if tables:
        volumes = [tree.path(parts) for parts in tree.files if parts[-1].lower().endswith(VOLUMES)]
        if len(volumes) > len(tables):  # a table or two that say what they are
            refuse_volumes(volumes)
        return _open_tables(tree, tables, config)
    recordings.refuse_others(folder, [tree.path(parts) for parts in tree.files])
    refuse_volumes([tree.path(parts) for parts in tree.files])
    raise _nothing(tree, named)


def _nothing(tree: Tree, named: Collection[str]) -> UserError:
    texts = [parts for parts in tree.files if tree.suffix(parts) in TEXTS]
    offers = lay_out(texts, None, named, "texts").offers if texts else []
    told = [f"its {len(texts):,} texts lie in no folders of classes"] if texts else []
    left = unread([*tree.left, *sort_out(tree, TEXTS)[1]], [])
    found = f"{tree.root} has no image, no recording and no file ending in {', '.join(BUILDERS)}"
    mended = " ".join([*offers, "Put them into a folder for each class."])
    return UserError(
        "data.source must hold data",
        "; ".join([found, *told, *map(brief, left)]),
        mended if texts else "Check the path.",
    )


# --- data sets as `datasets` saved them ---


def _open_saved(folder: Path, streaming: bool) -> Source:
    with readable(str(folder)):
        saved = datasets.load_from_disk(str(folder))
    splits = dict(saved) if isinstance(saved, DatasetDict) else {folder.name: saved}
    return Source({name: _plain(rows, streaming) for name, rows in splits.items()}, folder)


def _plain(rows: Dataset, streaming: bool) -> Rows:
    rows = rows.with_format(None)
    return rows.to_iterable_dataset() if streaming else rows


# --- tables ---


def _open_tables(tree: Tree, tables: Sequence[Parts], config: DataConfig) -> Source:
    named: dict[str | None, list[Path]] = {}
    for parts in tables:
        path = tree.path(parts)
        spoken = [split_of(path.stem), *(split_of(part) for part in reversed(parts[:-1]))]
        named.setdefault(next((split for split in spoken if split), None), []).append(path)
    warnings: list[str] = []
    unnamed = named.pop(None, [])
    if unnamed and "train" in named:
        more = f" and {len(unnamed) - 5:,} more" if len(unnamed) > 5 else ""
        names = ", ".join(path.name for path in unnamed[:5]) + more
        warnings.append(f"not read, because no split is in the name: {names}")
    elif unnamed:
        named["train"] = unnamed
    form = Settings.of(config)
    read = {split: read_tables(named[split], config.streaming, form) for split in SPLITS if split in named}
    others = [one for one in sort_out(tree, BUILDERS)[1] if one.path not in tables]
    left = unread([*tree.left, *others], tables)
    return Source(
        {split: table.rows for split, table in read.items()},
        tree.path(unwrapped(tables)),
        (*warnings, *left, *(warning for table in read.values() for warning in table.warnings)),
        (*tree.guesses(), *(guess for table in read.values() for guess in table.guesses)),
        {str(split): paths[0].name for split, paths in named.items() if len(paths) == 1},
        tuple(left),
    )


# --- pictures and texts, a file a row ---


def _open_media(
    tree: Tree, medium: Medium, tables: Sequence[Parts], config: DataConfig, named: Collection[str]
) -> Source | None:
    """Read files of one row each; not with `imagefolder`, which takes any file name with "train" in it for a split.

    None where no folder tells a class, and there are tables that may.
    """
    files, others = sort_out(tree, medium.suffixes)
    paired = None if medium.suffixes is not PICTURES else masked.open_pairs(tree, files, others, named, config)
    if paired is not None:
        return paired
    sounds = [tree.path(parts) for parts in files]
    listed = recordings.texts_listed(tree.root, [*map(tree.path, tree.files)], sounds) if medium.whole else None
    if listed is not None:
        classes = _classes(files, config.label_pattern, named, medium)
        spoken, places, said = listed
        heard = _with_texts(tree, medium, files, spoken, places, others, named, config.streaming, classes)
        return replace(heard, warnings=(*heard.warnings, *said))
    metadata = [parts for parts in tables if Path(parts[-1]).stem == "metadata"]
    if metadata:
        found = lay_out(files, None, named, medium.called, classes=False)
        return _of_metadata(tree, medium, found, files, metadata, tables, config)
    found = lay_out(files, config.label_pattern, named, medium.called)
    elsewhere = [] if found.labelled else [tree.path(parts) for parts in tree.files]
    beside = recordings.texts_beside(tree.root, elsewhere, sounds) if medium.whole else None
    if beside is not None:
        return _with_texts(tree, medium, files, *beside, others, named, config.streaming)
    if (not found.labelled and (tables or medium.suffixes is TEXTS)) or (tables and found.numbered):
        source = _of_names(tree, medium, files, others, tables, config)
        if source is not None or not found.labelled:
            return source
    lists = split_lists.divide(tree, found, medium.suffixes)
    features = Features({medium.column: medium.feature} | ({"label": Value("string")} if found.labelled else {}))
    splits: dict[str, Rows] = {}
    warnings: list[str] = []
    guesses = [*tree.guesses(), *found.guesses]
    for name in sorted(found.splits):
        paths = [tree.path(parts) for parts in found.splits[name]]
        texts = Texts([str(path) for path in paths]) if medium.read is None else medium.read(paths, config)
        columns = {medium.column: texts.values, "label": list(found.splits[name].values())}
        splits[name] = _plain(
            Dataset.from_dict({n: columns[n] for n in features}, features=features), config.streaming
        )
        warnings += texts.warnings
        guesses += texts.guesses
    left = _unread(tree, found, files, [one for one in others if one.path not in (*tables, *lists)])
    return Source(
        splits,
        tree.path(found.base),
        (*_beside(medium, tables), *left, *warnings),
        tuple(guesses),
        asides=tuple(left),
        offers=tuple(found.offers),
        by_paths=True,
    )


def _classes(
    files: Sequence[Parts], pattern: str | None, named: Collection[str], medium: Medium
) -> dict[Parts, str] | None:
    """Return the class of each file where folders or names tell one of all of them."""
    try:
        found = lay_out(files, pattern, named, medium.called)
    except UserError:
        return None
    told = {parts: str(label) for held in found.splits.values() for parts, label in held.items()}
    return told if found.labelled and len(told) == len(files) else None


def _with_texts(
    tree: Tree, medium: Medium, files: Sequence[Parts], texts: Sequence[str], lists: Sequence[Path],
    others: Sequence[Left], named: Collection[str], streaming: bool, classes: Mapping[Parts, str] | None = None,
) -> Source:  # fmt: skip
    """Read files that each have a text in one of `lists`: files of their names, or with a line for each.

    `classes` are what their folders or names tell besides, which is the column `label`.
    """
    found = lay_out(files, None, named, medium.called, classes=False)
    text_of = dict(zip(files, texts, strict=True))
    splits: dict[str, Rows] = {}
    for name, held in sorted(found.splits.items()):
        values = [str(tree.path(parts)) for parts in held]
        labels = {"label": [classes[parts] for parts in held]} if classes else {}
        rows = Dataset.from_dict({medium.column: values, "text": [text_of[parts] for parts in held], **labels})
        splits[name] = _plain(rows, streaming)
    read = set(lists)
    left = _unread(tree, found, files, [one for one in others if tree.path(one.path) not in read])
    where = f"the {lists[0].suffix} of its name"
    if len(lists) < len(files):
        more = f" and {len(lists) - 1:,} more lists" if len(lists) > 1 else ""
        where = f"in the line of {lists[0].relative_to(tree.root)}{more} that begins with its name"
    guesses = (*tree.guesses(), *found.guesses, f"the text of each of the {medium.called} is {where}")
    return Source(splits, tree.path(found.base), tuple(left), guesses, asides=tuple(left))


def _unread(tree: Tree, found: Layout, files: Sequence[Parts], others: Sequence[Left]) -> list[str]:
    apart = {one.path for one in found.left}
    return unread([*tree.left, *others, *found.left], [one for one in files if one not in apart], found.base)


def _beside(medium: Medium, tables: Sequence[Parts]) -> list[str]:
    names = ", ".join(parts[-1] for parts in tables)
    return [f"not read beside the {medium.called}: {names} (set data.source to read one)"] if names else []


def _of_names(
    tree: Tree,
    medium: Medium,
    files: Sequence[Parts],
    others: Sequence[Left],
    tables: Sequence[Parts],
    config: DataConfig,
) -> Source | None:
    """Read the tables that name the files, where some do."""
    finder = Finder(tree.root, medium.suffixes)
    naming = []
    held: list[tuple[Rows, list[str]]] = []
    broken: dict[Parts, UserError] = {}
    read = set()
    for parts in tables:
        try:
            rows = read_tables([tree.path(parts)], False, Settings.of(config)).rows
        except UserError as error:
            if error.wanted != NO_ROWS:  # one without rows may stand beside others
                raise
            broken[parts] = error
            continue
        columns = [name for name in rows.features or {} if names_files(rows, name, finder)]
        if columns:
            naming.append(parts)
            held.append((rows, columns))
            read |= {finder.place(str(value)) for name in columns for value in rows.select_columns([name])[:][name]}
    if not naming:
        if len(broken) == len(tables) and broken:
            raise next(iter(broken.values()))
        return None
    source = _open_tables(tree, naming, config)
    beside = Finder(source.folder or tree.root, medium.suffixes)
    if not any(names_files(rows, name, beside) for rows, names in held for name in names):
        source = replace(source, folder=tree.root)  # a table in a folder of its own, as meta/esc50.csv
    said = f"{', '.join(parts[-1] for parts in naming)}: a table that names the {medium.called}"
    unnamed = [Left(parts, "in no table") for parts in files if tree.path(parts) not in read]
    named = [*naming, *(parts for parts in files if tree.path(parts) in read)]
    left = unread([*tree.left, *(one for one in others if one.path not in naming), *unnamed], named)
    told = [warning for warning in source.warnings if warning not in source.asides]
    return replace(source, guesses=(said, *source.guesses), warnings=(*told, *left), asides=tuple(left))


def _of_metadata(
    tree: Tree,
    medium: Medium,
    found: Layout,
    files: Sequence[Parts],
    metadata: Sequence[Parts],
    tables: Sequence[Parts],
    config: DataConfig,
) -> Source:
    """Read files beside tables called `metadata`, whose column `file_name` names them."""
    warnings = _beside(medium, [parts for parts in tables if parts not in metadata])
    guesses = [*tree.guesses()]
    split_of_file = {tree.path(parts): name for name, held in found.splits.items() for parts in held}
    rows: dict[str, list[dict[str, Any]]] = {}
    features = Features({medium.column: medium.feature})
    read = set()
    for parts in metadata:
        path = tree.path(parts)
        table: Table = read_tables([path], False, Settings.of(config))
        warnings += table.warnings
        guesses += table.guesses
        columns = table.rows.features or {}
        if "file_name" not in columns:
            raise UserError(f"{path} needs a column file_name", f"it has {', '.join(columns)}", "Add it.")
        features |= {name: feature for name, feature in columns.items() if name != "file_name"}
        finder = Finder(path.parent, medium.suffixes)
        several = parts_of_recordings.heads(columns)  # rows of one file
        own = next((name for name in found.splits if name in parts[:-1]), min(found.splits))
        for row in table.rows:
            name = str(row.pop("file_name"))
            place = finder.place(name)
            if medium.whole:
                _require_one(finder, name, place in read and not several, path)
            read.add(place)
            rows.setdefault(split_of_file.get(place, own), []).append({medium.column: str(place), **row})
        guesses += finder.said(path.name)
        beside = Finder(path.parent, PICTURES)  # such as masks
        for name in [name for name in columns if name != "file_name" and names_files(table.rows, name, beside)]:
            read |= {beside.place(str(value)) for value in table.rows.select_columns([name])[:][name] if value}
    splits = {
        name: Dataset.from_dict({column: [row.get(column) for row in held] for column in features}, features=features)
        for name, held in sorted(rows.items())
    }
    unnamed = [Left(parts, "in no metadata") for parts in files if tree.path(parts) not in read]
    if unnamed and medium.whole:
        some = recordings.some(tree.root, [tree.path(one.path) for one in unnamed])
        raise UserError(
            f"every recording needs a row in {metadata[0][-1]}", f"{len(unnamed)} of {len(files)} have none: {some}",
            "Add their rows, or take them out of the folder.",
        )  # fmt: skip
    others = [one for one in sort_out(tree, medium.suffixes)[1] if one.path not in tables]
    left = unread([*tree.left, *others, *unnamed], [parts for parts in files if tree.path(parts) in read], found.base)
    plain = {name: _plain(held, config.streaming) for name, held in splits.items()}
    return Source(plain, tree.path(found.base), (*warnings, *left), tuple(guesses), asides=tuple(left))


def _require_one(finder: Finder, name: str, read: bool, table: Path) -> None:
    """Raise UserError for a name that may be that of several files, or that stands in several rows."""
    several = finder.several(name)
    if several:
        raise UserError(
            f"{table.name} must name each file by its path", f"{name} may be {', '.join(several[:3])}",
            "Write the path from the table's folder, with its suffix.",
        )  # fmt: skip
    if read:
        raise UserError("each file stands in one row", f"{table.name} has several of {name}", "Remove the others.")
