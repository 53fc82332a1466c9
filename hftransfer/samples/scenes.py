"""Scenes composed of cut-out pictures, whose transparency says exactly which pixels are whose: boxes and masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples import rows
from hftransfer.samples.pictures import EMOJI, cutouts, png
from hftransfer.samples.sample import Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SCENES = 600
SIDE = 128  # pixels of a scene
SIZES = (24, 52)  # pixels of a cut-out's side, at random between
MOST = 4  # cut-outs in a scene, at random from one
SOLID = 128  # alpha from which a pixel belongs to a cut-out, and not to what is behind it
LEAST_SEEN = 0.7  # share of a cut-out's pixels that those laid over it leave to be seen
TRIES = 20  # places that are drawn for a cut-out
# how the subcategories of each class begin; signs (transport-sign) are no vehicles
CLASSES = {
    "animal": ("animal-",),
    "plant": ("plant-",),
    "food": ("food-",),
    "vehicle": ("transport-ground", "transport-air", "transport-water"),
}


@dataclass(frozen=True)
class Scene:
    """A picture, and what stands in it.

    `mask` (height, width) holds 0 for the ground and 1 + the class elsewhere; `instances` 0, and 1 + the cut-out.
    `boxes` are left, top, width, height around the pixels of each cut-out that are seen.
    """

    picture: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]
    classes: tuple[int, ...]
    mask: np.ndarray
    instances: np.ndarray


def scene(
    shapes: Sequence[Sequence[Image.Image]],
    rng: np.random.Generator,
    side: int = SIDE,
    sizes: tuple[int, int] = SIZES,
    most: int = MOST,
) -> Scene:
    """Return a scene of 1 to `most` RGBA cut-outs, of `shapes` by class, on a ground of noise."""
    import numpy as np
    from PIL import Image, ImageOps

    picture = Image.fromarray(_ground(rng, side))
    instances = np.zeros((side, side), np.uint8)
    whole: list[int] = []  # pixels of each cut-out by itself
    classes: list[int] = []
    for _ in range(int(rng.integers(1, most + 1))):
        kind = int(rng.integers(len(shapes)))
        shape = shapes[kind][int(rng.integers(len(shapes[kind])))]
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        shape = shape.resize((size, size), Image.Resampling.LANCZOS)
        shape = ImageOps.mirror(shape) if rng.random() < 0.5 else shape
        solid = np.asarray(shape)[..., 3] >= SOLID
        for _ in range(TRIES):
            left, top = (int(place) for place in rng.integers(0, side - size + 1, 2))
            tried = instances.copy()
            tried[top : top + size, left : left + size][solid] = len(whole) + 1
            seen = np.bincount(tried.ravel(), minlength=len(whole) + 2)[1:]
            if solid.any() and (seen >= LEAST_SEEN * np.array([*whole, int(solid.sum())])).all():
                instances = tried
                picture.paste(shape.convert("RGB"), (left, top), Image.fromarray(np.where(solid, 255, 0).astype("u1")))
                whole.append(int(solid.sum()))
                classes.append(kind)
                break
    mask = np.array([0, *(1 + kind for kind in classes)], np.uint8)[instances]
    boxes = tuple(_around(instances == number + 1) for number in range(len(whole)))
    return Scene(picture, boxes, tuple(classes), mask, instances)


def _around(pixels: np.ndarray) -> tuple[int, int, int, int]:
    import numpy as np

    y, x = np.nonzero(pixels)
    return int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1


def _ground(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return soft spots of any colours (side, side, 3), with a grain."""
    import numpy as np
    from PIL import Image

    few = Image.fromarray(rng.integers(70, 186, (4, 4, 3)).astype(np.uint8))
    soft = np.asarray(few.resize((side, side), Image.Resampling.BICUBIC), np.int64)
    return np.clip(soft + rng.integers(-12, 13, (side, side, 1)), 0, 255).astype(np.uint8)


def emoji_scenes(folder: Path, archive: Any) -> None:
    """Write image, objects {bbox: [x, y, width, height] in pixels, category}, mask and instances, a scene a row."""
    rows.write(
        folder,
        ("image", "objects", "mask", "instances"),
        _rows(shapes_of(archive)),
        image=rows.IMAGE,
        mask=rows.IMAGE,
        instances=rows.IMAGE,
    )


def shapes_of(archive: Any) -> Mapping[str, list[Image.Image]]:
    """Return the emoji of each class, cut out: RGBA."""
    found: dict[str, list[Image.Image]] = {name: [] for name in CLASSES}
    for one, picture in cutouts(archive):
        for name, beginnings in CLASSES.items():
            if one["subcategory"].startswith(beginnings):
                found[name].append(picture)
    return found


def _rows(shapes: Mapping[str, list[Image.Image]]) -> Iterator[tuple[Any, ...]]:
    import numpy as np

    names = list(shapes)
    for number in range(SCENES):
        made = scene(list(shapes.values()), np.random.default_rng([number]))
        objects = {"bbox": [[*map(float, box)] for box in made.boxes], "category": [names[k] for k in made.classes]}
        yield (
            png(made.picture, f"{number:04}.png"),
            objects,
            png(_grey(made.mask), f"{number:04}_mask.png"),
            png(_grey(made.instances), f"{number:04}_instances.png"),
        )


def _grey(values: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(values)


SAMPLES = (
    Sample(
        "emoji-scenes",
        "data",
        "object-detection",
        f"{SCENES} scenes, {SIDE}x{SIDE}, of 1 to {MOST} Noto emoji on noise, with exact boxes and masks (1 animal, "
        "2 plant, 3 food, 4 vehicle; 0 ground; instances numbered apart).",
        "MIT package, Apache-2.0 images",
        (EMOJI,),
        emoji_scenes,
    ),
)
