"""Boxes as tools and data sets write them: one truth, written in every form, is read as the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from hftransfer import catalog, data
from hftransfer.config import DataConfig
from hftransfer.data import Data
from hftransfer.data.annotations import exports, forms, trees, yolo
from hftransfer.errors import UserError

TASK = catalog.task("object-detection")
WIDE, HIGH = 90, 60
COUNT = 20


def truth() -> list[list[tuple[str, float, float, float, float]]]:
    """Return what is on each picture: name, left, top, width, height; the last is empty."""
    rng = np.random.default_rng(0)
    found: list[list[tuple[str, float, float, float, float]]] = []
    for number in range(COUNT - 1):
        boxes = [
            ("cat" if number % 2 else "dog", *map(float, (rng.integers(0, 40), rng.integers(0, 20), 30 + number, 25)))
        ]
        if number % 3 == 0:
            boxes.append(("dog", 50.0, 30.0, 40.0, 30.0))
        found.append(boxes)  # type: ignore[arg-type]
    return [*found, []]


def pictures(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    names = [f"p{number:02}.png" for number in range(COUNT)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (HIGH, WIDE, 3)).astype(np.uint8)).save(folder / name)
    return names


def coco(root: Path, **more: Any) -> Path:
    """Ids begin at 7 and have gaps, and so have the numbers of classes."""
    names = pictures(root / "images")
    ids = {"cat": 3, "dog": 90}
    annotations = [
        {"id": i, "image_id": 7 + 2 * at, "category_id": ids[name], "bbox": box, "iscrowd": 0}
        for i, (at, (name, *box)) in enumerate((at, one) for at, boxes in enumerate(truth()) for one in boxes)
    ]
    whole = {
        "images": [{"id": 7 + 2 * at, "file_name": n, "width": WIDE, "height": HIGH} for at, n in enumerate(names)],
        "annotations": annotations, "categories": [{"id": i, "name": n} for n, i in ids.items()], **more,
    }  # fmt: skip
    (root / "annotations.json").write_text(json.dumps(whole))
    return root


def coco_file(root: Path) -> Path:
    return coco(root) / "annotations.json"


def of_yolo(root: Path) -> Path:
    (root / "labels").mkdir(parents=True)
    for name, boxes in zip(pictures(root / "images"), truth(), strict=True):
        lines = [
            f"{['dog', 'cat'].index(kind)} {(x + w / 2) / WIDE} {(y + h / 2) / HIGH} {w / WIDE} {h / HIGH}"
            for kind, x, y, w, h in boxes
        ]
        (root / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: images\nnames: {0: dog, 1: cat}\n")
    return root


def voc(root: Path) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for name, boxes in zip(pictures(root / "JPEGImages"), truth(), strict=True):
        objects = "".join(
            f"<object><name>{kind}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for kind, x, y, w, h in boxes
        )
        size = f"<size><width>{WIDE}</width><height>{HIGH}</height></size>"
        text = f"<annotation><filename>other.jpg</filename>{size}{objects}</annotation>"
        (root / "Annotations" / name).with_suffix(".xml").write_text(text)
    return root


def cvat(root: Path) -> Path:
    parts = []
    for name, boxes in zip(pictures(root / "images"), truth(), strict=True):
        inside = "".join(
            f'<box label="{kind}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>' for kind, x, y, w, h in boxes
        )
        parts.append(f'<image name="{name}" width="{WIDE}" height="{HIGH}">{inside}</image>')
    (root / "annotations.xml").write_text(f"<?xml version='1.0'?><annotations>{''.join(parts)}</annotations>")
    return root


def labelme(root: Path) -> Path:
    for name, boxes in zip(pictures(root), truth(), strict=True):
        shapes = [
            {"label": kind, "points": [[x + w, y], [x, y + h]], "shape_type": "rectangle"}
            for kind, x, y, w, h in boxes
        ]
        content = {"shapes": shapes, "imagePath": f"..\\{name}", "imageWidth": WIDE, "imageHeight": HIGH}
        (root / name).with_suffix(".json").write_text(json.dumps(content))
    return root


def label_studio(root: Path) -> Path:
    tasks = []
    for name, boxes in zip(pictures(root), truth(), strict=True):
        results = [
            {"type": "rectanglelabels", "original_width": WIDE, "original_height": HIGH, "value": {
                "x": 100 * x / WIDE, "y": 100 * y / HIGH, "width": 100 * w / WIDE, "height": 100 * h / HIGH,
                "rectanglelabels": [kind]}}
            for kind, x, y, w, h in boxes
        ]  # fmt: skip
        link = f"/data/upload/3/0a1b2c3d-{name}"
        tasks.append({"id": 1, "data": {"image": link}, "annotations": [{"result": results}]})
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def table(root: Path) -> Path:
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for name, boxes in zip(pictures(root / "pictures"), truth(), strict=True):
        lines += [f"{name},{WIDE},{HIGH},{kind},{x},{y},{x + w},{y + h}" for kind, x, y, w, h in boxes]
        lines += [] if boxes else [f"{name},{WIDE},{HIGH},,,,,"]
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return root / "boxes.csv"


def metadata(root: Path) -> Path:
    lines = []
    for name, boxes in zip(pictures(root), truth(), strict=True):
        objects = {"bbox": [list(one[1:]) for one in boxes], "category": [one[0] for one in boxes]}
        lines.append(json.dumps({"file_name": name, "objects": objects}))
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


WRITTEN: dict[str, Callable[[Path], Path]] = {
    "coco": coco, "coco-file": coco_file, "yolo": of_yolo, "voc": voc, "cvat": cvat, "labelme": labelme,
    "label-studio": label_studio, "csv": table, "metadata": metadata,
}  # fmt: skip


def load(source: Path, **settings: Any) -> Data:
    return data.load(DataConfig(source=str(source), validation_size=2, test_size=2, **settings), TASK, 0)


def read(found: Data) -> list[list[tuple[Any, ...]]]:
    """Return the boxes of all pictures, by the pictures' files."""
    rows = {}
    for split in found.splits.values():
        split = split.cast_column("image", __import__("datasets").Image(decode=False))
        for row in split:
            boxes = [
                (found.answer.names[one["label"]], *(round(one[edge], 4) for edge in ("x", "y", "width", "height")))
                for one in row["objects"]
            ]
            rows[Path(row["image"]["path"]).name] = boxes
    return [rows[name] for name in sorted(rows)]


@pytest.mark.parametrize("form", WRITTEN)
def test_every_form_is_read_as_what_was_drawn(form: str, tmp_path: Path) -> None:
    found = load(WRITTEN[form](tmp_path / "set"))
    assert read(found) == truth()
    assert found.answer.names == ("cat", "dog") and found.answer.rows == sum(found.sizes.values()) - 4
    assert any("boxes are" in guess and "data.boxes" in guess for guess in found.guesses)
    assert any("1 of 20 pictures have no box" in warning for warning in found.warnings)


@pytest.mark.parametrize("form", ["voc", "metadata"])
def test_what_is_marked_as_difficult_is_kept_as_such(form: str, tmp_path: Path) -> None:
    root = WRITTEN[form](tmp_path / "set")
    if form == "voc":
        for path in (root / "Annotations").iterdir():
            marked = "<name>cat</name><difficult>1</difficult>"
            text = path.read_text().replace("<name>dog</name>", "<name>dog</name><difficult>0</difficult>")
            path.write_text(text.replace("<name>cat</name>", marked))
    else:
        lines = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
        for line in lines:
            line["objects"]["difficult"] = [int(kind == "cat") for kind in line["objects"]["category"]]
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = load(root)
    assert read(found) == truth()  # learnt like others
    marks = {
        (one["label"], one["difficult"]) for rows in found.splits.values() for row in rows for one in row["objects"]
    }
    assert marks == {(0, True), (1, False)}
    cats = sum(kind == "cat" for boxes in truth() for kind, *_ in boxes)
    assert any(f"{cats:,} boxes are marked `difficult`" in guess for guess in found.guesses)
    answer, rows = found.answer, found.splits["train"].with_format("arrow")[:]["objects"].combine_chunks()
    tables = answer.truth(rows)
    kept, _ = answer.from_columns(pa.table(answer.columns(tables, [np.zeros((0, 6), np.float32)] * len(tables))))
    assert all(np.array_equal(one, other) for one, other in zip(tables, kept, strict=True))
    assert {(row[4], row[5]) for table in kept for row in table} == {(0.0, 2.0), (1.0, 0.0)}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("form", ["xywh", "xyxy", "cxcywh"])
def test_what_numbers_mean_is_told_by_where_boxes_would_lie(form: str, relative: bool) -> None:
    boxes = np.array([[x, y, w, h] for one in truth() for _, x, y, w, h in one])
    numbers = boxes.copy()
    if form != "xywh":
        numbers[:, 2 if form == "xyxy" else 0 : 4 if form == "xyxy" else 2] += (
            boxes[:, :2] if form == "xyxy" else boxes[:, 2:] / 2
        )
    if relative:
        numbers /= np.tile([WIDE, HIGH], 2)
    sizes = np.tile([WIDE, HIGH], (len(numbers), 1)).astype(float)
    found = forms.told(numbers, sizes, "xyxy" if form == "xywh" else "xywh", None)
    assert (found.form, found.relative) == (form, relative) and "0.0%" in found.said


def test_a_small_box_in_the_middle_is_read_by_convention_or_as_the_user_says() -> None:
    numbers, sizes = np.array([[40.0, 30.0, 4.0, 4.0]] * 9), np.array([[WIDE, HIGH]] * 9, float)
    assert forms.told(numbers, sizes, "xywh", None).form == "xywh"
    assert forms.told(numbers, sizes, "cxcywh", None).form == "cxcywh"
    assert forms.told(numbers, sizes, "xywh", "xyxy").form == "xyxy"
    with pytest.raises(UserError, match="boxes that lie in their pictures"):
        forms.told(np.array([[400.0, 300.0, 4.0, 4.0]] * 9), sizes, "xywh", None)


def test_wrong_boxes_are_cut_or_left_out_and_counted(tmp_path: Path) -> None:
    names, lines = pictures(tmp_path), []
    for at, name in enumerate(names):
        boxes, kinds = [[10.0, 10.0, 20.0, 20.0]] * 3, ["cat"] * 3
        if at == 0:
            boxes, kinds = [*boxes, [70, 40, 40, 40], [200, 10, 5, 5], [5, 5, 0, 9]], [*kinds, "cat", "cat", "cat"]
        if at == 1:
            boxes, kinds = [*boxes, [1.0, 1, 9, 9]], [*kinds, None]  # type: ignore[list-item]
        lines.append(json.dumps({"file_name": name, "objects": {"bbox": boxes, "category": kinds}}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    found = load(tmp_path)
    said = "\n".join(found.warnings)
    assert "1 boxes that hang out of their pictures: cut" in said and "1 boxes outside of their pictures" in said
    assert "1 boxes of no area" in said and "1 boxes of no class" in said
    assert ("cat", 70, 40, 20, 20) in read(found)[0] and len(read(found)[0]) == 4 and len(read(found)[1]) == 3


def test_splits_are_told_by_names_and_unknown_classes_are_left_out(tmp_path: Path) -> None:
    for split, kind in (("train", "cat"), ("valid", "cat"), ("test", "dog")):
        names = pictures(tmp_path / split)
        whole = {
            "images": [{"id": at, "file_name": name} for at, name in enumerate(names)],
            "annotations": [
                {"image_id": at, "category_id": k, "bbox": [5 + k, 5, 20 + at, 20]}
                for at in range(COUNT)
                for k in (1, 2)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": kind}],
        }  # fmt: skip
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(whole))
    found = data.load(DataConfig(source=str(tmp_path)), TASK, 0)
    assert found.sizes == {"train": COUNT, "validation": COUNT, "test": COUNT} and found.answer.names == ("cat",)
    assert f"test: {COUNT} boxes of classes that train has not: left out" in found.warnings


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_boxes_are_turned_with_a_picture_that_was_drawn_on_unturned(orientation: int, tmp_path: Path) -> None:
    root = coco(tmp_path)
    made = np.zeros((HIGH, WIDE, 3), np.uint8)
    _, x, y, w, h = (int(part) if not isinstance(part, str) else part for part in truth()[1][0])
    made[y : y + h, x : x + w] = 255  # type: ignore[misc]
    picture = Image.fromarray(made)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(root / "images" / "p01.png", exif=exif)
    box = read(load(root))[1][0]
    upright = np.asarray(__import__("PIL.ImageOps").ImageOps.exif_transpose(Image.open(root / "images" / "p01.png")))
    rows, columns = np.nonzero(upright[..., 0])
    seen = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    # a picture turned by 180 degrees has one size either way: nobody can know, and it is read as it is seen
    assert (box[1:] == seen) == (orientation != 3)


def test_a_picture_of_another_size_than_was_drawn_on_is_not_used(tmp_path: Path) -> None:
    root = coco(tmp_path)
    Image.new("RGB", (30, 20), "red").save(root / "images" / "p02.png")
    found = load(root)
    assert any("1 pictures of another size than they were drawn on" in warning for warning in found.warnings)
    assert sum(found.sizes.values()) == COUNT - 1


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {}


def wrong(match: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def kept(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        WRONG[write.__name__] = (write, match)
        return write

    return kept


@wrong("the pictures of annotations are needed")
def boxes_without_pictures(root: Path) -> Path:
    coco(root)
    for path in (root / "images").iterdir():
        path.unlink()
    return root


@wrong("needs an objects column")
def pictures_without_boxes(root: Path) -> Path:
    pictures(root)
    return root


@wrong("boxes are needed")
def no_box_at_all(root: Path) -> Path:
    return coco(root, annotations=[])


@wrong("XML that declares no document type")
def xml_with_entities(root: Path) -> Path:
    voc(root)
    for path in (root / "Annotations").iterdir():
        path.write_text('<!DOCTYPE a [<!ENTITY x "' + "y" * 99 + '">]>' + path.read_text())
    return root


@wrong("lists of boxes and of classes that are equally long")
def lists_of_unlike_length(root: Path) -> Path:
    lines = [
        json.dumps({"file_name": name, "objects": {"bbox": [[1, 1, 9, 9]], "category": ["cat", "cat"]}})
        for name in pictures(root)
    ]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("name", WRONG)
def test_wrong_annotations_are_refused_in_words(name: str, tmp_path: Path) -> None:
    write, match = WRONG[name]
    with pytest.raises(UserError, match=match):
        load(write(tmp_path / "set"))


def test_polygons_of_two_points_have_no_box_and_are_counted(tmp_path: Path) -> None:
    root = coco(tmp_path)
    whole = json.loads((root / "annotations.json").read_text())
    whole["annotations"].append({"id": 999, "image_id": 7, "category_id": 3, "segmentation": [[1, 1, 5, 5]]})
    (root / "annotations.json").write_text(json.dumps(whole))
    found = load(root)
    assert any("polygon of fewer than three points" in warning for warning in found.warnings)
    assert any("1 boxes without four numbers" in warning for warning in found.warnings) and read(found) == truth()


def test_small_things_of_the_formats(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("2 0.1 0.1 0.5 0.1 0.5 0.7\n")
    (thing,) = yolo.of_label(tmp_path / "a.txt", None).things or ()
    assert thing.name == "2" and thing.place == pytest.approx((0.3, 0.4, 0.4, 0.6))
    assert exports.file_of("/data/local-files/?d=my%20set/a.png") == "my set/a.png"
    assert exports.file_of("s3://bucket/deep/a.png") == "deep/a.png"
    (tmp_path / "b.xml").write_text("<annotation>")
    with pytest.raises(UserError, match="readable XML"):
        trees.read(tmp_path / "b.xml")


def square(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path)) + int(path.stem[-2:])).integers(0, 255, (100, 100, 3))
    Image.fromarray(noise.astype(np.uint8)).save(path)


def test_the_picture_of_an_xml_is_the_one_beside_it_and_no_mask(tmp_path: Path) -> None:
    """VOC2012's masks are called as its pictures are."""
    for number in range(12):
        name = f"2007_{number:02}"
        square(tmp_path / "JPEGImages" / f"{name}.jpg")
        square(tmp_path / "SegmentationClass" / f"{name}.png")
        square(tmp_path / "SegmentationObject" / f"{name}.png")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>100</width><height>100</height></size><object>"
            f"<name>{'cat' if number % 2 else 'dog'}</name><bndbox><xmin>{number + 1}</xmin><ymin>1</ymin>"
            "<xmax>50</xmax><ymax>50</ymax></bndbox></object></annotation>"
        )
    found = data.load(DataConfig(source=str(tmp_path), validation_size=2, test_size=2), TASK, 0)
    rows = [row for split in found.splits.values() for row in split.cast_column("image", datasets.Image(decode=False))]
    assert len(rows) == 12 and {Path(row["image"]["path"]).parent.name for row in rows} == {"JPEGImages"}


def test_one_box_that_hangs_out_makes_no_pixels_of_shares() -> None:
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0.3, 0.7, (200, 2)), rng.uniform(0.05, 0.3, (200, 2))])
    boxes[3, 0] = 1.02
    reading = forms.told(boxes, np.full((200, 2), 100.0), "cxcywh", None)
    assert reading.relative and reading.form == "cxcywh"


def test_numbers_of_keypoints_are_no_polygon(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [cat]\nkpt_shape: [12, 2]\n")
    label = tmp_path / "a.txt"
    label.write_text("0 .5 .5 .2 .2 " + " ".join(f".{n}" for n in range(10, 34)))
    beside = yolo.keypoints_in([tmp_path / "data.yaml"])
    (thing,) = yolo.of_label(label, {0: "cat"}, beside=beside).things or ()
    assert beside == 24 and list(thing.place or ()) == [0.5, 0.5, 0.2, 0.2] and thing.outline is None


def test_turned_boxes_become_those_around_them(tmp_path: Path) -> None:
    warnings: list[str] = []
    root = ElementTree.fromstring(
        '<annotations><image name="a.png" width="200" height="200"><box label="x" xtl="50" ytl="90" xbr="150" '
        'ybr="110" rotation="90"/><ellipse label="x" cx="1" cy="1" rx="1" ry="1"/></image></annotations>'
    )
    ((_, _, picture),) = trees.of_cvat(root, "annotations.xml", warnings)
    assert [pytest.approx(one.place) for one in picture.things or ()] == [[90, 50, 110, 150]]
    assert len(warnings) == 2 and "turned by an angle" in warnings[0] and "neither boxes nor polygons" in warnings[1]

    corner = {"x": 50, "y": 10, "width": 40, "height": 10, "rotation": 90, "rectanglelabels": ["x"]}
    results = [
        {"type": kind, "original_width": 200, "original_height": 200, "value": value}
        for kind, value in (
            ("rectanglelabels", corner), ("keypointlabels", {"x": 1, "y": 1, "width": 1, "keypointlabels": ["x"]}),
        )
    ]  # fmt: skip
    task = {"data": {"image": "a.png"}, "annotations": [{"was_cancelled": True, "result": []}, {"result": results}]}
    said: list[str] = []
    ((_, made),) = exports.of_label_studio([task], "export.json", said)
    assert [pytest.approx(one.place) for one in made.things or ()] == [[80, 20, 20, 80]] and len(said) == 2
