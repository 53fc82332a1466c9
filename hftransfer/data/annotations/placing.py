"""What was drawn on pictures as the one column that a task's truth is read from: pixels of the upright picture."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset, Image, IterableDataset, concatenate_datasets

from hftransfer.config import DataConfig
from hftransfer.data.annotations import columns, forms
from hftransfer.data.annotations.drawn import FIELD, Drawn, Picture
from hftransfer.data.named_splits import Picked, Split
from hftransfer.errors import UserError
from hftransfer.tasks.base import Task

ORIENTATION = 0x0112  # EXIF's tag
AT_ONCE = 512  # pictures whose encoded bytes are in memory


@dataclass(frozen=True)
class Size:
    """How large a picture's file is (width, height), and which way up its camera held it (EXIF)."""

    stored: tuple[int, int]
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Its size when it is turned upright."""
        return self.stored[::-1] if self.orientation in forms.EXIF_TURNED else self.stored


def placed(picked: Picked, config: DataConfig, task: Task) -> Picked:
    """Return splits whose things drawn on pictures are one column of boxes, where a task's truth is of them.

    UserError for boxes whose numbers cannot be told, or that are not of these pictures.
    """
    if not any(answer.annotated for answer in task.answers):
        return picked
    truth = task.truth.name
    found: dict[str, tuple[Split, Drawn, list[str], list[Size | None]]] = {}
    for use, split in picked.splits.items():
        rows = split.rows
        held = None if isinstance(rows, IterableDataset) else columns.find(rows, config.column_names.get(truth))
        if held is None:
            continue
        known = columns.drawn(rows, held, config)
        if "_drawn_size" in rows.features:
            sizes = rows.select_columns(["_drawn_size"])[:]["_drawn_size"]
            pictures = [
                replace(one, size=tuple(size) if size else None)
                for one, size in zip(known.pictures, sizes, strict=True)
            ]
            known = replace(known, pictures=pictures)
        found[use] = (split, known, held.columns, sizes_of(rows, task))
    if "train" not in found:
        return picked
    return _with_truth(picked, found, config, task)


def _with_truth(
    picked: Picked,
    found: Mapping[str, tuple[Split, Drawn, list[str], list[Size | None]]],
    config: DataConfig,
    task: Task,
) -> Picked:
    warnings, guesses, splits = [*picked.warnings], [*picked.guesses], dict(picked.splits)
    things = (thing for one in found["train"][1].pictures for thing in one.things or ())
    known = {thing.name for thing in things if thing.name is not None}
    usual = found["train"][1].form
    told = _reading(found["train"][1], found["train"][3], config).form  # few boxes of another split tell it worse
    for use, (split, drawn, gone, sizes) in found.items():
        reading = _reading(replace(drawn, form=told) if drawn.form == usual else drawn, sizes, config)
        faults: Counter[str] = Counter()
        values = [_row(one, size, reading, known, faults) for one, size in zip(drawn.pictures, sizes, strict=True)]
        if use == "train":
            _require_some(drawn, values, faults)
        rows = split.rows.remove_columns([name for name in (*gone, "_drawn_size") if name in split.rows.features])
        feature = task.answers[0].feature(encoded=False)
        from datasets import Features

        made = Dataset.from_dict({task.truth.name: values}, features=Features({task.truth.name: feature}))
        splits[use] = replace(split, rows=concatenate_datasets([rows, made], axis=1))
        guesses += [f"{use}: {said}" for said in (reading.said, *drawn.guesses, *_difficult(values))]
        warnings += [*drawn.warnings, *_said(use, values, faults)]
    return replace(picked, splits=splits, warnings=tuple(warnings), guesses=tuple(dict.fromkeys(guesses)))


def _require_some(drawn: Drawn, values: list[list[dict[str, Any]] | None], faults: Counter[str]) -> None:
    """Raise UserError where things were drawn on train's pictures, and no box came of any."""
    there = sum(len(one.things or ()) for one in drawn.pictures)
    if there and not any(values):
        why = "; ".join(f"{count:,} {what}" for what, count in faults.items() if count)
        raise UserError(
            "boxes are needed", f"of {there:,} things that are drawn on train's pictures none is one: {why}",
            "Draw boxes, or polygons of three points or more, each with a class.",
        )  # fmt: skip


def _reading(drawn: Drawn, sizes: Iterable[Size | None], config: DataConfig) -> forms.Reading:
    numbers, of = [], []
    for one, size in zip(drawn.pictures, sizes, strict=True):
        for thing in one.things or ():
            if size is not None and thing.place is not None and len(thing.place) == 4:
                numbers.append([np.nan if value is None else float(value) for value in thing.place])
                of.append(one.size if one.size in (size.stored, size.upright) else size.upright)
    table, sides = np.array(numbers, np.float64).reshape(-1, 4), np.array(of, np.float64).reshape(-1, 2)
    asked: Any = config.boxes
    return forms.told(table, sides, drawn.form, asked)


def _row(
    one: Picture, size: Size | None, reading: forms.Reading, known: set[str], faults: Counter[str]
) -> list[dict[str, Any]] | None:
    """Return the truth of one picture; None where nobody knows it."""
    if one.things is None or size is None:
        return None
    sides = size.upright
    if one.size is not None and one.size not in (size.upright, size.stored):
        faults["pictures of another size than they were drawn on: not used"] += 1
        return None
    turned = one.size == size.stored != size.upright
    numbers = np.array(
        [[np.nan if value is None else float(value) for value in thing.place] if thing.place is not None
         and len(thing.place) == 4 else [np.nan] * 4 for thing in one.things]
    ).reshape(-1, 4)  # fmt: skip
    boxes, kept = forms.within(numbers, reading, size.stored if turned else sides, faults)
    if turned:
        boxes = forms.turned(boxes, size.stored, size.orientation)
        faults["pictures whose boxes were turned with them, as EXIF says"] += 1
    made = []
    for box, thing in zip(
        boxes.tolist(), (t for t, stays in zip(one.things, kept, strict=True) if stays), strict=True
    ):
        if thing.name is None or thing.name not in known:
            faults[
                "boxes of no class: left out"
                if thing.name is None
                else "boxes of classes that train has not: left out"
            ] += 1
            continue
        place = dict(zip(("x", "y", "width", "height"), box, strict=True))
        made.append({
            **place, "name": thing.name, "crowd": thing.crowd, "difficult": thing.difficult,
            "picture_width": sides[0], "picture_height": sides[1],
        })  # fmt: skip
    return made


def _said(use: str, values: list[list[dict[str, Any]] | None], faults: Counter[str]) -> list[str]:
    total = sum(len(row) for row in values if row is not None)
    said = [f"{use}: {count:,} {what}" for what, count in faults.items() if count]
    empty = sum(row is not None and not row for row in values)
    if empty:
        said.append(
            f"{use}: {empty:,} of {len(values):,} pictures have no box: they teach what is none ({total:,} boxes)"
        )
    return said


def _difficult(values: Iterable[list[dict[str, Any]] | None]) -> list[str]:
    """Say what becomes of things that are marked as difficult, where there are some."""
    count = sum(one["difficult"] for row in values if row is not None for one in row)
    told = "they are learnt like others, and scores pass over them: neither missed, nor wrong where they are found"
    return [f"{count:,} boxes are marked `difficult`: {told}"] if count else []


# --- how large pictures are ---


def sizes_of(rows: Dataset, task: Task) -> list[Size | None]:
    """Return the size of each row's picture, from the head of its file; None where that cannot be read."""
    column = _pictures(rows, task)
    if isinstance(rows.features[column], Image):
        rows = rows.cast_column(column, Image(decode=False))
    held = rows.select_columns([column])
    found: list[Size | None] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(held), AT_ONCE):
            found += pool.map(size_of, held[start : start + AT_ONCE][column])
    return found


def _pictures(rows: Dataset, task: Task) -> str:
    for role in task.shown:
        if role.takes is None or not role.takes.suffixes:
            continue
        for name, feature in rows.features.items():
            plain = not isinstance(feature, Image)
            values = rows.select_columns([name])[:20][name] if plain else ()
            if role.takes.fits(feature, values):
                return name
    raise UserError(
        f"{task.name} needs pictures", f"there are boxes, and no picture among {', '.join(rows.features)}",
        "Name a column of pictures, or of their files beside the data, in data.columns.",
    )  # fmt: skip


def size_of(value: Any) -> Size | None:
    """Return the size of a picture, a path or {bytes, path}; None where it cannot be read."""
    import PIL.Image

    from hftransfer.inputs.image import UNREADABLE, encoded

    if value is None:
        return None
    try:
        opened: Any
        if isinstance(value, Mapping):
            local = value["bytes"] is None and "://" not in value["path"]
            opened = value["path"] if local else io.BytesIO(encoded(dict(value)))
        else:
            opened = value
        with PIL.Image.open(opened) as picture:
            return Size(picture.size, int(picture.getexif().get(ORIENTATION, 1)))
    except UNREADABLE:
        return None


def as_rows(files: list[str], drawn: Drawn) -> Dataset:
    """Return a row a picture, with what was drawn on it as `placed` reads it."""
    from datasets import Features, List, Value

    thing = {
        FIELD[drawn.form]: List(Value("float64")), "name": Value("string"), "crowd": Value("bool"),
        "outline": Value("string"), "difficult": Value("bool"),
    }  # fmt: skip
    features = Features({"image": Image(), "objects": List(thing), "_drawn_size": List(Value("int64"))})
    rows = [
        None
        if one.things is None
        else [
            {
                FIELD[drawn.form]: [float(v) for v in t.place] if t.place is not None else None,
                "name": t.name,
                "crowd": t.crowd,
                "outline": None if t.outline is None else json.dumps(t.outline),
                "difficult": t.difficult,
            }
            for t in one.things
        ]
        for one in drawn.pictures
    ]
    sizes = [None if one.size is None else list(one.size) for one in drawn.pictures]
    return Dataset.from_dict({"image": files, "objects": rows, "_drawn_size": sizes}, features=features)
