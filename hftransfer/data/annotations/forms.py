"""What four numbers of a box mean, told by which reading leaves boxes in their pictures; and boxes made so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hftransfer.data.annotations.drawn import FORMS, Form
from hftransfer.errors import UserError

RELATIVE = 1.01  # up to which numbers are shares of the picture
LEAST = 2.0  # largest number, in pixels, of any set of boxes
MOST_WRONG, FEW = 0.02, 3  # share of boxes, and their number, that may leave their pictures
SLACK = 0.01  # share of a side by which a box may leave its picture by rounding
EXIF_TURNED = (5, 6, 7, 8)  # orientations in which width is height


@dataclass(frozen=True)
class Reading:
    """What numbers mean, and a sentence on why; `wrong` is the share of boxes that leave their pictures so."""

    form: Form
    relative: bool
    said: str
    wrong: float


def told(numbers: np.ndarray, sizes: np.ndarray, usual: Form, asked: Form | None) -> Reading:
    """Return how boxes (n, 4) on pictures of `sizes` (n, 2) are read: as asked, else as usual where that can be.

    UserError where no reading, or several but the usual one, leave the boxes in their pictures.
    """
    known = np.isfinite(numbers).all(1)
    numbers, sizes = numbers[known], sizes[known]
    far = np.abs(numbers).max(1, initial=0)
    far = far[far > 0]  # of most: a box that hangs out of its picture makes the others no pixels
    relative = bool(len(far)) and bool(np.median(far) <= RELATIVE) and bool(sizes.min() > LEAST)
    scaled = numbers * np.tile(sizes, 2) if relative else numbers
    shares = {form: _wrong(as_corners(scaled, form), sizes) for form in FORMS}
    least = min(shares.values())
    few = FEW / max(len(numbers), 1)  # so many wrong boxes may be, where no other reading explains more of them
    fits = [form for form in FORMS if shares[form] <= MOST_WRONG or shares[form] == least <= few]
    form = asked or (usual if usual in fits or not len(numbers) else fits[0] if len(fits) == 1 else None)
    unit = "in shares of the picture" if relative else "in pixels"
    each = ", ".join(f"as {FORMS[one]} {share:.1%}" for one, share in shares.items() if one != form)
    if form is None:
        raise UserError(
            "boxes that lie in their pictures are needed", f"of {len(numbers):,} boxes leave theirs, {unit}: {each}",
            "Set data.boxes to what the numbers are (xywh, xyxy, cxcywh), and check that they are of these pictures.",
        )  # fmt: skip
    said = f"boxes are {FORMS[form]}, {unit}: {shares[form]:.1%} leave their pictures so ({each}) (data.boxes)"
    return Reading(form, relative, said, shares[form])


def _wrong(corners: np.ndarray, sizes: np.ndarray) -> float:
    """Return the share of boxes that leave their pictures, or end before they begin."""
    if not len(corners):
        return 0.0
    slack = np.maximum(1.0, SLACK * sizes)
    out = (corners[:, :2] < -slack) | (corners[:, 2:] > sizes + slack) | (corners[:, 2:] < corners[:, :2])
    return float(out.any(1).mean())


def as_corners(numbers: np.ndarray, form: Form) -> np.ndarray:
    """Return left, top, right and bottom of boxes (n, 4)."""
    first, second = numbers[:, :2], numbers[:, 2:]
    if form == "xywh":
        return np.concatenate([first, first + second], 1)
    if form == "cxcywh":
        return np.concatenate([first - second / 2, first + second / 2], 1)
    return numbers


def within(
    numbers: np.ndarray, reading: Reading, size: tuple[int, int], faults: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return left, top, width, height of the boxes (k, 4) of a picture, cut to it, and which (n,) are left.

    What was cut or left out is counted by `faults`.
    """
    numbers = numbers * np.tile(size, 2) if reading.relative else numbers
    corners = as_corners(numbers, reading.form)
    finite = np.isfinite(corners).all(1)
    corners = np.where(finite[:, None], corners, 0.0)
    cut = np.clip(corners, 0, np.tile(size, 2))
    sides, before = cut[:, 2:] - cut[:, :2], corners[:, 2:] - corners[:, :2]
    empty = finite & (before <= 0).any(1)
    outside = finite & ~empty & (sides <= 0).any(1)
    kept = finite & ~empty & ~outside
    hanging = kept & (np.abs(cut - corners).max(1, initial=0) > 1)
    for name, mask in (
        ("boxes without four numbers: left out", ~finite), ("boxes of no area: left out", empty),
        ("boxes outside of their pictures: left out", outside),
        ("boxes that hang out of their pictures: cut", hanging),
    ):  # fmt: skip
        faults[name] += int(mask.sum())
    return np.concatenate([cut[:, :2], sides], 1)[kept], kept


def turned(boxes: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Return boxes (n, 4) of a picture as its file holds it, `size` wide and high, on the picture turned upright."""
    (x, y, w, h), (width, height) = boxes.T, size
    right, below = width - x - w, height - y - h
    parts: dict[int, Sequence[np.ndarray]] = {
        1: (x, y, w, h), 2: (right, y, w, h), 3: (right, below, w, h), 4: (x, below, w, h), 5: (y, x, h, w),
        6: (below, x, h, w), 7: (below, right, h, w), 8: (y, right, h, w),
    }  # fmt: skip
    return np.stack(parts.get(orientation, parts[1]), 1)
