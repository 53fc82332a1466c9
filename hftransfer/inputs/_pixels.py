"""Pictures of any depth and transparency as the 8-bit RGB that image processors take, by one rule a data set."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from hftransfer.errors import UserError
from hftransfer.inputs import _dicom

WHOLE = {"I;16", "I;16L", "I;16B", "I;16N", "I"}  # modes of PIL that hold one number a pixel, of more than 8 bits
DEEP = {*WHOLE, "F"}
ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
WHITE = "white"  # what stands behind transparent parts unless it is said otherwise
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners store; the least that hold all values are taken for theirs


class Seen(NamedTuple):
    """What looks at pictures told beside their pixels: how many there are, and how many are of a special kind."""

    pictures: int = 0
    transparent: int = 0
    several: int = 0  # with more than one frame or page
    deep: int = 0
    whole: bool = True  # whether deep ones hold whole numbers, from `low` to `high`
    low: float = float("inf")
    high: float = float("-inf")
    dicom: int = 0  # DICOM files
    windowed: int = 0  # deep ones with a window of their own
    darkest: tuple[float, float] = (float("inf"), float("-inf"))  # least and greatest number that windows show black
    lightest: tuple[float, float] = (float("inf"), float("-inf"))  # and white
    hounsfield: int = 0  # in units that mean the same in every file: those of CT
    curved: int = 0  # to be shown by a curve
    told: int = 0  # whose file is named after a patient

    def and_(self, other: Seen) -> Seen:
        """Return what both told."""
        return Seen(
            self.pictures + other.pictures, self.transparent + other.transparent, self.several + other.several,
            self.deep + other.deep, self.whole and other.whole, min(self.low, other.low), max(self.high, other.high),
            self.dicom + other.dicom, self.windowed + other.windowed, _spread(self.darkest, other.darkest),
            _spread(self.lightest, other.lightest), self.hounsfield + other.hounsfield, self.curved + other.curved,
            self.told + other.told,
        )  # fmt: skip

    @property
    def window(self) -> tuple[float, float] | None:
        """The window that holds for all deep pictures: the one that all have, of CTs one around theirs; else None."""
        one = self.darkest[0] == self.darkest[1] and self.lightest[0] == self.lightest[1]
        return (self.darkest[0], self.lightest[1]) if self.windowed and (one or self.hounsfield == self.deep) else None

    @property
    def depth(self) -> tuple[float, float] | None:
        """The range of deep pictures: what their bits can hold, else what they hold; None without any."""
        if not self.deep:
            return None
        if self.whole and self.low >= 0:
            bits = next((bits for bits in BITS if self.high < 2**bits), None)
            if bits is not None:
                return 0.0, float(2**bits - 1)
        if not self.whole and self.low >= 0 and self.high <= 1:
            return 0.0, 1.0
        return self.low, self.high


def _spread(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def rgb(
    picture: PIL.Image.Image,
    depth: tuple[float, float] | None = None,
    background: str | None = None,
    by_own_window: bool = False,
) -> Any:
    """Return a picture as RGB: transparent parts on `background` (white), and of a deep one `depth` as 0 to 255.

    With `by_own_window` that of a DICOM file counts before `depth`, where it has one. UserError for a deep picture
    with neither: its numbers mean nothing by themselves.
    """
    if picture.mode in DEEP:
        own_window = picture.info.get(_dicom.WINDOW) if by_own_window else None
        depth = own_window or depth
        if depth is None:
            raise UserError(
                "a picture of 8 bits a colour is needed: the model was made for such",
                f"this one holds other numbers (mode {picture.mode})",
                "Scale it to 8 bits, or train on pictures like it.",
            )
        return scaled(picture, depth)
    if picture.mode in ALPHA or "transparency" in picture.info:
        above = picture.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", above.size, background or WHITE), above).convert("RGB")
    return picture.convert("RGB")


def scaled(picture: PIL.Image.Image, depth: tuple[float, float]) -> PIL.Image.Image:
    """Return a deep picture with low and high of `depth` as 0 and 255; what is no number is 0.

    Of a DICOM file of MONOCHROME1, whose low numbers are light, they are 255 and 0.
    """
    low, high = depth
    values = (np.asarray(picture, np.float64) - low) * (255 / max(high - low, np.finfo(float).tiny))
    shown = np.clip(np.nan_to_num(np.rint(values), nan=0.0, posinf=255.0, neginf=0.0), 0, 255).astype(np.uint8)
    return PIL.Image.fromarray(255 - shown if picture.info.get(_dicom.INVERTED) else shown).convert("RGB")


def seen(picture: PIL.Image.Image) -> Seen:
    """Look at a picture that is open: at what `rgb` has to decide, and how many frames or pages it has."""
    several, dicom = int(getattr(picture, "n_frames", 1) > 1), int(picture.format == _dicom.Picture.format)
    if picture.mode in DEEP:
        values = np.asarray(picture)
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        window = picture.info.get(_dicom.WINDOW)
        dark, light = ((end, end) for end in window) if window else (Seen().darkest, Seen().lightest)
        curved, units = (int(picture.info.get(name, False)) for name in (_dicom.CURVED, _dicom.HOUNSFIELD))
        return Seen(
            1, 0, several, 1, picture.mode in WHOLE, low, high, dicom, int(window is not None), dark, light, units,
            curved,
        )  # fmt: skip
    lowest: Any = 255
    if picture.mode in ALPHA or "transparency" in picture.info:
        lowest = picture.convert("RGBA").getchannel("A").getextrema()[0]
    return Seen(1, int(lowest < 255), several, dicom=dicom)


def own(picture: PIL.Image.Image) -> Any:
    """Return a picture as RGB on its own terms, by its window or its least and largest number: not to learn from."""
    found = seen(picture) if picture.mode in DEEP else None
    return rgb(picture, None if found is None else (found.low, found.high), by_own_window=True)
