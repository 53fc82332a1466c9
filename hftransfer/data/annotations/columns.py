"""Boxes in columns of a table: an `objects` column of the Hub's form, lists beside one another, a box a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset

from hftransfer.column_types import element, is_list, is_value
from hftransfer.config import DataConfig
from hftransfer.data.annotations import drawn as drawing
from hftransfer.data.annotations.drawn import CONVENTIONS, Drawn, Form, Picture, Thing, around, first_of
from hftransfer.errors import UserError

PLACES = ("bbox", "bboxes", "box", "boxes_xyxy", *CONVENTIONS, "boxes_xywh", "xyxy", "bounding_box", "bounding_boxes")
KINDS = ("category", "categories", "category_id", "label", "labels", "class", "classes", "class_id", "class_label",
         "class_labels", "name", "names", "category_ids", "category_name", "object_class")  # fmt: skip
CROWDS = ("iscrowd", "is_crowd", "crowd")
DIFFICULT = ("difficult", "is_difficult", "isdifficult")
OUTLINES = ("segmentation", "segmentations", "outline", "polygon", "polygons")
HOLDERS = ("objects", "annotations", "object", "detections", "faces", "instances")
BEGINS = "box"  # other names of places


@dataclass(frozen=True)
class Held:
    """Where boxes stand: in `column` with fields, or in columns of lists (column None), by these names."""

    column: str | None
    place: str
    naming: str | None
    crowd: str | None = None
    outline: str | None = None
    difficult: str | None = None

    @property
    def fields(self) -> list[str]:
        """The names by which things stand."""
        names = (self.place, self.naming, self.crowd, self.outline, self.difficult)
        return [name for name in names if name is not None]

    @property
    def form(self) -> Form:
        """What the numbers are by convention, as the name says."""
        name = str(self.place).lower()
        if "xyxy" in name or "voc" in name or "corner" in name:
            return "xyxy"
        return "cxcywh" if any(word in name for word in ("cxcywh", "yolo", "center", "centre")) else "xywh"

    @property
    def columns(self) -> list[str]:
        """The columns that hold them."""
        return self.fields if self.column is None else [self.column]


def find(rows: Dataset, named: str | None) -> Held | None:
    """Return where the boxes of a table stand, in the column that the user named, if one is; None: in none."""
    features = rows.features
    nested = [name for name, feature in features.items() if _fields(feature)]
    chosen = sorted(nested, key=lambda name: (name != named, name.lower() not in HOLDERS))
    for name in chosen[:1] if named in nested else chosen:
        fields = _fields(features[name])
        found = _held(name, fields)
        if found is not None:
            return found
    lists = {name: feature for name, feature in features.items() if is_list(feature)}
    place = named if named in lists else _place_of(lists)
    if place is None or not is_list(element(features[place])):
        return None
    kind = first_of({name: 0 for name in lists if name != place}, KINDS)
    return Held(None, place, kind, *(first_of(lists, names) for names in (CROWDS, OUTLINES, DIFFICULT)))


def _fields(feature: Any) -> dict[str, Any]:
    """Return the fields of a column of lists of things, or of one thing of lists."""
    inner = element(feature)
    return dict(inner) if isinstance(inner, dict) and not {"bytes", "path"} >= set(inner) else {}


def _place_of(fields: Mapping[str, Any]) -> str | None:
    return first_of(fields, PLACES) or next((name for name in fields if name.lower().startswith(BEGINS)), None)


def _held(column: str, fields: Mapping[str, Any]) -> Held | None:
    place, outline = _place_of(fields), first_of(fields, OUTLINES)
    if place is None and outline is None:
        return None
    kind, crowd, difficult = (first_of(fields, names) for names in (KINDS, CROWDS, DIFFICULT))
    return Held(column, place or str(outline), kind, crowd, outline, difficult)


def drawn(rows: Dataset, held: Held, config: DataConfig) -> Drawn:
    """Return what was drawn on each row's picture."""
    features = rows.features
    known = dict(features) if held.column is None else _fields(features[held.column])
    names = Names(element(known[held.naming]) if held.naming is not None else None, config.label_names)
    pictures = []
    for row in rows.select_columns(held.columns):
        entries = _entries(row if held.column is None else row[held.column], held)
        pictures.append(Picture(None if entries is None else [_thing(one, held, names) for one in entries]))
    return Drawn(pictures, held.form, guesses=tuple(names.said(held.naming)))


def _entries(value: Any, held: Held) -> list[Mapping[str, Any]] | None:
    """Return a row's things, one by one; None where the cell is empty."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return list(value)
    parts = {name: value.get(name) for name in held.fields}
    if parts[held.place] is None:
        return None
    lengths = {name: len(part) for name, part in parts.items() if part is not None}
    if len(set(lengths.values())) > 1:
        raise UserError(
            "lists of boxes and of classes that are equally long are needed",
            f"a row has {', '.join(f'{count} of {name}' for name, count in lengths.items())}", "Mend the row.",
        )  # fmt: skip
    count = next(iter(lengths.values()))
    return [{name: None if part is None else part[at] for name, part in parts.items()} for at in range(count)]


def _thing(one: Mapping[str, Any], held: Held, names: Names) -> Thing:
    outline = one.get(held.outline) if held.outline is not None else None
    place = one.get(held.place) if held.place != held.outline else around(outline)
    if isinstance(place, Mapping):
        place = list(place.values())
    kind = one.get(held.naming) if held.naming is not None else None
    crowd = bool(one.get(held.crowd)) if held.crowd is not None else False
    difficult = bool(one.get(held.difficult)) if held.difficult is not None else False
    return Thing(place, names.of(kind), crowd, outline, difficult)


class Names:
    """Class names of what a column holds: names, places in a ClassLabel or in `data.label_names`, or plain numbers."""

    def __init__(self, feature: Any, given: Sequence[str] | None) -> None:
        self.feature, self.given = feature, list(given) if given else None
        self.numbers: set[int] = set()

    def of(self, value: Any) -> str | None:
        """Return the name of one value; None where it has none."""
        if value is None or isinstance(value, Mapping | list):
            return None
        if isinstance(self.feature, ClassLabel):
            return str(self.feature.names[value]) if 0 <= value < len(self.feature.names) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int):
            self.numbers.add(value)
            if self.given is not None:
                return self.given[value] if 0 <= value < len(self.given) else None
        return str(value).strip() or None

    def said(self, column: str | None) -> list[str]:
        """Say where classes are known by their numbers alone; UserError where these begin at 1 and names at 0."""
        if column is None:
            return ["no column tells the class of boxes: all are `object`"]
        if self.given is not None:
            drawing.refuse_from_one(self.numbers, len(self.given), f"`{column}`")
        if not self.numbers or self.given is not None:
            return []
        few = ", ".join(map(str, sorted(self.numbers)[:5])) + (", ..." if len(self.numbers) > 5 else "")
        return [
            f"`{column}`: classes are known by their numbers alone ({few}; data.label_names gives names from 0 on)"
        ]


# --- a box a row ---

FILES = ("filename", "file_name", "image_path", "path", "image", "file", "image_id", "imageid", "img", "picture",
         "image_name", "img_path", "img_name", "filepath", "file_path", "image_file")  # fmt: skip
EDGES: tuple[tuple[Form, tuple[tuple[str, ...], ...]], ...] = (
    ("xyxy", (("xmin", "x_min", "x1", "left", "xtl"), ("ymin", "y_min", "y1", "top", "ytl"),
              ("xmax", "x_max", "x2", "right", "xbr"), ("ymax", "y_max", "y2", "bottom", "ybr"))),
    ("cxcywh", (("cx", "x_center", "xcenter", "center_x", "x_centre"), ("cy", "y_center", "ycenter", "center_y"),
                ("w", "width", "box_width"), ("h", "height", "box_height"))),
    ("xywh", (("x", "left", "xmin", "bbox_x", "x_min"), ("y", "top", "ymin", "bbox_y", "y_min"),
              ("w", "width", "bbox_width", "bbox_w", "box_width"),
              ("h", "height", "bbox_height", "bbox_h", "box_height"))),
)  # fmt: skip


@dataclass(frozen=True)
class BoxRows:
    """A table of a box a row: the column of the file, those of four numbers (or one text of them), of the class."""

    file: str
    places: tuple[str, ...]
    form: Form
    naming: str | None
    size: tuple[str, str] | None = None


def box_rows(rows: Dataset) -> BoxRows | None:
    """Return how a table of a box a row is read; None for another table."""
    plain = {name: feature for name, feature in rows.features.items() if not is_list(feature)}
    file, kind = first_of(plain, FILES), first_of(plain, KINDS)
    if file is None:
        return None
    for form, edges in EDGES:
        found = [first_of(plain, names) for names in edges]
        if all(found) and len(set(found)) == 4:
            places = tuple(str(name) for name in found)
            size = (first_of(plain, ("width", "image_width")), first_of(plain, ("height", "image_height")))
            known = all(size) and not set(size) & set(places)
            return BoxRows(file, places, form, kind, (str(size[0]), str(size[1])) if known else None)
    text = first_of(plain, PLACES)
    if text is not None and is_value(plain[text], "string", "large_string"):
        return BoxRows(file, (text,), "xywh", kind)
    return None


def grouped(rows: Dataset, found: BoxRows, config: DataConfig) -> tuple[list[str], Drawn]:
    """Return the files of a table of a box a row, each once, and what was drawn on each."""
    names = Names(rows.features[found.naming] if found.naming else None, config.label_names)
    things: dict[str, list[Thing]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for row in rows.select_columns(
        [name for name in (found.file, *found.places, found.naming, *(found.size or ())) if name]
    ):
        file = str(row[found.file])
        held = things.setdefault(file, [])
        if found.size and all(row[name] is not None for name in found.size):
            sizes[file] = (int(float(row[found.size[0]])), int(float(row[found.size[1]])))
        place = list(_numbers(row, found.places))
        if place:
            held.append(Thing(place, "object" if found.naming is None else names.of(_plain(row[found.naming]))))
    pictures = [Picture(held, sizes.get(file)) for file, held in things.items()]
    said = f"a table of a box a row: {len(rows):,} rows of {len(things):,} pictures (`{found.file}`)"
    return list(things), Drawn(pictures, found.form, guesses=(said, *names.said(found.naming)))


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


def _numbers(row: Mapping[str, Any], places: tuple[str, ...]) -> Iterator[float]:
    """Yield the four numbers of a row; none where it says that the picture is empty."""
    values = [row[name] for name in places]
    if len(values) == 1:
        text = str(values[0] or "").strip()
        try:
            values = json.loads(f"[{text.strip('[]() ')}]") if text else []
        except (ValueError, RecursionError):
            values = ["?"] * 4
    if all(value is None or str(value).strip() == "" for value in values):
        return
    for value in values:
        try:
            yield float(value)
        except (TypeError, ValueError):
            yield float("nan")
