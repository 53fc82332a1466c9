"""Pictures that are nearly the same, also turned or mirrored: by small copies of them."""

from __future__ import annotations

import numpy as np

from hftransfer.inputs.base import Alike

THUMB = 12  # pixels a side of the small copies that near copies are found by
APART = 6.0  # root mean squared difference of two small copies, of 255: a JPEG's loss is 1 to 5
TURNED = 4.0  # the same for turned and mirrored ones
CLEAR = 6.0  # times as much as copies differ others, and a picture within itself
SAMPLED = 256  # pictures that tell how much those of the data differ
BLOCK = 1024
FLAT = 2.0  # a picture that varies less has nothing to tell it by
MOST_PAIRS = 3_000_000_000  # of pictures


def pairs(thumbs: np.ndarray, alike: Alike) -> np.ndarray | None:
    """Return pairs (m, 2) of near copies; None where there are too many pictures to look.

    Turned and mirrored pictures count where they have the same answer: a 6 is no turned 9, and where the way up is
    what the labels tell, nothing is a turned copy.
    """
    if len(thumbs) ** 2 > MOST_PAIRS:
        return None
    turned = turned_pictures(thumbs)
    return np.concatenate([near_pictures(thumbs), turned[alike(turned)]])


def near_pictures(thumbs: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2) of pictures whose small copies are nearly the same, from uint8 (rows, pixels).

    They may differ by APART at most, and by one CLEAR-th of what a picture of this data differs from its nearest.
    """
    values = thumbs.astype(np.float32)
    telling = np.flatnonzero(values.std(axis=1) > FLAT)
    return telling[pairs_within(values[telling], _limit(values, APART) ** 2 * values.shape[1])]


def turned_pictures(thumbs: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2) of pictures one of which, turned by right angles or mirrored, is the other.

    They may differ by TURNED at most, and by one CLEAR-th both of what a picture of this data differs from its nearest
    and of their own contrast: a grey blur that is turned is like any other grey blur.
    """
    values = thumbs.astype(np.float32)
    limit = _limit(values, TURNED)
    telling = np.flatnonzero(values.std(axis=1) > max(FLAT, CLEAR * limit))
    values, squared = values[telling], limit**2 * values.shape[1]
    # of two pictures the means over the orientations are no further apart than the pictures in any: few pairs remain
    pairs = pairs_within(_means(values), squared)
    found = [pairs[:0]]
    for start in range(0, len(pairs), BLOCK):
        some = pairs[start : start + BLOCK]
        turned, other = _turned(values[some[:, 0]])[1:], values[some[:, 1]]
        found.append(some[(np.sum((turned - other) ** 2, axis=2) <= squared).any(axis=0)])
    return telling[np.concatenate(found)]


def _turned(values: np.ndarray) -> np.ndarray:
    """Return small copies (rows, pixels) in the eight orientations (8, rows, pixels), as they are first."""
    grid = values.reshape(len(values), values.shape[1] // (3 * THUMB**2), THUMB, THUMB, 3)
    turned = [np.rot90(one, turns, (2, 3)) for one in (grid, grid[:, :, :, ::-1]) for turns in range(4)]
    return np.stack([one.reshape(values.shape) for one in turned])


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean (rows, fewer pixels) of the eight orientations, each value once, by how often it stands."""
    numbers = np.arange(values.shape[1], dtype=np.int64)
    _, first, count = np.unique(_turned(numbers[None])[:, 0].min(axis=0), return_index=True, return_counts=True)
    grid = values.reshape(len(values), values.shape[1] // (3 * THUMB**2), THUMB, THUMB, 3)
    grid = grid + grid[:, :, ::-1]
    grid = grid + grid[:, :, :, ::-1]
    mean = (grid + grid.swapaxes(2, 3)) / 8
    return np.asarray(mean.reshape(values.shape)[:, first] * np.sqrt(count), np.float32)


def _limit(values: np.ndarray, most: float) -> float:
    """Return how much copies may differ: the nearest that is none differs CLEAR times as much (median)."""
    some = values[np.linspace(0, len(values) - 1, min(len(values), SAMPLED)).astype(np.int64)]
    distances = np.sqrt(np.maximum(_squared(some, values), 0) / values.shape[1])
    nearest = np.min(distances, axis=1, where=distances > APART, initial=np.inf)
    return min(most, float(np.median(nearest)) / CLEAR) if len(values) else most


def pairs_within(values: np.ndarray, squared: float) -> np.ndarray:
    """Return pairs (m, 2), smaller place first, of rows whose squared distance is at most that."""
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(values), BLOCK):
        first, second = np.nonzero(_squared(values[start : start + BLOCK], values[start:]) <= squared)
        found.append(np.stack([first, second], axis=1)[first < second] + start)
    return np.concatenate(found)


def _squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    lengths = [np.sum(values**2, axis=1) for values in (some, others)]
    return np.asarray(lengths[0][:, None] + lengths[1][None] - 2 * some @ others.T)
