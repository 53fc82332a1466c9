"""Where rows come from: a file, a folder, a zip, a saved data set, a sample, or the Hub."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, Image, IterableDataset, Value
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub.errors import HfHubHTTPError
from pandas.errors import ParserError

from hftransfer.config import DataConfig
from hftransfer.data.archives import unpack
from hftransfer.data.columns import IMAGE_SUFFIXES, words
from hftransfer.data.delimited import empty, reading_options
from hftransfer.errors import UserError, unknown

Rows: TypeAlias = Dataset | IterableDataset

BUILDERS = {
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".parquet": "parquet", ".arrow": "arrow",
}  # fmt: skip
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
NOT_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True)
class Source:
    """The splits that a source has, under its own names."""

    splits: dict[str, Rows]
    folder: Path | None = None  # that names in it and beside it are relative to
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # the file of a split that is one file


@dataclass(frozen=True)
class Split:
    """One split that is used, the name that its row ids begin with, and where its images lie."""

    rows: Rows
    name: str
    folder: Path | None


def open_source(config: DataConfig, work_dir: Path | None) -> Source:
    """Open `data.source`; UserError says where it was looked for."""
    if config.source.startswith("sample:"):
        from hftransfer.samples import resolve_data

        return open_path(resolve_data(config.source.removeprefix("sample:")), config.streaming, work_dir)
    path = Path(config.source).expanduser()
    if path.exists():
        return open_path(path, config.streaming, work_dir)
    if _is_path(config.source):
        raise UserError(
            "data.source must name a file, a folder or a data set of the Hub",
            f"there is no {path.absolute()}",
            "Check the path.",
        )
    return _open_hub(config)


def _is_path(source: str) -> bool:
    suffix = Path(source).suffix.lower()
    return (
        not HUB_ID.fullmatch(source)
        or source.startswith((".", "~", "/", "\\"))
        or suffix in BUILDERS
        or suffix == ".zip"
        or suffix in IMAGE_SUFFIXES
    )


def open_path(path: Path, streaming: bool, work_dir: Path | None) -> Source:
    """Open a local file or folder."""
    path = path.absolute()
    if path.is_dir():
        return _open_folder(path, streaming)
    if path.suffix.lower() == ".zip":
        return _open_folder(unpack(path, work_dir), streaming)
    if path.suffix.lower() not in BUILDERS:
        known = ", ".join([*BUILDERS, ".zip"])
        found = f"{path} ends in {path.suffix!r}" if path.suffix else f"{path} has no suffix"
        raise UserError(f"data.source must be a folder or one of {known}", found, "Convert it, or name another.")
    rows, warnings = read_tables([path], streaming)
    return Source({path.stem: rows}, path.parent, tuple(warnings), {path.stem: path.name})


def read_tables(files: Sequence[Path], streaming: bool) -> tuple[Rows, list[str]]:
    """Read files of one format as one table, with `datasets`' own builder, and return warnings beside it."""
    for path in files:
        if path.stat().st_size == 0:
            raise empty(path)
    builders = sorted({BUILDERS[path.suffix.lower()] for path in files})
    if len(builders) > 1:
        raise UserError(
            "the files of one split must have one format",
            ", ".join(path.name for path in files[:6]),
            "Name one of them in data.source.",
        )
    options, warnings = reading_options(files) if builders[0] == "csv" else ({}, [])
    # explicit names, escaped: the builders would read patterns and split names into them
    names = [glob.escape(str(path)) for path in files]
    try:
        with readable(", ".join(path.name for path in files[:6])):
            rows = datasets.load_dataset(
                builders[0], data_files={"train": names}, split="train", streaming=streaming, **options
            )
    except ValueError as error:
        if "corresponds to no data" not in str(error):
            raise
        raise empty(files[0]) from error
    return rows, warnings


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what the builders raise on damaged files into a UserError that names the file."""
    try:
        yield
    except (DatasetsError, pa.ArrowException, json.JSONDecodeError, UnicodeDecodeError, ParserError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{name} must be readable", cause[:300], "Mend the file.") from error


def _open_folder(folder: Path, streaming: bool) -> Source:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _open_saved(folder, streaming)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _is_hidden(p.relative_to(folder))]
    inside = {p.relative_to(folder).parts[0] for p in files}
    if len(inside) == 1 and (folder / next(iter(inside))).is_dir() and not split_of(next(iter(inside))):
        return _open_folder(folder / next(iter(inside)), streaming)  # archives often hold one folder with everything
    tables = [p for p in files if p.suffix.lower() in BUILDERS and p.name not in NOT_DATA]
    images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        return _open_images(folder, images, tables, streaming)
    if tables:
        return _open_tables(folder, tables, streaming)
    raise UserError(
        "data.source must hold data",
        f"{folder} has no image and no file ending in {', '.join(BUILDERS)}",
        "Check the path.",
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _open_saved(folder: Path, streaming: bool) -> Source:
    with readable(str(folder)):
        saved = datasets.load_from_disk(str(folder))
    splits = dict(saved) if isinstance(saved, DatasetDict) else {folder.name: saved}
    return Source({name: _plain(rows, streaming) for name, rows in splits.items()}, folder)


def _plain(rows: Dataset, streaming: bool) -> Rows:
    rows = rows.with_format(None)
    return rows.to_iterable_dataset() if streaming else rows


def split_of(name: str) -> str | None:
    """Return the split that a name speaks of in whole words, or None when it is none or several."""
    found = {split for split, names in SPLITS.items() if set(names) & set(words(name))}
    return found.pop() if len(found) == 1 else None


def _open_tables(folder: Path, tables: Sequence[Path], streaming: bool) -> Source:
    named: dict[str | None, list[Path]] = {}
    for path in tables:
        parts = path.relative_to(folder).parts
        spoken = [split_of(path.stem), *(split_of(part) for part in reversed(parts[:-1]))]
        named.setdefault(next((split for split in spoken if split), None), []).append(path)
    warnings = []
    unnamed = named.pop(None, [])
    if unnamed and "train" in named:
        names = ", ".join(path.name for path in unnamed[:5])
        warnings.append(f"not read, because no split is in the name: {names}")
    elif unnamed:
        named["train"] = unnamed
    splits = {}
    for split in [split for split in SPLITS if split in named]:
        splits[split], more = read_tables(named[split], streaming)
        warnings += more
    files = {str(split): paths[0].name for split, paths in named.items() if len(paths) == 1}
    return Source(splits, folder, tuple(warnings), files)


def _open_images(folder: Path, images: Sequence[Path], tables: Sequence[Path], streaming: bool) -> Source:
    """Read an image folder; not with `imagefolder`, which takes any file name with "train" in it for a split."""
    metadata = [path for path in tables if path.stem == "metadata"]
    others = ", ".join(path.name for path in tables if path not in metadata)
    warnings = [f"not read beside the images: {others} (set data.source to read one)"] if others else []
    tops = {path.relative_to(folder).parts[0] for path in images}
    divided = all((folder / top).is_dir() and split_of(top) and len(words(top)) == 1 for top in tops)
    rows: dict[str, list[dict[str, Any]]] = {}
    features = Features({"image": Image(), "label": Value("string")})
    if metadata:
        for path in metadata:
            table, more = read_tables([path], streaming=False)
            warnings += more
            if "file_name" not in table.features:
                raise UserError(f"{path} needs a column file_name", f"it has {', '.join(table.features)}", "Add it.")
            features = Features({"image": Image()} | {n: f for n, f in table.features.items() if n != "file_name"})
            for row in table:
                image = path.parent / str(row.pop("file_name"))
                rows.setdefault(_split_in(folder, image, divided), []).append({"image": str(image), **row})
    else:
        for image in images:
            inner = image.relative_to(folder).parts[1 if divided else 0 :]
            label = inner[0] if len(inner) > 1 else None
            rows.setdefault(_split_in(folder, image, divided), []).append({"image": str(image), "label": label})
        if all(row["label"] is None for found in rows.values() for row in found):
            features.pop("label")
    splits = {
        split: Dataset.from_dict({name: [row.get(name) for row in found] for name in features}, features=features)
        for split, found in sorted(rows.items())
    }
    return Source({s: _plain(data, streaming) for s, data in splits.items()}, folder, tuple(warnings))


def _split_in(folder: Path, image: Path, divided: bool) -> str:
    return image.relative_to(folder).parts[0] if divided and image.is_relative_to(folder) else "train"


def _open_hub(config: DataConfig) -> Source:
    source = config.source
    wanted = f"data.source={source!r} is no file here ({Path.cwd()}), so the Hub must have it as a data set"
    access = "Check the name; if it is private or gated, ask for access on its page and log in with: hf auth login"
    try:
        found = datasets.load_dataset(source, config.name, revision=config.revision, streaming=config.streaming)
    except DatasetNotFoundError as error:
        raise UserError(wanted, " ".join(str(error).split()), access) from error
    except HfHubHTTPError as error:
        raise UserError(wanted, f"the Hub answers {error.response.status_code}", access) from error
    except (ConnectionError, FileNotFoundError) as error:
        raise UserError(
            wanted,
            "the Hub cannot be reached, and the data set is not in the cache",
            "Check the network and HF_HUB_OFFLINE; or set data.source to a local file, or to sample:NAME "
            "(hftransfer samples lists them).",
        ) from error
    except ValueError as error:
        if "onfig" not in str(error):
            raise
        raise UserError(
            f"{source} needs one of its configurations", " ".join(str(error).split()), "Set data.name to it."
        ) from error
    except RuntimeError as error:
        if "scripts" not in str(error):
            raise
        script = re.search(r"\S+\.py\b", str(error))
        raise UserError(
            f"{source} must hold data files",
            f"it is a script ({script[0] if script else 'of Python'}), which would run someone's code",
            "Set data.revision=refs/convert/parquet if the Hub has converted it.",
        ) from error
    return Source(dict(found))


def pick_splits(source: Source, config: DataConfig, work_dir: Path | None) -> tuple[dict[str, Split], list[str]]:
    """Return the splits to use by what they are for, from the user's names or else from the source's, and warnings."""
    wanted = {"train": config.train, "validation": config.validation, "test": config.test}
    _refuse_reuse(wanted)
    picked: dict[str, Split] = {}
    warnings: list[str] = []
    for use, name in wanted.items():
        if name in source.splits:
            picked[use] = _split(source, name)
        elif name is not None:
            picked[use], more = _beside(source, use, name, config, work_dir)
            warnings += more
    left = [name for name in source.splits if name not in wanted.values()]
    if "train" not in picked and len(left) == 1:
        picked["train"] = _split(source, left.pop())  # whatever its name: the others are cut out of it
    for use in [use for use in SPLITS if use not in picked]:
        fitting = [name for name in left if split_of(name) == use]
        exact = [name for name in fitting if name.lower() in SPLITS[use]]
        if fitting:
            chosen = (exact or fitting)[0]
            left.remove(chosen)
            picked[use] = _split(source, chosen)
            if len(fitting) > 1 and not exact:
                warnings.append(f"{use} is the split `{chosen}`, the first of {', '.join(fitting)}")
    if "train" not in picked:
        raise UserError(
            "a split to train on is needed", f"the source has {', '.join(source.splits)}", "Set data.train to it."
        )
    if left:
        warnings.append(f"splits of the source that are not used: {', '.join(left)}")
    return {use: picked[use] for use in SPLITS if use in picked}, warnings


def _split(source: Source, name: str) -> Split:
    return Split(source.splits[name], source.files.get(name, name), source.folder)


def _beside(
    source: Source, use: str, name: str, config: DataConfig, work_dir: Path | None
) -> tuple[Split, Sequence[str]]:
    places = [Path(name).expanduser(), *([source.folder / name] if source.folder else [])]
    for path in places:
        if path.exists():
            if path.resolve() == Path(config.source).expanduser().resolve():
                raise UserError("each row is used once", f"data.{use} is data.source itself", "Remove it: it is cut.")
            found = open_path(path, config.streaming, work_dir)
            if len(found.splits) != 1:
                several = f"{path} has {', '.join(found.splits)}"
                raise UserError(f"data.{use} must name one split", several, "Name one of its files.")
            return _split(found, next(iter(found.splits))), found.warnings
    problem = unknown(f"split in data.{use}", name, source.splits)
    looked = ", ".join(str(path.absolute()) for path in places)
    raise UserError(problem.wanted, f"{problem.found}, which is no file either (looked for {looked})", problem.action)


def _refuse_reuse(wanted: dict[str, str | None]) -> None:
    names = [name for name in wanted.values() if name is not None]
    for name in names:
        if names.count(name) > 1:
            uses = " and ".join(use for use, other in wanted.items() if other == name)
            raise UserError("each split is used once", f"{name!r} stands for {uses}", "Remove one: it will be cut.")
