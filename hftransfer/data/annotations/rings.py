"""Rings of points as pixels: those whose middle lies inside, so that a box of 10 x 20 has 200 of them, as COCO has it.

PIL draws the edges of a polygon too: half a pixel around, a tenth of the area of what is 20 pixels wide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw


def filled(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """Return which pixels (h, w) of a picture of `size` (width, height) a ring holds; none for what is no number.

    `points` are (x, y) in pixels, whole numbers being edges of them. What is too thin to hold the middle of a pixel
    has those that its edges meet.
    """
    width, height = size
    x, y = np.asarray(points, np.float64).T
    inside = np.zeros((height, width), bool)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return inside
    on_x, on_y = np.roll(x, -1), np.roll(y, -1)
    first, last = (_from(edge, height) for edge in (np.minimum(y, on_y), np.maximum(y, on_y)))
    edge = np.repeat(np.arange(len(x)), last - first)  # each edge for each row whose middle it passes
    row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    slope = np.divide(on_x - x, on_y - y, out=np.zeros_like(x), where=on_y != y)
    column = _from(x[edge] + (row + 0.5 - y[edge]) * slope[edge], width)
    if len(row):
        top, left = row.min(), column.min()
        turns = np.zeros((row.max() + 1 - top, column.max() + 1 - left), np.uint8)
        np.bitwise_xor.at(turns, (row - top, column - left), 1)
        part = np.bitwise_xor.accumulate(turns, axis=1)[:, :-1].astype(bool)
        inside[top : top + part.shape[0], left : left + part.shape[1]] = part
    if inside.any():
        return inside
    canvas = PIL.Image.new("1", size)
    PIL.ImageDraw.Draw(canvas).polygon([(a - 0.5, b - 0.5) for a, b in zip(x, y, strict=True)], fill=1)
    return np.asarray(canvas)


def _from(places: np.ndarray, most: int) -> np.ndarray:
    """Return the first pixel whose middle is not before each place, `most` where none is."""
    return np.clip(np.ceil(places - 0.5), 0, most).astype(np.int64)
