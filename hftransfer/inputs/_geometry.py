"""What is changed about pictures at random, drawn once: the same goes for a picture, its boxes and its mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import PIL.Image

    from hftransfer.config import Augmentation

LEAST_VISIBLE = 0.5  # share of a box's area that a crop must keep for the box to stay
LEAST_SIDE = 1.0  # pixels of a box's shorter side
TRIES = 10  # windows that are drawn until one suits


@dataclass(frozen=True)
class Change:
    """What was drawn for one picture of `size` (width, height).

    First the `window` (left, top, width, height; pixels) is cut out, then it is mirrored left and right, then turned
    upside down, then made as large as `sized` (width, height) says, then brightness, contrast and saturation are
    multiplied by `shades`; None: as they are.
    """

    size: tuple[int, int]
    window: tuple[int, int, int, int]
    mirrored: bool = False
    upside_down: bool = False
    shades: tuple[float, float, float] | None = None
    sized: tuple[int, int] | None = None

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of what comes of it."""
        return self.sized or self.window[2:]

    def of_picture(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """Return a picture with its colours, changed."""
        import PIL.Image
        from PIL import ImageEnhance

        picture = self._moved(picture, PIL.Image.Resampling.BILINEAR)
        if self.shades is not None:
            kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
            for kind, shade in zip(kinds, self.shades, strict=True):
                picture = kind(picture).enhance(shade)
        return picture

    def of_mask(self, mask: PIL.Image.Image) -> PIL.Image.Image:
        """Return a mask of the picture's size, changed: no pixel gets a value that the mask does not hold."""
        import PIL.Image

        return self._moved(mask, PIL.Image.Resampling.NEAREST)

    def _moved(self, mask: PIL.Image.Image, resample: PIL.Image.Resampling) -> PIL.Image.Image:
        from PIL import ImageOps

        left, top, width, height = self.window
        if (left, top, width, height) != (0, 0, *mask.size):
            mask = mask.crop((left, top, left + width, top + height))
        if self.mirrored:
            mask = ImageOps.mirror(mask)
        mask = ImageOps.flip(mask) if self.upside_down else mask
        return mask if self.sized in (None, mask.size) else mask.resize(self.shown, resample)

    def of_boxes(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (k, 4) of (n, 4), changed and cut to the window, and which (n,) of them are still there.

        A box is left, top, width, height in pixels of the picture. It stays where the window shows half of its area.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        left, top, width, height = self.window
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) - (left, top, left, top)
        corners = np.clip(corners, 0, (width, height, width, height))
        sides = corners[:, 2:] - corners[:, :2]
        visible = sides.prod(1) >= LEAST_VISIBLE * boxes[:, 2:].prod(1)
        scale = np.array(self.shown) / (width, height)
        kept = visible & (sides * scale >= LEAST_SIDE).all(1)
        x, y = corners[:, 0], corners[:, 1]
        x = width - x - sides[:, 0] if self.mirrored else x
        y = height - y - sides[:, 1] if self.upside_down else y
        return (np.column_stack([x, y, sides]) * np.tile(scale, 2))[kept], kept


OVERLAP = 0.25  # of a tile's side, at least, that two neighbours share


def tiles(size: tuple[int, int], side: int) -> list[tuple[int, int, int, int]]:
    """Return windows (left, top, width, height) that cover a picture of `size`; one where it is no larger than one."""
    across, down = (_starts(length, side) for length in size)
    return [(left, top, min(side, size[0]), min(side, size[1])) for top in down for left in across]


def _starts(length: int, side: int) -> list[int]:
    count = 1 + math.ceil(max(0, length - side) / (side * (1 - OVERLAP)))
    return [round(place * (length - side) / max(1, count - 1)) if length > side else 0 for place in range(count)]


def draw(
    size: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
    suits: Callable[[Change], bool] | None = None,
) -> Change:
    """Draw a change of a picture of `size` (width, height): a crop as Inception's (Szegedy et al. 2015, section 6).

    A crop that does not suit is drawn again; after `TRIES` of them the picture is not cropped.
    """
    for _ in range(TRIES):
        change = _drawn(size, augmentation, rng)
        if suits is None or suits(change):
            return change
    return replace(change, window=(0, 0, *size))


def _drawn(size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator) -> Change:
    # every draw is made whatever is switched on, so that turning one change off leaves the others as they were
    area, ratio, left, top, mirror, *shades = rng.random(8)
    turn = rng.random()
    width, height = size
    window = (0, 0, width, height)
    if augmentation.crop < 1:
        share = augmentation.crop + area * (1 - augmentation.crop)
        aspect = float(np.exp(np.log(3 / 4) + ratio * (np.log(4 / 3) - np.log(3 / 4))))
        cut_width = min(width, max(1, round((width * height * share * aspect) ** 0.5)))
        cut_height = min(height, max(1, round((width * height * share / aspect) ** 0.5)))
        window = (round(left * (width - cut_width)), round(top * (height - cut_height)), cut_width, cut_height)
    brightness, contrast, saturation = (1 + (2 * shade - 1) * augmentation.color for shade in shades)
    return Change(
        size,
        window,
        augmentation.flip and mirror < 0.5,
        augmentation.upside_down and turn < 0.5,
        (brightness, contrast, saturation) if augmentation.color else None,
    )


# --- four pictures in one ---

AROUND = (0.25, 0.75)  # shares of the sides between which the point lies where four pictures meet
PIECES = 4


@dataclass(frozen=True)
class Mosaic:
    """Four pictures that fill one of `size`: what is done to each, and where (left, top) it then lies."""

    size: tuple[int, int]
    pieces: tuple[tuple[Change, tuple[int, int]], ...]

    def of_pictures(self, pictures: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
        """Return pictures with their colours as one."""
        import PIL.Image

        made = PIL.Image.new("RGB", self.size)
        for picture, (change, corner) in zip(pictures, self.pieces, strict=True):
            made.paste(change.of_picture(picture), corner)
        return made


def draw_mosaic(
    sizes: Sequence[tuple[int, int]],
    augmentation: Augmentation,
    rng: np.random.Generator,
    suits: Sequence[Callable[[Change], bool] | None],
) -> Mosaic:
    """Draw a mosaic (Bochkovskiy et al. 2020, section 3.4) as large as the first of four pictures.

    Each is changed as `draw` does and cut to the shape of its quarter, and never stretched but where no cut suits.
    """
    width, height = sizes[0]
    low, high = AROUND
    across, down = low + (high - low) * rng.random(2)
    x, y = max(1, round(across * width)), max(1, round(down * height))
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    pieces = []
    for size, suit, (left, top, right, bottom) in zip(sizes, suits, quarters, strict=True):
        shape = max(1, right - left), max(1, bottom - top)
        pieces.append((_fitted(size, shape, augmentation, rng, suit), (left, top)))
    return Mosaic((width, height), tuple(pieces))


def _fitted(
    size: tuple[int, int],
    shape: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
    suits: Callable[[Change], bool] | None,
) -> Change:
    """Draw a change of a picture that fills a `shape` (width, height)."""
    for _ in range(TRIES):
        drawn = _drawn(size, augmentation, rng)
        left, top, width, height = drawn.window
        cut_width = min(width, max(1, round(height * shape[0] / shape[1])))
        cut_height = min(height, max(1, round(cut_width * shape[1] / shape[0])))
        aside, below = rng.random(2)
        window = (
            left + round(aside * (width - cut_width)), top + round(below * (height - cut_height)),
            cut_width, cut_height,
        )  # fmt: skip
        change = replace(drawn, window=window, sized=shape)
        if suits is None or suits(change):
            return change
    return replace(change, window=(0, 0, *size))
