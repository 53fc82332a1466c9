"""Annotation files as a source: what lies in a folder, or one file of annotations with its pictures beside it."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hftransfer import answers
from hftransfer.answers.base import Answer
from hftransfer.config import DataConfig
from hftransfer.data import masked
from hftransfer.data.annotations import columns, exports, gathered, trees, yolo
from hftransfer.data.annotations.drawn import Picture, Skipped, refuse_from_one
from hftransfer.data.annotations.gathered import Pictures
from hftransfer.data.archives import unpack
from hftransfer.data.formats.base import Settings
from hftransfer.data.named_splits import Source, split_of
from hftransfer.data.tables import read_tables
from hftransfer.data.tree import walk
from hftransfer.errors import UserError
from hftransfer.safety.pictures import SUFFIXES
from hftransfer.tasks.base import Task

LARGEST = 2_000_000_000  # bytes of a JSON file that is looked into
MOST = 1_000_000  # files of a folder
TABLES = (".csv", ".tsv", ".parquet")
PUT = 64  # texts of a folder that are looked into, to tell labels from other texts


def open_annotated(config: DataConfig, work_dir: Path | None, task: Task | None) -> Source | None:
    """Return annotation files as a source, where the task's truth may stand in such and the source has some."""
    if task is None or config.source.startswith("sample:"):
        return None
    if not any(answer.annotated or answer.outlined for answer in task.answers):
        return None
    path = Path(config.source).expanduser().absolute()
    asked = answers.asked(task.answers, config)
    if not (asked.annotated or asked.apart) and path.is_dir() and masked.has_masks(path):
        return None  # which say more than outlines
    if path.is_dir():
        return _of_folder(path, config, asked)
    if not path.is_file():
        return None
    if path.suffix.lower() == ".zip":
        return _of_folder(unpack(path, work_dir), config, asked)
    return _of_files(path.parent, [path], config, asked)


def _of_folder(root: Path, config: DataConfig, asked: Answer[Any]) -> Source | None:
    files = [root.joinpath(*parts) for parts in walk(root, MOST).files]
    return _of_files(root, files, config, asked)


def _of_files(root: Path, files: Sequence[Path], config: DataConfig, asked: Answer[Any]) -> Source | None:
    told = [path for path in files if path.stem != "metadata"]
    read, bare = _json_files(told)
    found = _json(root, told, read, bare, asked) or _xml(root, told, asked) or _yolo(root, told, config)
    found = found or _tables(root, told, config, asked)
    if found is None and bare and asked.annotated and len(told) == len(files):  # a metadata.jsonl may hold boxes
        raise exports.refuse_without_places(*bare[0])
    return found


def split_by(root: Path, path: Path) -> str | None:
    """Return the split that a path speaks of: its own name, else the nearest folder's that says one."""
    inside = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[-1:]
    spoken = [split_of(Path(inside[-1]).stem), *(split_of(part) for part in reversed(inside[:-1]))]
    return next((split for split in spoken if split), None)


@contextmanager
def _as_written_by(kind: str, name: str) -> Iterator[None]:
    """Turn what is raised for annotations that lack a part, or hold another kind of value there, into a UserError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as error:
        found = f"a part {error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UserError(
            f"annotations as {kind} writes them are needed", f"{name}: {found}", "Export them again."
        ) from error


# --- JSON ---


def _json_files(files: Sequence[Path]) -> tuple[list[tuple[str, Path, Any]], list[tuple[Path, str]]]:
    """Return files of annotations with their kinds; and those that say nowhere where things are, with what they hold.

    COCO has captions in such.
    """
    read: list[tuple[str, Path, Any]] = []
    bare: list[tuple[Path, str]] = []
    for path in [one for one in files if one.suffix.lower() == ".json" and one.stat().st_size < LARGEST]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):  # no JSON, or none that Python reads
            continue
        tests = (("COCO", exports.is_coco), ("labelme", exports.is_labelme), ("Label Studio", exports.is_label_studio))
        kind = next((kind for kind, test in tests if test(found)), None)
        held = exports.without_places(found) if kind == "COCO" else None
        if held is not None:
            bare.append((path, held))
        elif kind is not None:
            read.append((kind, path, found))
    return read, bare


def _json(
    root: Path, files: Sequence[Path], read: list[tuple[str, Path, Any]], bare: list[tuple[Path, str]],
    asked: Answer[Any],
) -> Source | None:  # fmt: skip
    if not read:
        return None
    kinds = sorted({kind for kind, _, _ in read})
    made, parts, skipped = Pictures(root, "xywh"), dict[str, Pictures](), Skipped()
    for kind, path, found in read:
        if kind != kinds[0]:
            made.warnings.append(f"not read beside {kinds[0]}'s: {path.name} ({kind})")
            continue
        split = split_by(root, path)
        with _as_written_by(kind, path.name):
            if kind == "labelme":
                made.add(split, *exports.of_labelme(found, skipped), path)
                continue
            part = parts[path.relative_to(root).as_posix()] = made.part()
            of = exports.of_coco if kind == "COCO" else exports.of_label_studio
            for name, picture in of(found, path.name, part.warnings):
                part.add(split, name, picture, path)
    if skipped.count:
        made.warnings.append(
            f"labelme: {skipped.count:,} things are neither rectangles, polygons, circles nor masks: not read"
        )
    made.warnings += skipped.said("labelme")
    gathered.together(made, parts, asked)
    for path, held in bare:
        if (split_by(root, path) or "train") == "train" and "train" not in made.splits:
            raise exports.refuse_without_places(path, held)
        made.warnings.append(f"{path.name} holds {held}, and neither boxes nor outlines: not read")
    made.warnings += gathered.unread(made, files, kinds[0])
    number = f"{len(read):,} files" if len(read) > 1 else read[0][1].name
    made.guesses.append(f"annotations of {kinds[0]}: {number}")
    with _as_written_by(kinds[0], number):
        return made.source(read[0][1].name)


# --- XML ---


def _xml(root: Path, files: Sequence[Path], asked: Answer[Any]) -> Source | None:
    found = [path for path in files if path.suffix.lower() == ".xml"]
    if not found:
        return None
    listed = _lists(files)
    made, parts, count = Pictures(root, "xyxy"), dict[str, Pictures](), 0
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            by_stem[path.stem].append(path)
    for path in found:
        tree = trees.read(path)
        with _as_written_by("Pascal VOC or CVAT", path.name):
            if tree.tag == trees.ONE:
                name, picture = trees.of_voc(tree, path)
                own = _nearest(path, by_stem.get(path.stem, []))
                split = listed.get(path.stem) or split_by(root, path)
                made.add(split, str(own) if own is not None else name, picture, path)
                count += 1
            elif tree.tag == trees.ALL:
                part = parts[path.relative_to(root).as_posix()] = made.part()
                for name, subset, picture in trees.of_cvat(tree, path.name, part.warnings):
                    part.add(split_of(subset or "") or split_by(root, path), name, picture, path)
                count += 1
    if not count:
        return None
    gathered.together(made, parts, asked)
    made.warnings += gathered.unread(made, files, "Pascal VOC or CVAT")
    made.guesses.append(f"annotations of Pascal VOC or CVAT: {count:,} of {len(found):,} XML files")
    return made.source(found[0].name)


def _nearest(path: Path, alike: Sequence[Path]) -> Path | None:
    """Return the one that shares most folders with a path; None: there is none, or several, as masks are beside."""
    shared = [len(Path(os.path.commonpath([path, one])).parts) for one in alike]
    most = max(shared, default=0)
    best = [one for one, count in zip(alike, shared, strict=True) if count == most]
    return best[0] if len(best) == 1 else None


def _lists(files: Sequence[Path]) -> dict[str, str]:
    """Return the split of each picture by its stem, as Pascal VOC lists them in ImageSets."""
    known: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == ".txt" and "imagesets" in {part.lower() for part in path.parts}:
            split = split_of(path.stem)
            if split is not None and "_" not in path.stem:  # cat_train.txt lists all, with a mark each
                for line in path.read_text(encoding="utf-8").split("\n"):
                    if line.strip():
                        known.setdefault(line.split()[0], split)
    return known


# --- YOLO ---


def _yolo(root: Path, files: Sequence[Path], config: DataConfig) -> Source | None:
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    labels = {path: text for path in pictures if (text := yolo.label_of(path)) is not None}
    written = [text for text in labels.values() if text.stat().st_size][:PUT]
    beside = yolo.keypoints_in(files)
    if not written or not all(yolo.is_label(text, beside) for text in written):
        return None
    names, where = yolo.names_in(files, config.label_names)
    made, numbers = Pictures(root, "cxcywh"), set[int]()
    bare = len(pictures) - len(labels)
    for path in pictures:
        # a set says by an empty file that a picture is empty; where most have a file, one without is empty as well
        picture = yolo.of_label(labels[path], names, numbers, beside) if path in labels else Picture(())
        made.add(split_by(root, path), str(path), picture)
    if names is not None and set(names) == set(range(len(names))):
        refuse_from_one(numbers, len(names), "the text files")
    by = f"class names of {where}" if names is not None else "no data.yaml or classes.txt: classes are their numbers"
    made.guesses.append(f"annotations of YOLO: {len(labels):,} text files for {len(pictures):,} pictures; {by}")
    if bare:
        made.warnings.append(f"{bare:,} of {len(pictures):,} pictures have no text file: they have no box")
    return made.source("YOLO's labels")


# --- tables ---


def _tables(root: Path, files: Sequence[Path], config: DataConfig, asked: Answer[Any]) -> Source | None:
    made: Pictures | None = None
    parts: dict[str, Pictures] = {}
    for path in [one for one in files if one.suffix.lower() in TABLES and one.stat().st_size]:
        table = read_tables([path], False, Settings.of(config))
        how = columns.box_rows(table.rows)
        if how is None:
            continue
        names, drawn = columns.grouped(table.rows, how, config)
        made = made or Pictures(root, drawn.form)
        part = parts[path.relative_to(root).as_posix()] = made.part()
        part.warnings += table.warnings
        part.guesses += [*table.guesses, *(f"{path.name}: {said}" for said in drawn.guesses)]
        for name, picture in zip(names, drawn.pictures, strict=True):
            part.add(split_by(root, path), name, picture, path)
    if made is None:
        return None
    gathered.together(made, parts, asked)
    left = len(made.left(files))
    if left:
        made.warnings.append(f"{left:,} pictures are in no row of {', '.join(parts)}: not read")
    return made.source(Path(next(iter(parts))).name)
