"""Annotations as XML: Pascal VOC's file a picture, CVAT's one file; no entity of a document is ever opened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from hftransfer.data.annotations.drawn import Picture, Skipped, Thing, around, around_turned
from hftransfer.errors import UserError

ONE = "annotation"  # the root of Pascal VOC's files
ALL = "annotations"  # of CVAT's
MARKED = ("1", "true", "True")  # of an object that is difficult


def read(path: Path) -> ElementTree.Element:
    """Return the root of a file; UserError where it is no XML, or declares a document type."""
    maker, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise UserError(
            "XML that declares no document type is needed", f"{path.name} has a DOCTYPE, which may name other files "
            "or grow without end", "Remove the declaration.",
        )  # fmt: skip

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = maker.start
    parser.EndElementHandler = maker.end
    parser.CharacterDataHandler = maker.data
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise UserError("readable XML is needed", f"{path.name}: {error}", "Mend the file, or remove it.") from error
    return maker.close()


def of_voc(root: ElementTree.Element, path: Path) -> tuple[str, Picture]:
    """Return the file that a Pascal VOC annotation is of, and what was drawn: corners, counted from 0 here."""
    things = []
    for one in root.iter("object"):
        box = one.find("bndbox")
        place = None
        if box is not None:
            edges = [_number(box.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax")]
            place = [edges[0] - 1, edges[1] - 1, edges[2], edges[3]]  # VOC counts pixels from 1, both ends inside
        difficult = _text(one.findtext("difficult")) in MARKED
        things.append(Thing(place, _text(one.findtext("name")), difficult=difficult))
    size = root.find("size")
    width, height = (_number(None if size is None else size.findtext(name)) for name in ("width", "height"))
    known = (int(width), int(height)) if width > 0 and height > 0 else None
    named = _text(root.findtext("filename"))
    # many tools copy annotations with a filename of before: the annotation's own name is surer where it has a picture
    return named or path.stem, Picture(things, known)


def of_cvat(root: ElementTree.Element, file: str, warnings: list[str]) -> Iterator[tuple[str, str | None, Picture]]:
    """Yield the file, the subset and what was drawn (corners) of each picture in CVAT's "for images"."""
    turned, skipped = 0, Skipped()
    for one in root.iter("image"):
        things, lost = [], 0
        for part in one:
            if part.tag == "box":
                place: Any = [_number(part.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
                angle = float(part.get("rotation") or 0)
                if angle and all(map(math.isfinite, place)):
                    turned += 1
                    left, top, right, bottom = place
                    x, y, w, h = around_turned(
                        (left, top, right - left, bottom - top), angle, ((left + right) / 2, (top + bottom) / 2)
                    )
                    place = [x, y, x + w, y + h]
                things.append(Thing(place, _text(part.get("label"))))
            elif part.tag == "polygon":
                ring = [float(n) for point in (part.get("points") or "").split(";") for n in point.split(",") if n]
                found = around([ring])
                corners = None if found is None else [found[0], found[1], found[0] + found[2], found[1] + found[3]]
                things.append(Thing(corners, _text(part.get("label")), outline=[ring]))
            elif part.get("label") is not None and part.tag != "tag":  # an ellipse, a mask, a line, points
                lost += 1
        width, height = _number(one.get("width")), _number(one.get("height"))
        size = (int(width), int(height)) if width > 0 and height > 0 else None
        known = skipped.known(str(one.get("name")), things, lost)
        yield str(one.get("name")), one.get("subset"), Picture(known, size)
    if turned:
        warnings.append(f"{file}: {turned:,} boxes were turned by an angle: the box around them is read")
    if skipped.count:
        warnings.append(f"{file}: {skipped.count:,} things are neither boxes nor polygons: not read")
    warnings += skipped.said(file)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _text(text: str | None) -> str | None:
    return (text or "").strip() or None
