"""How a mask is shown: what share of a picture each class has, where it lies, and the picture with it drawn in."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from hftransfer.answers import _mask_files as files
from hftransfer.views import Regions

SEEN = 0.55  # how much of a class's colour covers the picture
LARGEST = 1024  # pixels a side of a drawn picture


def colour(place: int) -> tuple[int, int, int]:
    """Return a colour for a class, unlike its neighbours': Pascal VOC's, which spread the bits of the number."""
    parts, number = [0, 0, 0], place + 1
    for shift in range(7, -1, -1):
        for part in range(3):
            parts[part] |= (number >> part & 1) << shift
        number >>= 3
    return parts[0], parts[1], parts[2]


def answer(png: bytes, names: Sequence[str], background: int | None, picture: Any) -> dict[str, Any]:
    """Return an answer: the mask as base64, what each class takes of it and where, and it drawn into the picture.

    `picture` is a path or a picture of PIL; nothing is drawn where neither can be read.
    """
    classes = files.of_png(png)
    found = []
    for place in np.unique(classes):
        name = names[place] if place < len(names) else str(place)
        down, across = np.nonzero(classes == place)
        left, top = int(across.min()), int(down.min())
        box = [left, top, int(across.max()) + 1 - left, int(down.max()) + 1 - top]
        found.append({"label": name, "share": round(len(down) / classes.size, 6), "box": box, "class": int(place)})
    found.sort(key=lambda one: (one["class"] == background, -float(str(one["share"]))))
    shown = drawn(classes, background, picture)
    return {
        "mask": base64.b64encode(png).decode(), "width": classes.shape[1], "height": classes.shape[0],
        "segments": found, "background": None if background is None else names[background],
        **({} if shown is None else {"drawn": base64.b64encode(shown).decode()}),
    }  # fmt: skip


def drawn(classes: np.ndarray, background: int | None, picture: Any, largest: int = LARGEST) -> bytes | None:
    """Return classes (h, w) drawn into their picture, a PNG; None where that is not at hand, or of another size."""
    try:
        if isinstance(picture, str | os.PathLike):
            with PIL.Image.open(Path(picture)) as opened:
                from PIL import ImageOps

                below = ImageOps.exif_transpose(opened).convert("RGB")
        elif isinstance(picture, PIL.Image.Image):
            below = picture.convert("RGB")
        else:
            return None
    except files.UNREADABLE:
        return None
    if below.size != classes.shape[::-1]:
        return None
    shades = np.array([colour(place) for place in range(256)], np.uint8)
    covered = np.full(classes.shape, SEEN)
    if background is not None:
        covered[classes == background] = 0.0
    mixed = np.asarray(below) * (1 - covered[..., None]) + shades[classes] * covered[..., None]
    whole = PIL.Image.fromarray(np.rint(mixed).astype(np.uint8))
    whole.thumbnail((largest, largest))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def view(found: Mapping[str, Any]) -> Regions:
    """Return the view of an answer: the classes but the background, the one with most pixels first."""
    named = [one for one in found["segments"] if one["label"] != found.get("background")]
    parts = tuple((one["label"], float(one["share"]), tuple(map(float, one["box"]))) for one in named)
    return Regions(parts, "share", found.get("drawn"))  # type: ignore[arg-type]


def in_words(png: bytes, names: Sequence[str]) -> str:
    """Return what a mask holds, in a line: the share of each class."""
    classes = files.of_png(png)
    counts = np.bincount(classes.ravel(), minlength=256)[: len(names)]
    order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
    return ", ".join(f"{names[place]} {counts[place] / classes.size:.0%}" for place in order[:6]) or "nothing"


def of_parts(parts: Sequence[Mapping[str, Any]], names: Mapping[str, int]) -> dict[str, Any] | None:
    """Return what `pipeline("image-segmentation", subtask="semantic")` gave, a mask for each class, as our answer."""
    if not parts:
        return None
    classes = np.full(np.asarray(parts[0]["mask"]).shape, files.NOTHING, np.uint8)
    for part in parts:
        classes[np.asarray(part["mask"]) > 0] = names[part["label"]]
    return {"mask": base64.b64encode(files.to_png(classes)).decode()}


def joined(tiles: Sequence[tuple[np.ndarray, tuple[int, int], tuple[int, int] | None]]) -> np.ndarray:
    """Return the classes (h, w) of a picture from tiles: classes, corner (left, top), the whole's (width, height).

    Where tiles overlap, a pixel is answered by that in which it lies farthest from an edge inside the picture: there
    the model saw most around it.
    """
    width, height = tiles[0][2] or tiles[0][0].shape[::-1]
    found, best = np.zeros((height, width), np.uint8), np.full((height, width), -1.0)
    for classes, (left, top), _ in tiles:
        down, across = classes.shape
        inside = np.minimum(
            _depth(down, top > 0, top + down < height)[:, None], _depth(across, left > 0, left + across < width)
        )
        place = slice(top, top + down), slice(left, left + across)
        deeper = inside > best[place]
        found[place][deeper] = classes[deeper]
        best[place][deeper] = inside[deeper]
    return found


def _depth(length: int, before: bool, behind: bool) -> np.ndarray:
    """Return how far each place (length,) is from the ends that something lies beyond."""
    places = np.arange(length, dtype=np.float64)
    first = places if before else np.full(length, np.inf)
    last = places[::-1] if behind else np.full(length, np.inf)
    return np.minimum(first, last)
