"""Outlines that were drawn on pictures, polygons or COCO's runs, as masks: of classes, or of each single thing."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
from datasets import Dataset, Features, Image, IterableDataset, concatenate_datasets

from hftransfer import answers
from hftransfer.answers import _found_masks, _runs
from hftransfer.config import DataConfig
from hftransfer.data.annotations import columns, rings
from hftransfer.data.annotations.drawn import Drawn, Picture, Thing
from hftransfer.data.annotations.forms import RELATIVE
from hftransfer.data.annotations.placing import Size, sizes_of
from hftransfer.data.named_splits import Picked
from hftransfer.errors import UserError
from hftransfer.tasks.base import Task

GROUND = "background"  # the class of pixels that lie in no outline
POINTS = 3
MOST = 255  # classes that a byte a pixel tells apart, less the one for pixels of none
RESIZED = "pictures of another size than they were drawn on: not used"
TURNS = {  # by EXIF's orientation, as exif_transpose turns pictures whose width becomes their height
    5: PIL.Image.Transpose.TRANSPOSE, 6: PIL.Image.Transpose.ROTATE_270, 7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}  # fmt: skip
WIDEST = 60  # bits of one number of COCO's text


def outlined(picked: Picked, config: DataConfig, task: Task) -> tuple[Picked, dict[str, Any]]:
    """Return splits whose outlines are one column of masks, where a task's truth can be of them, and what was settled.

    A source that holds masks keeps them, but where the answer asked for is of single things. UserError for boxes
    alone.
    """
    rows = picked.splits["train"].rows
    if not any(answer.outlined for answer in task.answers) or isinstance(rows, IterableDataset):
        return picked, {}
    told, answer = config.column_names.get(task.truth.name), answers.asked(task.answers, config)
    held = columns.find(rows, told)
    images = [name for name, feature in (rows.features or {}).items() if isinstance(feature, Image)]
    other = held is None or (told is not None and held.column != told)
    if other or (len(images) > 1 and not answer.apart):
        return picked, {}
    drawn = {use: _drawn(split.rows, config) for use, split in picked.splits.items()}
    train = drawn["train"].pictures
    found = _classes(train, task)
    names = found if answer.apart else [GROUND, *(name for name in found if name != GROUND)]
    if len(names) > MOST and not answer.apart:
        raise UserError(f"up to {MOST - 1} classes are possible", f"there are {len(found)}", "Join some of them.")
    splits, faults = {}, Counter[str]()
    for use, split in picked.splits.items():
        sizes, shares = sizes_of(split.rows, task), in_shares(drawn[use])
        make = _things if answer.apart else _mask
        values = [make(one, size, names, faults, shares) for one, size in zip(drawn[use].pictures, sizes, strict=True)]
        if use == "train" and faults[RESIZED] and not any(values):
            raise UserError(
                "the pictures that were drawn on are needed", f"{faults[RESIZED]:,} {RESIZED}",
                "Take the pictures at the size at which they were annotated, or export the annotations for these.",
            )  # fmt: skip
        splits[use] = replace(split, rows=_with_truth(split.rows, values, told, task.truth.name, answer.apart))
    warnings = [*picked.warnings, *(f"{count:,} {what}" for what, count in faults.items())]
    guesses = [*picked.guesses, *_said(found, train, task, answer.apart)]
    settings = {"label_names": tuple(names), "background_class": GROUND, "ignore_value": -1, "label_colors": None}
    settled = replace(picked, splits=splits, warnings=tuple(warnings), guesses=tuple(guesses))
    return settled, {} if answer.apart else settings


def _classes(train: Sequence[Picture], task: Task) -> list[str]:
    """Return the names of train's things; UserError where most are boxes alone, or have no area."""
    things = [thing for one in train for thing in one.things or ()]
    bare = sum(thing.outline is None for thing in things)
    if 2 * bare > len(things):
        raise UserError(
            f"{task.name} needs outlines of things", f"{bare:,} of {len(things):,} have none: boxes alone say nothing",
            "Give masks or polygons, or learn boxes: task=object-detection.",
        )  # fmt: skip
    flat = sum(not has_area(thing.outline) for thing in things if thing.outline is not None)
    if things and flat == len(things) - bare:
        raise UserError(
            f"{task.name} needs outlines with an area", f"all {flat:,} have fewer than three points, or no run",
            "Draw polygons of three points or more; for what is a point or a line there is no task here.",
        )  # fmt: skip
    return sorted({thing.name for thing in things if thing.name is not None})


def _said(found: Sequence[str], train: Sequence[Picture], task: Task, apart: bool) -> list[str]:
    """Say what became of outlines, and how single things are told apart where pictures have several of one class."""
    if apart:
        return [f"each outline is a single object: {len(found)} classes"]
    said = (
        f"masks are made of outlines: {len(found)} classes, and {GROUND} where there is none; small ones "
        "lie on top; objects of one class are not told apart"
    )
    singled = next((answer for answer in task.answers if answer.apart), None)
    named = [[thing.name for thing in one.things or ()] for one in train]
    several = sum(len(set(names)) < len(names) for names in named)
    if singled is None or not several:
        return [said]
    asked = answers.setting(singled)
    return [
        said,
        f"{several:,} of {len(train):,} pictures of train hold several objects of one class: {asked} learns a mask "
        "for each of them",
    ]


def _with_truth(rows: Dataset, values: Sequence[Any], told: str | None, name: str, apart: bool) -> Dataset:
    """Return rows with one column of truth in place of those that tell what was drawn."""
    held = columns.find(rows, told)
    gone = [*(held.columns if held is not None else ()), "_drawn_size", name]
    kept = rows.remove_columns([one for one in gone if one in rows.features])
    if apart:
        made = Dataset(pa.table({name: _found_masks.column(values)}))
    else:
        files = [None if mask is None else {"bytes": mask, "path": None} for mask in values]
        made = Dataset.from_dict({name: files}, features=Features({name: Image()}))
    return concatenate_datasets([kept, made], axis=1)


def _drawn(rows: Dataset, config: DataConfig) -> Drawn:
    held = columns.find(rows, None)
    if held is None:
        return Drawn([Picture(None)] * len(rows))
    known = columns.drawn(rows, held, config)
    if "_drawn_size" not in rows.features:
        return known
    sizes = rows.select_columns(["_drawn_size"])[:]["_drawn_size"]
    pictures = [
        replace(one, size=tuple(size) if size else None) for one, size in zip(known.pictures, sizes, strict=True)
    ]
    return replace(known, pictures=pictures)


def _mask(
    one: Picture, found: Size | None, names: Sequence[str], faults: Counter[str], shares: bool = False
) -> bytes | None:
    """Return the mask of a picture as a PNG; None where nobody drew on it, or on a picture of another size."""
    size = _size(one, found, faults)
    if size is None or found is None:
        return None
    seen = _seen(one, size, names, faults, shares)
    parts = [(int(inside.sum()), names.index(str(thing.name)), _cut(inside)) for thing, inside in seen]
    classes = np.zeros(size[::-1], np.uint8)
    for _, place, (part, inside) in sorted(parts, key=lambda part: -part[0]):
        classes[part][inside] = place
    buffer = io.BytesIO()
    PIL.Image.fromarray(_upright(classes, size, found)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _things(
    one: Picture, found: Size | None, names: Sequence[str], faults: Counter[str], shares: bool = False
) -> list[dict[str, Any]] | None:
    """Return the single things of a picture, each with its mask; None as for `_mask`."""
    size = _size(one, found, faults)
    if size is None or found is None:
        return None
    return [
        _found_masks.thing(
            _upright(inside, size, found), name=thing.name, crowd=thing.crowd, difficult=thing.difficult
        )
        for thing, inside in _seen(one, size, names, faults, shares)
    ]


def _size(one: Picture, found: Size | None, faults: Counter[str]) -> tuple[int, int] | None:
    """Return the size on which a picture was drawn on; None where nobody did, or where that is not the picture's."""
    if one.things is None or found is None:
        return None
    size = one.size or found.upright
    if size not in (found.upright, found.stored):  # what a file claims may be of any size
        faults[RESIZED] += 1
        return None
    return size


def _seen(
    one: Picture, size: tuple[int, int], names: Sequence[str], faults: Counter[str], shares: bool
) -> Iterator[tuple[Thing, np.ndarray]]:
    """Yield the things of a picture that have an area and a class, and the pixels (h, w) of each."""
    for thing in one.things or ():
        inside = None if thing.outline is None else pixels_of(thing.outline, size, shares)
        if inside is None or not inside.any():
            faults["things have no outline with an area: their pixels are background"] += 1
        elif thing.name not in names:
            faults["outlines are of no class, or of one that train has not: their pixels are background"] += 1
        else:
            yield thing, inside


def _upright(pixels: np.ndarray, size: tuple[int, int], found: Size) -> np.ndarray:
    """Return pixels (h, w) of a picture drawn on at `size` as its upright picture has them."""
    if not size == found.stored != found.upright:
        return pixels
    made = PIL.Image.fromarray(pixels.astype(np.uint8)).transpose(TURNS[found.orientation])
    return np.asarray(made).astype(pixels.dtype)


def _cut(inside: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return where the pixels of a thing lie, and them alone: a picture may hold thousands of things."""
    down, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    part = slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)
    return part, inside[part].copy()


def has_area(outline: Any) -> bool:
    """Tell whether an outline can hold pixels: runs, or a polygon of three points or more."""
    outline = json.loads(outline) if isinstance(outline, str) else outline
    return isinstance(outline, Mapping) or bool(_rings(outline))


def _rings(outline: Sequence[Any]) -> list[Any]:
    return [ring for ring in outline if isinstance(ring, Sequence) and len(ring) >= 2 * POINTS]


def in_shares(drawn: Drawn) -> bool:
    """Tell whether polygons are in shares of their pictures: most hold no number above 1.01."""
    far = []
    for thing in (thing for one in drawn.pictures for thing in one.things or () if thing.outline is not None):
        outline = json.loads(thing.outline) if isinstance(thing.outline, str) else thing.outline
        if not isinstance(outline, Mapping):
            numbers = [abs(n) for ring in _rings(outline) for n in ring if isinstance(n, int | float)]
            far += [max(numbers)] if numbers else []
    return bool(far) and float(np.median(far)) <= RELATIVE


def pixels_of(outline: Any, size: tuple[int, int], shares: bool = False) -> np.ndarray | None:
    """Return which pixels (h, w) of a picture of `size` (width, height) polygons or runs hold; None for neither."""
    if isinstance(outline, str):
        outline = json.loads(outline)
    if isinstance(outline, Mapping):
        return runs(outline, size)
    found = _rings(outline)
    if not found:
        return None
    inside = np.zeros(size[::-1], bool)
    across, down = size if shares else (1, 1)
    for ring in found:
        try:
            points = [(float(x) * across, float(y) * down) for x, y in zip(ring[::2], ring[1::2], strict=False)]
        except (TypeError, ValueError):
            return None
        inside |= rings.filled(points, size)
    return inside


def runs(found: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray | None:
    """Return which pixels COCO's runs hold, down the columns, beginning outside; None for those of another size."""
    counts, (width, height) = found.get("counts"), size
    if isinstance(counts, str | bytes):
        counts = _uncompressed(counts if isinstance(counts, str) else counts.decode("latin-1"))
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    if (found.get("size") or [height, width]) != [height, width] or sum(counts) != width * height:
        return None
    return _runs.to_mask(np.array(counts, np.int64), size)


def _uncompressed(text: str) -> list[int] | None:
    """Return the runs of COCO's text: five bits a letter; from the fourth on what is added to the one before last.

    None for a text that is none of COCO's.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        part = ord(letter) - 48
        if not 0 <= part < 64 or shift > WIDEST:
            return None
        value |= (part & 0x1F) << shift
        shift += 5
        if not part & 0x20:
            if part & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
