"""Where rows come from: a file, a folder, a zip, a saved data set, a sample, or the Hub.

What a reader had to guess (a delimiter, an encoding, which folder is which split) is one short sentence each in
`Source.guesses`, with the setting that overrules it: "rows.csv: fields are divided by `;` (data.delimiter)". They
travel through `pick` to `Data.guesses`, and stand in `check`, result, card and the app's first step. Unlike a
warning, a guess is no sign that something is wrong.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import datasets
from datasets import Dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from hftransfer.config import DataConfig
from hftransfer.data import files_of_the_hub, recordings
from hftransfer.data.archives import unpack
from hftransfer.data.declared import require_own_files
from hftransfer.data.folders import open_folder
from hftransfer.data.named_splits import SPLITS, Picked, Source, Split, split_of
from hftransfer.data.plain_texts import parts_of
from hftransfer.data.suffixes import BUILDERS, TEXTS
from hftransfer.data.tables import format_of
from hftransfer.errors import UserError, unknown
from hftransfer.inputs._dicom import refuse_volumes
from hftransfer.safety import intact
from hftransfer.safety.pictures import SUFFIXES as PICTURES

HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def open_source(config: DataConfig, work_dir: Path | None) -> Source:
    """Open `data.source`; UserError says where it was looked for."""
    if config.source.startswith("sample:"):
        from hftransfer.samples import resolve_data

        return open_path(resolve_data(config.source.removeprefix("sample:")), config, work_dir)
    path = Path(config.source).expanduser()
    if path.exists():
        return open_path(path, config, work_dir, [name for name in _named(config).values() if name])
    if _is_path(config.source):
        raise UserError(
            "data.source must name a file, a folder or a data set of the Hub",
            f"there is no {path.absolute()}",
            "Check the path.",
        )
    try:
        return _open_hub(config, work_dir)
    except Exception:  # what cannot be read may be none of the repo's: then it is fetched again
        _require_intact(config, {})
        raise


def _is_path(source: str) -> bool:
    suffix = Path(source).suffix.lower()
    return (
        not HUB_ID.fullmatch(source)
        or source.startswith((".", "~", "/", "\\"))
        or suffix in BUILDERS
        or suffix == ".zip"
        or suffix in PICTURES
    )


def open_path(path: Path, config: DataConfig, work_dir: Path | None, named: Collection[str] = ()) -> Source:
    """Open a local file or folder; `named` are the splits of it that the user named."""
    path = path.resolve() if ".." in path.parts else path.absolute()  # lists and tables name files without ".."
    if path.is_dir():
        return open_folder(path, config, named)
    if path.suffix.lower() == ".zip":
        return open_folder(unpack(path, work_dir), config, named)
    refuse_volumes([path])
    if format_of(path) is None and path.suffix.lower() in TEXTS:
        texts = parts_of(path, config)
        rows = datasets.Dataset.from_dict({"text": texts.values})
        held = rows.to_iterable_dataset() if config.streaming else rows
        return Source(
            {path.stem: held}, path.parent, tuple(texts.warnings), tuple(texts.guesses), {path.stem: path.name}
        )
    if format_of(path) is None:
        known = ", ".join([*BUILDERS, ".zip"])
        found = f"{path} ends in {path.suffix!r}" if path.suffix else f"{path} has no suffix"
        raise UserError(f"data.source must be a folder or one of {known}", found, "Convert it, or name another.")
    table = recordings.read_table(path, config)
    return Source({path.stem: table.rows}, path.parent, table.warnings, table.guesses, {path.stem: path.name})


def _open_hub(config: DataConfig, work_dir: Path | None) -> Source:
    from hftransfer.samples import cache_folder

    source = config.source
    wanted = f"data.source={source!r} is no file here ({Path.cwd()}), so the Hub must have it as a data set"
    access = "Check the name; if it is private or gated, ask for access on its page and log in with: hf auth login"
    try:
        require_own_files(source, config.revision)
        found = datasets.load_dataset(source, config.name, revision=config.revision, streaming=config.streaming)
    except (ImportError, DatasetGenerationError) as error:
        if not files_of_the_hub.wants_a_decoder(error):
            raise
        named = [name for name in _named(config).values() if name]
        return files_of_the_hub.opened(config, work_dir, cache_folder() / intact.RECORD, named)
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
    if config.streaming:  # what streams is nowhere as a whole
        files_of_the_hub.refuse_a_stream(config, found)
    else:
        _require_intact(config, found)
    return Source(dict(found))


def _require_intact(config: DataConfig, found: Mapping[str, datasets.Dataset]) -> None:
    """Raise UserError when files of a data set are not what the Hub has; what was made of them goes as well."""
    from hftransfer.samples import cache_folder

    try:
        place = intact.snapshot(config.source, "dataset", config.revision)
        intact.require(place, config.source, cache_folder() / intact.RECORD)
    except UserError:
        for path in {Path(file["filename"]).parent for rows in found.values() for file in rows.cache_files}:
            shutil.rmtree(path, ignore_errors=True)
        raise


def pick_splits(source: Source, config: DataConfig, work_dir: Path | None) -> Picked:
    """Return the splits to use by what they are for, from the user's names or else from the source's."""
    wanted = _named(config)
    _refuse_reuse(wanted)
    picked: dict[str, Split] = {}
    warnings, guesses, asides = [*source.warnings], [*source.guesses], [*source.asides]
    for use, name in wanted.items():
        if name in source.splits:
            picked[use] = _split(source, name)
        elif name is not None:
            found = _beside(source, use, name, config, work_dir)
            picked[use] = _split(found, next(iter(found.splits)))
            warnings += found.warnings
            guesses += found.guesses
            asides += found.asides
    if config.label_pattern is not None and not source.by_paths:
        warnings.append(
            "data.label_pattern is not used: it is for files in folders, and what is in data.source says itself what "
            "its rows are"
        )
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
        counts = {name: len(rows) for name in left if isinstance(rows := source.splits[name], Dataset)}
        named = [f"{name} ({counts[name]:,} rows)" if name in counts else name for name in left]
        warnings.append(f"splits of the source that are not used: {', '.join(named)}")
    used = {use: picked[use] for use in SPLITS if use in picked}
    return Picked(used, tuple(warnings), tuple(guesses), tuple(asides), source.offers, source.settings)


def _named(config: DataConfig) -> dict[str, str | None]:
    return {"train": config.train, "validation": config.validation, "test": config.test}


def _split(source: Source, name: str) -> Split:
    return Split(source.splits[name], source.files.get(name, name), source.folder)


def _beside(source: Source, use: str, name: str, config: DataConfig, work_dir: Path | None) -> Source:
    places = [Path(name).expanduser(), *([source.folder / name] if source.folder else [])]
    for path in places:
        if path.exists():
            if path.resolve() == Path(config.source).expanduser().resolve():
                raise UserError("each row is used once", f"data.{use} is data.source itself", "Remove it: it is cut.")
            found = open_path(path, config, work_dir)
            if len(found.splits) != 1:
                several = f"{path} has {', '.join(found.splits)}"
                raise UserError(f"data.{use} must name one split", several, "Name one of its files.")
            return found
    problem = unknown(f"split in data.{use}", name, source.splits)
    looked = ", ".join(str(path.absolute()) for path in places)
    raise UserError(problem.wanted, f"{problem.found}, which is no file either (looked for {looked})", problem.action)


def _refuse_reuse(wanted: dict[str, str | None]) -> None:
    names = [name for name in wanted.values() if name is not None]
    for name in names:
        if names.count(name) > 1:
            uses = " and ".join(use for use, other in wanted.items() if other == name)
            raise UserError("each split is used once", f"{name!r} stands for {uses}", "Remove one: it will be cut.")
