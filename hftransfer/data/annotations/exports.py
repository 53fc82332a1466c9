"""Annotations as JSON: COCO's one file, Label Studio's one file, labelme's file a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from hftransfer.data.annotations.drawn import Picture, Thing, around, around_turned
from hftransfer.errors import UserError, with_rows

EDGES = {"x", "y", "width", "height"}
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
    turned = other = 0
    for task in found:
        held = task.get("annotations") or task.get("completions") or []
        done = any(not one.get("was_cancelled") for one in held)
        things, size = [], None
        for part in _results(task):
            value = part.get("value") or {}
            width, height = part.get("original_width"), part.get("original_height")
            names = next((kinds for key, kinds in value.items() if key.endswith("labels") and kinds), None)
            if names is None or not width or not height:
                continue
            size = (int(width), int(height))
            if "points" in value:
                ring = [n * side / 100 for point in value["points"] for n, side in zip(point, size, strict=True)]
                things.append(Thing(around([ring]), str(names[0]), outline=[ring]))
            elif set(value) >= EDGES:
                edges = zip(("x", "y", "width", "height"), (*size, *size), strict=True)
                place = [float(value[edge]) * side / 100 for edge, side in edges]
                if value.get("rotation"):  # about the corner
                    turned += 1
                    place = list(around_turned(place, float(value["rotation"]), (place[0], place[1])))
                things.append(Thing(place, str(names[0])))
            else:  # a brush, an ellipse, a keypoint
                other += 1
        link = next((str(v) for v in task["data"].values() if isinstance(v, str) and "." in v), str(task.get("id")))
        yield file_of(link), Picture(things if done else None, size)
    if turned:
        warnings.append(
            f"{name}: {turned:,} rectangles were turned by an angle, which no box is: the box around them is read"
        )
    if other:
        warnings.append(f"{name}: {other:,} things are neither rectangles nor polygons: not read")


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


def of_labelme(found: Mapping[str, Any]) -> tuple[str, Picture]:
    """Return the file and what was drawn on the picture of a labelme file."""
    things = []
    for one in found["shapes"]:
        points = [[float(x), float(y)] for x, y in one["points"]]
        kind = one.get("shape_type") or "polygon"
        if kind == "circle" and len(points) == 2:
            (x, y), (other, further) = points
            radius = ((x - other) ** 2 + (y - further) ** 2) ** 0.5
            points = [[x - radius, y - radius], [x + radius, y + radius]]
        elif kind not in ("rectangle", "polygon"):
            continue
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        place = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if len(points) > 1 else None
        outline = [[n for point in points for n in point]] if kind == "polygon" else None
        things.append(Thing(place, str(one.get("label")), outline=outline))
    width, height = found.get("imageWidth"), found.get("imageHeight")
    size = (int(width), int(height)) if width and height else None
    return str(found["imagePath"]).replace("\\", "/").rpartition("/")[2], Picture(things, size)


def refuse_without_pictures(name: str) -> UserError:
    """Return the error of annotations none of whose pictures is there."""
    return UserError(
        "the pictures of annotations are needed", f"none of those that {name} names is beside it or below its folder",
        "Put the pictures into the annotations' folder, or set data.source to the folder that holds both.",
    )  # fmt: skip
