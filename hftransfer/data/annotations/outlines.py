"""Outlines that were drawn on pictures, polygons or COCO's runs, as masks: a class for every pixel."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from datasets import Dataset, Features, Image, IterableDataset, concatenate_datasets

from hftransfer.config import DataConfig
from hftransfer.data.annotations import columns
from hftransfer.data.annotations.drawn import Drawn, Picture
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

    A source that holds masks keeps them. UserError for boxes alone.
    """
    rows = picked.splits["train"].rows
    if not any(answer.outlined for answer in task.answers) or isinstance(rows, IterableDataset):
        return picked, {}
    truth = task.truth
    told = config.column_names.get(truth.name)
    held = columns.find(rows, told)
    images = [name for name, feature in (rows.features or {}).items() if isinstance(feature, Image)]
    if held is None or (told is not None and held.column != told) or len(images) > 1:
        return picked, {}
    drawn = {use: _drawn(split.rows, config) for use, split in picked.splits.items()}
    train = [thing for one in drawn["train"].pictures for thing in one.things or ()]
    bare = sum(thing.outline is None for thing in train)
    if 2 * bare > len(train):
        raise UserError(
            f"{task.name} needs outlines of things", f"{bare:,} of {len(train):,} have none: boxes alone say nothing",
            "Give masks or polygons, or learn boxes: task=object-detection.",
        )  # fmt: skip
    found = sorted({thing.name for thing in train if thing.name is not None})
    names = [GROUND, *(name for name in found if name != GROUND)]
    flat = sum(not has_area(thing.outline) for thing in train if thing.outline is not None)
    if train and flat == len(train) - bare:
        raise UserError(
            f"{task.name} needs outlines with an area", f"all {flat:,} have fewer than three points, or no run",
            "Draw polygons of three points or more; for what is a point or a line there is no task here.",
        )  # fmt: skip
    if len(names) > MOST:
        raise UserError(f"up to {MOST - 1} classes are possible", f"there are {len(found)}", "Join some of them.")
    splits, faults = {}, Counter[str]()
    for use, split in picked.splits.items():
        sizes = sizes_of(split.rows, task)
        shares = in_shares(drawn[use])
        masks = [_mask(one, size, names, faults, shares) for one, size in zip(drawn[use].pictures, sizes, strict=True)]
        if use == "train" and faults[RESIZED] and not any(masks):
            raise UserError(
                "the pictures that were drawn on are needed", f"{faults[RESIZED]:,} {RESIZED}",
                "Take the pictures at the size at which they were annotated, or export the annotations for these.",
            )  # fmt: skip
        held_in = columns.find(split.rows, told)
        gone = [*(held_in.columns if held_in is not None else ()), "_drawn_size", truth.name]
        kept = split.rows.remove_columns([name for name in gone if name in split.rows.features])
        values = [None if mask is None else {"bytes": mask, "path": None} for mask in masks]
        made = Dataset.from_dict({truth.name: values}, features=Features({truth.name: Image()}))
        splits[use] = replace(split, rows=concatenate_datasets([kept, made], axis=1))
    said = (
        f"masks are made of outlines: {len(found)} classes, and {GROUND} where there is none; small ones "
        "lie on top; objects of one class are not told apart"
    )
    warnings = [*picked.warnings, *(f"{count:,} {what}" for what, count in faults.items())]
    settings = {"label_names": tuple(names), "background_class": GROUND, "ignore_value": -1, "label_colors": None}
    return replace(picked, splits=splits, warnings=tuple(warnings), guesses=(*picked.guesses, said)), settings


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
    if one.things is None or found is None:
        return None
    size = one.size or found.upright
    if size not in (found.upright, found.stored):  # what a file claims may be of any size
        faults[RESIZED] += 1
        return None
    parts = []
    for thing in one.things:
        inside = None if thing.outline is None else pixels_of(thing.outline, size, shares)
        if inside is None or not inside.any():
            faults["things have no outline with an area: their pixels are background"] += 1
        elif thing.name not in names:
            faults["outlines are of no class, or of one that train has not: their pixels are background"] += 1
        else:
            parts.append((int(inside.sum()), names.index(thing.name), _cut(inside)))
    classes = np.zeros(size[::-1], np.uint8)
    for _, place, (part, inside) in sorted(parts, key=lambda part: -part[0]):
        classes[part][inside] = place
    buffer = io.BytesIO()
    made = PIL.Image.fromarray(classes)
    if size == found.stored != found.upright:
        made = made.transpose(TURNS[found.orientation])
    made.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


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
    rings = _rings(outline)
    if not rings:
        return None
    canvas = PIL.Image.new("1", size)
    across, down = size if shares else (1, 1)
    for ring in rings:
        try:  # a coordinate is an edge of pixels, and PIL's are their middles
            pairs = zip(ring[::2], ring[1::2], strict=False)
            points = [(float(x) * across - 0.5, float(y) * down - 0.5) for x, y in pairs]
        except (TypeError, ValueError):
            return None
        PIL.ImageDraw.Draw(canvas).polygon(points, fill=1)
    return np.asarray(canvas)


def runs(found: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray | None:
    """Return which pixels COCO's runs hold, down the columns, beginning outside; None for those of another size."""
    counts, (width, height) = found.get("counts"), size
    if isinstance(counts, str | bytes):
        counts = _uncompressed(counts if isinstance(counts, str) else counts.decode("latin-1"))
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    if (found.get("size") or [height, width]) != [height, width] or sum(counts) != width * height:
        return None
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.array(counts, np.int64))
    return flat.reshape(width, height).T


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
