"""Boxes, and masks of single objects, in their picture, and in words."""

from __future__ import annotations

import base64
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.answers import _runs

LARGEST = 1024  # pixels of a side of what is drawn
COVER = 120  # of 255, how much of an object's colour lies on its mask
COLOURS = ("#2f6f9f", "#d9a441", "#c8636b", "#4f8f5b", "#7a5ea8", "#3aa6a6", "#b0603a", "#5b6673")


def drawn(picture: Any, objects: Sequence[Mapping[str, Any]], largest: int = LARGEST) -> str | None:
    """Return a picture with boxes and names in it, a PNG as base64; None where the picture is not at hand.

    An object that has a `mask` is covered with a colour of its own, and its score stands beside its name.
    """
    import PIL.Image
    from PIL import ImageDraw, ImageOps

    try:
        if isinstance(picture, str | os.PathLike):
            with PIL.Image.open(picture) as opened:
                below = ImageOps.exif_transpose(opened).convert("RGB")
        elif isinstance(picture, PIL.Image.Image):
            below = ImageOps.exif_transpose(picture).convert("RGB")
        else:
            return None
    except (OSError, ValueError, SyntaxError):  # what PIL raises for broken files, or ones that it does not read
        return None
    before = below.width
    below.thumbnail((largest, largest))
    scale, pen = below.width / before, ImageDraw.Draw(below)
    kinds = sorted({str(one["label"]) for one in objects})
    for place, one in enumerate(sorted(objects, key=lambda one: float(one["score"]))):  # the surest on top
        edges = [float(one["box"][edge]) * scale for edge in ("xmin", "ymin", "xmax", "ymax")]
        if edges[2] < edges[0] or edges[3] < edges[1]:
            continue
        said, number = str(one["label"]), kinds.index(str(one["label"]))
        if "mask" in one:
            said, number = f"{said} {one['score']:.2f}" if one["score"] < 1 else said, place
        colour = COLOURS[number % len(COLOURS)]
        if "mask" in one:
            below.paste(colour, mask=_cover(one["mask"], below.size))
        pen.rectangle(edges, outline=colour, width=2)
        pen.text((edges[0] + 3, edges[1] + 2), said, fill="white", stroke_width=2, stroke_fill=colour)
    buffer = io.BytesIO()
    below.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _cover(mask: Mapping[str, Any], size: tuple[int, int]) -> Any:
    """Return how much of a colour lies on each pixel of a picture made `size` (width, height), by a mask's runs."""
    import PIL.Image

    height, width = mask["size"]
    inside = _runs.to_mask(np.array(mask["counts"]), (width, height))
    return PIL.Image.fromarray(inside.astype(np.uint8) * COVER).resize(size)


def in_words(stored: Sequence[Mapping[str, Any]], threshold: float) -> str:
    """Return how many boxes of each class there are, or are given from a threshold on, in a line."""
    given = [one for one in stored if one.get("score", 1.0) >= threshold]
    counts = Counter(str(one["name"]) for one in given)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(6)) or "nothing"
