"""Annotations as JSON: COCO's one file, Label Studio's one file, labelme's file a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np
import PIL.Image

from hftransfer.data.annotations.drawn import Picture, Skipped, Thing, around, around_turned
from hftransfer.errors import UserError, with_rows
from hftransfer.safety.pictures import unreadable

EDGES = {"x", "y", "width", "height"}
PLACED = {"x", "points", "vertices", "rle"}  # a result of Label Studio that has one lies somewhere
OF_PIXELS = "mask"  # the shape that labelme gives what AI drew
Found = Iterator[tuple[str, Picture]]  # the file that a picture is in, and what was drawn on it


def is_coco(found: Any) -> bool:
    """Tell whether a JSON file is COCO's: a list of pictures, and one of what is on them."""
    return isinstance(found, Mapping) and all(isinstance(found.get(name), list) for name in ("images", "annotations"))


def of_coco(found: Mapping[str, Any], name: str, warnings: list[str]) -> Found:
    """Yield the pictures of a COCO file; a picture that no annotation names has none: COCO's sets are whole."""
    kinds = {one["id"]: str(one.get("name", one["id"])) for one in found.get("categories") or []}
    things: dict[Any, list[Thing]] = {one["id"]: [] for one in found["images"]}
    lost, few = [], 0
    for one in found["annotations"]:
        if one.get("image_id") not in things:
            lost.append(str(one.get("id")))
            continue
        outline = one.get("segmentation")
        if isinstance(outline, list) and any(len(ring) < 6 for ring in outline if isinstance(ring, Sequence)):
            few += 1
        place = one.get("bbox") or around(outline)
        kind = kinds.get(one.get("category_id")) if kinds else _name(one.get("category_id"))
        things[one["image_id"]].append(Thing(place, kind, bool(one.get("iscrowd")), outline))
    if lost:
        warnings.append(
            with_rows(f"{name}: {len(lost):,} annotations are of pictures that it does not list", lost[:5])
        )
    if few:
        warnings.append(f"{name}: {few:,} outlines have a polygon of fewer than three points, which has no area")
    for one in found["images"]:
        size = (int(one["width"]), int(one["height"])) if one.get("width") and one.get("height") else None
        yield str(one.get("file_name", one["id"])), Picture(things[one["id"]], size)


def without_places(found: Mapping[str, Any]) -> str | None:
    """Return what a COCO file holds in place of boxes and outlines, where none of its annotations has one; else None.

    A file without any annotation tells that there is nothing on its pictures.
    """
    held = [one for one in found["annotations"] if isinstance(one, Mapping)]
    if not held or any(one.get("bbox") or one.get("segmentation") for one in held):
        return None
    named = {
        "caption": "captions of pictures",
        "segments_info": "segments of panoptic masks",
        "keypoints": "keypoints",
    }
    return next((what for name, what in named.items() if any(name in one for one in held)), "names of classes")


def refuse_without_places(path: Path, held: str) -> UserError:
    """Return the error of COCO files that do not say where things are."""
    return UserError(
        "annotations that say where things are, by boxes or outlines, are needed",
        f"{path.name} holds {held}, and neither",
        "Put the file with boxes beside it, or set data.source to that one; the names of COCO's own begin with "
        "instances.",
    )


def _name(value: Any) -> str | None:
    return None if value is None else str(value)


def is_label_studio(found: Any) -> bool:
    """Tell whether a JSON file is Label Studio's own, of rectangles or polygons on pictures."""
    if not isinstance(found, list) or not found or not all(isinstance(one, Mapping) for one in found):
        return False
    return all("data" in one and ("annotations" in one or "completions" in one) for one in found) and any(
        str(part.get("type", "")).startswith(("rectangle", "polygon")) for one in found for part in _results(one)
    )


def _results(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    held = task.get("annotations") or task.get("completions") or []
    for one in [one for one in held if not one.get("was_cancelled")][:1]:  # the first annotator's who did not skip it
        yield from one.get("result") or ()


def of_label_studio(found: Sequence[Mapping[str, Any]], name: str, warnings: list[str]) -> Found:
    """Yield the pictures of Label Studio's tasks: per cent of the picture become pixels; none of a task nobody did."""
    turned = others = unnamed = 0
    skipped = Skipped()
    for task in found:
        held = task.get("annotations") or task.get("completions") or []
        done = sum(not one.get("was_cancelled") for one in held)
        others += done > 1
        things, size, lost = [], None, 0
        parts = [(part, part.get("value") or {}) for part in _results(task)]
        named = {part.get("id") for part, value in parts if _label(value) is not None} - {None}
        for part, value in parts:
            width, height = part.get("original_width"), part.get("original_height")
            label = _label(value)
            if label is None or not width or not height:
                # what was written or chosen for a thing is a result of its own, with the thing's id and place
                lacks = bool(PLACED & set(value)) and part.get("id") not in named
                unnamed += lacks
                lost += lacks
                continue
            size = (int(width), int(height))
            if "points" in value:
                ring = [n * side / 100 for point in value["points"] for n, side in zip(point, size, strict=True)]
                things.append(Thing(around([ring]), label, outline=[ring]))
            elif set(value) >= EDGES:
                edges = zip(("x", "y", "width", "height"), (*size, *size), strict=True)
                place = [float(value[edge]) * side / 100 for edge, side in edges]
                if value.get("rotation"):  # about the corner
                    turned += 1
                    place = list(around_turned(place, float(value["rotation"]), (place[0], place[1])))
                things.append(Thing(place, label))
            else:  # a brush, an ellipse, a keypoint
                lost += 1
        link = next((str(v) for v in task["data"].values() if isinstance(v, str) and "." in v), str(task.get("id")))
        file = file_of(link)
        known = skipped.known(file, things, lost)
        yield file, Picture(known if done else None, size)
    if turned:
        warnings.append(
            f"{name}: {turned:,} rectangles were turned by an angle, which no box is: the box around them is read"
        )
    if others:
        warnings.append(f"{name}: {others:,} pictures were annotated more than once: the first annotation is read")
    if unnamed:
        warnings.append(f"{name}: {unnamed:,} things have no label, or not the size of their picture: not read")
    if skipped.count > unnamed:
        other = skipped.count - unnamed
        warnings.append(f"{name}: {other:,} things are neither rectangles nor polygons: not read")
    warnings += skipped.said(name)


def _label(value: Mapping[str, Any]) -> str | None:
    """Return the class of a result, the first where it has several."""
    return next((str(kinds[0]) for key, kinds in value.items() if key.endswith("labels") and kinds), None)


def file_of(link: str) -> str:
    """Return the name of a file as Label Studio links to it: without its own folder, or the mark of an upload."""
    parsed = urlparse(link)
    named = parse_qs(parsed.query).get("d")
    path = unquote(named[0] if named else parsed.path)
    first, mark, rest = PurePosixPath(path).name.partition("-")
    uploaded = "/upload/" in path and mark and len(first) == 8
    return rest if uploaded else path.lstrip("/")


def is_labelme(found: Any) -> bool:
    """Tell whether a JSON file is labelme's: shapes on one picture."""
    return isinstance(found, Mapping) and isinstance(found.get("shapes"), list) and "imagePath" in found


def of_labelme(found: Mapping[str, Any], skipped: Skipped) -> tuple[str, Picture]:
    """Return the file and what was drawn on the picture of a labelme file."""
    things, lost = [], 0
    width, height = found.get("imageWidth"), found.get("imageHeight")
    size = (int(width), int(height)) if width and height else None
    for one in found["shapes"]:
        points = [[float(x), float(y)] for x, y in one["points"]]
        kind = one.get("shape_type") or "polygon"
        outline: Any = None
        if kind == "circle" and len(points) == 2:
            (x, y), (other, further) = points
            radius = ((x - other) ** 2 + (y - further) ** 2) ** 0.5
            points = [[x - radius, y - radius], [x + radius, y + radius]]
        elif kind == OF_PIXELS and (seen := _mask(one, points, size)) is not None:
            points, outline = seen
        elif kind == "polygon":
            outline = [[n for point in points for n in point]]
        elif kind != "rectangle":
            lost += 1
            continue
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        place = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if len(points) > 1 else None
        things.append(Thing(place, str(one.get("label")), outline=outline))
    file = str(found["imagePath"]).replace("\\", "/").rpartition("/")[2]
    return file, Picture(skipped.known(file, things, lost), size)


def _mask(
    one: Mapping[str, Any], points: Sequence[Sequence[float]], size: tuple[int, int] | None
) -> tuple[list[list[float]], dict[str, Any] | None] | None:
    """Return the corners around the pixels of a mask that labelme drew with AI, and COCO's runs of it.

    It is a PNG as text, of the part of the picture whose corners are its two points, both inside. No runs where the
    picture's size is not known; None for a mask that cannot be read, is empty or hangs out of the picture.
    """
    try:
        with PIL.Image.open(io.BytesIO(base64.b64decode(one["mask"])), formats=("PNG",)) as opened:
            inside = np.asarray(opened.convert("L")) > 0
    except unreadable():
        return None
    down, across = np.nonzero(inside)
    if not len(down) or not points:
        return None
    down, across = down + round(min(y for _, y in points)), across + round(min(x for x, _ in points))
    left, right, top, bottom = (int(n) for n in (across.min(), across.max() + 1, down.min(), down.max() + 1))
    if left < 0 or top < 0 or (size is not None and (right > size[0] or bottom > size[1])):
        return None
    corners = [[float(left), float(top)], [float(right), float(bottom)]]
    if size is None:
        return corners, None
    flat = np.sort(across.astype(np.int64) * size[1] + down)  # down the columns
    breaks = np.flatnonzero(np.diff(flat) > 1)
    begins, ends = flat[[0, *(breaks + 1)]], flat[[*breaks, -1]] + 1
    edges = np.column_stack([begins, ends]).ravel()
    return corners, {"size": [size[1], size[0]], "counts": np.diff([0, *edges, size[0] * size[1]]).tolist()}


def refuse_without_pictures(name: str) -> UserError:
    """Return the error of annotations none of whose pictures is there."""
    return UserError(
        "the pictures of annotations are needed", f"none of those that {name} names is beside it or below its folder",
        "Put the pictures into the annotations' folder, or set data.source to the folder that holds both.",
    )  # fmt: skip
