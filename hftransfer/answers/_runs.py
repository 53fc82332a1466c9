"""Masks of single objects as COCO's runs: how many pixels lie outside, inside, outside ..., column by column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def of_mask(inside: np.ndarray) -> np.ndarray:
    """Return the runs (n,), int32, of a mask (h, w) of truth values."""
    flat = np.asarray(inside, bool).T.ravel()
    ends = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    begins = [0] if flat.size and flat[0] else []
    return np.concatenate([begins, np.diff(ends)]).astype(np.int32)


def to_mask(counts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the mask (h, w) of truth values that runs are of, in a picture of `size` (width, height)."""
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.asarray(counts, np.int64))
    return flat.reshape(size).T


def of_box(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Return the runs of a whole box (left, top, width, height; pixels), cut to a picture of `size`."""
    width, height = size
    left, right = (int(np.clip(round(edge), 0, width)) for edge in (box[0], box[0] + box[2]))
    top, bottom = (int(np.clip(round(edge), 0, height)) for edge in (box[1], box[1] + box[3]))
    down, across = bottom - top, right - left
    if down <= 0 or across <= 0:
        return np.array([width * height], np.int32)
    if down == height:
        return np.array([left * height, down * across, (width - right) * height], np.int32)
    columns = np.tile([down, height - down], across)
    columns[-1] = width * height - (right - 1) * height - bottom
    return np.concatenate([[left * height + top], columns]).astype(np.int32)


def area(counts: np.ndarray) -> int:
    """Return how many pixels lie inside."""
    return int(np.asarray(counts)[1::2].sum())


def _ends(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each run inside begins, and where it ends."""
    ends = np.cumsum(counts, dtype=np.int64)
    stops = ends[1::2]
    starts = ends[0::2][: len(stops)]
    return starts[stops > starts], stops[stops > starts]


def box_of(counts: np.ndarray, height: int) -> tuple[float, float, float, float]:
    """Return left, top, width and height of what lies inside; of nothing all are 0."""
    starts, stops = _ends(counts)
    if not len(starts):
        return 0.0, 0.0, 0.0, 0.0
    left, right = starts[0] // height, (stops[-1] - 1) // height + 1
    if (starts // height != (stops - 1) // height).any():  # it goes on at the top of the next column
        return float(left), 0.0, float(right - left), float(height)
    top, bottom = (starts % height).min(), ((stops - 1) % height).max() + 1
    return float(left), float(top), float(right - left), float(bottom - top)


def shared(found: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many pixels each of some masks (d) shares with each of others (g) of the same picture, (d, g)."""
    ends = [_ends(one) for one in found]
    owner = np.repeat(np.arange(len(found)), [len(starts) for starts, _ in ends])
    edges = np.concatenate([np.stack(one) for one in ends] or [np.zeros((2, 0))], axis=1)
    both = np.zeros((len(found), len(actual)))
    for at, counts in enumerate(actual):
        known = np.asarray(counts, np.int64)
        places = np.concatenate([[0], known.cumsum()])
        within = np.concatenate([[0], np.where(np.arange(len(known)) % 2 == 1, known, 0).cumsum()])
        starts, stops = np.interp(edges, places, within)  # how many of its pixels lie before
        both[:, at] = np.bincount(owner, stops - starts, minlength=len(found))
    return both


def overlaps(found: Sequence[np.ndarray], actual: Sequence[np.ndarray], crowd: np.ndarray) -> np.ndarray:
    """Return intersection over union (d, g); with a crowd (g,), the share of what was found that lies in it."""
    both = shared(found, actual)
    own, other = (np.array([area(one) for one in part], np.float64) for part in (found, actual))
    whole = np.where(crowd, own[:, None], own[:, None] + other - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)
