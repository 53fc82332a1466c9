"""Files of annotations beside one another: each picture is read once, and what is not read is counted and said."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import datasets
import numpy as np
import pytest
from PIL import Image

from hftransfer import catalog, data
from hftransfer.config import DataConfig
from hftransfer.data import Data
from hftransfer.data.annotations import exports, outlines, trees
from hftransfer.data.annotations.drawn import Skipped
from hftransfer.errors import UserError
from tests.engine import test_annotations as told

TASK = catalog.task("object-detection")
WIDE, HIGH = 60, 40
KINDS = ["person", "dog", "cat"]
STUFF = ["sky", "grass", "wall", "water"]
LISTS: dict[str, Any] = {"instances": KINDS, "person_keypoints": ["person"], "stuff": STUFF}


def pictures(folder: Path, numbers: range, seed: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, numbers.start])
    for number in numbers:
        Image.fromarray(rng.integers(0, 255, (HIGH, WIDE, 3)).astype(np.uint8)).save(folder / f"{number:03}.jpg")
    return [f"{number:03}.jpg" for number in numbers]


def box(at: int) -> dict[str, Any]:
    x, y = 3.0 * at, 2.0 * at
    return {"bbox": [x, y, 12.0, 9.0], "segmentation": [[x, y, x + 12, y, x + 12, y + 9, x, y + 9]]}


def write(path: Path, names: list[str], kinds: list[str], several: bool = True) -> None:
    """Write COCO's file of things of some kinds on each picture: of the first, two, but where it is of stuff."""
    things = [
        {"id": 10 * at + place, "image_id": at, "category_id": place % len(kinds), **box(place), "iscrowd": 0}
        for at in range(len(names))
        for place in range(len(kinds) + several)
    ]
    put(path, names, things, kinds)


def put(path: Path, names: list[str], things: list[dict[str, Any]], kinds: list[str] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": at, "file_name": name, "width": WIDE, "height": HIGH} for at, name in enumerate(names)]
    whole: dict[str, Any] = {"images": images, "annotations": things}
    if kinds is not None:
        whole["categories"] = [{"id": at, "name": name} for at, name in enumerate(kinds)]
    path.write_text(json.dumps(whole))


def captions(path: Path, names: list[str]) -> None:
    put(path, names, [{"id": at, "image_id": at, "caption": "a dog"} for at in range(len(names))], None)


def of_coco(root: Path) -> Path:
    """COCO's own folder."""
    for split, numbers in (("train2017", range(12)), ("val2017", range(12, 18))):
        names = pictures(root / split, numbers)
        for what, kinds in LISTS.items():
            write(root / "annotations" / f"{what}_{split}.json", names, kinds, what != "stuff")
        captions(root / "annotations" / f"captions_{split}.json", names)
        segments = [
            {"image_id": at, "file_name": f"{name[:-4]}.png", "segments_info": [{"id": 1, "category_id": 0}]}
            for at, name in enumerate(names)
        ]
        put(root / "annotations" / f"panoptic_{split}.json", names, segments, [*KINDS, *STUFF])
    return root


def load(source: Path, task: Any = TASK, **settings: Any) -> Data:
    return data.load(DataConfig(source=str(source), **settings), task, 0)


def boxes(found: Data, split: str) -> dict[str, list[str]]:
    rows = found.splits[split].cast_column("image", datasets.Image(decode=False))
    return {
        Path(row["image"]["path"]).name: [found.answer.names[one["label"]] for one in row["objects"]] for row in rows
    }


def test_the_folder_of_coco_is_read_once(tmp_path: Path) -> None:
    found = load(of_coco(tmp_path / "coco"), test_size=3)
    assert found.sizes == {"train": 9, "validation": 6, "test": 3}
    assert found.answer.names == ("cat", "dog", "person")
    for split in found.splits:
        assert all(sorted(names) == ["cat", "dog", "person", "person"] for names in boxes(found, split).values())
    said = "\n".join(found.warnings)
    for split in ("train2017", "val2017"):
        first = f"not read beside annotations/instances_{split}.json, which is of the same pictures: annotations/"
        assert f"{first}person_keypoints_{split}.json\n" in f"{said}\n"
        assert f"{first}stuff_{split}.json, with 4 classes of its own (grass, sky, wall, water)" in said
        assert f"captions_{split}.json holds captions of pictures, and neither boxes nor outlines: not read" in said
        assert f"panoptic_{split}.json holds segments of panoptic masks, and neither" in said
    assert "no box" not in said


@pytest.mark.parametrize(("kind", "first"), [("instances", "instances"), ("mask", "stuff")])
def test_masks_are_made_of_the_file_that_fits(kind: str, first: str, tmp_path: Path) -> None:
    """Where single things are learned those that are told apart come first; else what has the most classes."""
    found = load(of_coco(tmp_path / "coco"), catalog.task("image-segmentation"), problem_type=kind, test_size=3)
    assert sum(found.sizes.values()) == 18
    assert set(found.answer.names) - {"background"} == set(LISTS[first])


def test_one_annotator_a_class_is_not_lost_without_a_word(tmp_path: Path) -> None:
    names = pictures(tmp_path / "images", range(12))
    for kind in ("dogs", "cats"):
        write(tmp_path / f"{kind}.json", names, [kind])
    found = load(tmp_path, validation_size=2, test_size=2)
    assert sum(found.sizes.values()) == 12 and found.answer.names == ("cats",)
    assert (
        "not read beside cats.json, which is of the same pictures: dogs.json, with 1 classes of its own (dogs); "
        "to learn these too, join both into one file"
    ) in found.warnings


def test_a_split_in_parts_is_read_whole_and_what_two_parts_share_once(tmp_path: Path) -> None:
    names = pictures(tmp_path / "images", range(12))
    write(tmp_path / "part1.json", names[:7], KINDS)
    write(tmp_path / "part2.json", names[6:], KINDS)
    found = load(tmp_path, validation_size=2, test_size=2)
    assert sum(found.sizes.values()) == 12
    assert "part2.json: 1 of its 6 pictures are in part1.json too: read from there" in found.warnings
    write(tmp_path / "part2.json", names[7:], KINDS)
    found = load(tmp_path, validation_size=2, test_size=2)
    assert sum(found.sizes.values()) == 12 and not any("not read" in one for one in found.warnings)


def test_the_same_names_in_other_folders_are_other_pictures(tmp_path: Path) -> None:
    for seed, folder in enumerate(("one", "two")):
        write(tmp_path / folder / "coco.json", pictures(tmp_path / folder, range(8), seed), KINDS)
    found = load(tmp_path, validation_size=2, test_size=2)
    assert sum(found.sizes.values()) == 16
    assert not any("same pictures" in one for one in found.warnings)


def test_captions_alone_are_refused(tmp_path: Path) -> None:
    captions(tmp_path / "captions_train.json", pictures(tmp_path / "images", range(12)))
    with pytest.raises(UserError, match=r"by boxes or outlines, are needed; captions_train.json holds captions.*Put"):
        load(tmp_path)
    write(tmp_path / "instances_val.json", pictures(tmp_path / "images", range(12, 18)), KINDS)
    with pytest.raises(UserError, match=r"captions_train.json holds captions"):
        load(tmp_path)


def test_two_exports_of_cvat_are_read_once(tmp_path: Path) -> None:
    root = told.cvat(tmp_path / "set")
    text = (root / "annotations.xml").read_text()
    (root / "older.xml").write_text(text.replace('label="cat"', 'label="dog"'))
    found = told.load(root)
    assert told.read(found) == told.truth() and sum(found.sizes.values()) == told.COUNT
    assert "not read beside annotations.xml, which is of the same pictures: older.xml" in found.warnings


def test_two_tables_of_the_same_pictures_are_read_once(tmp_path: Path) -> None:
    told.table(tmp_path / "set")
    text = (tmp_path / "set" / "boxes.csv").read_text()
    (tmp_path / "set" / "older.csv").write_text(text.replace(",cat,", ",dog,"))
    found = told.load(tmp_path / "set")
    assert told.read(found) == told.truth() and sum(found.sizes.values()) == told.COUNT
    assert "not read beside boxes.csv, which is of the same pictures: older.csv" in found.warnings


def test_a_picture_with_two_files_is_read_once(tmp_path: Path) -> None:
    root = told.voc(tmp_path / "set")
    (root / "Older").mkdir()
    for path in (root / "Annotations").iterdir():
        (root / "Older" / path.name).write_text(path.read_text().replace("cat", "dog"))
    found = told.load(root)
    assert told.read(found) == told.truth() and sum(found.sizes.values()) == told.COUNT
    assert any("20 annotations are of pictures that have one" in one for one in found.warnings)


# --- what is not read ---


def shape(kind: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"label": "cat", "points": points, "shape_type": kind, **more}


def test_shapes_of_labelme_that_cannot_be_read_are_counted_and_no_empty_picture(tmp_path: Path) -> None:
    root = told.labelme(tmp_path / "set")
    for name, kinds in (("p00", ["line", "point"]), ("p01", ["rectangle", "linestrip"])):
        path = root / f"{name}.json"
        content = json.loads(path.read_text())
        content["shapes"] = [shape(kind, [[1, 1], [20, 20]]) for kind in kinds]
        path.write_text(json.dumps(content))
    found = told.load(root)
    said = [one.partition(" [rows")[0] for one in found.warnings]
    assert "labelme: 3 things are neither rectangles, polygons, circles nor masks: not read" in said
    assert "labelme: 1 pictures hold nothing but such things: what is on them is not known" in said
    assert sum(found.sizes.values()) == told.COUNT - 1
    assert told.read(found)[1:] == told.truth()[2:] and told.read(found)[0] == [("cat", 1.0, 1.0, 19.0, 19.0)]


def test_a_mask_of_labelme_is_an_outline_and_a_box() -> None:
    drawn = np.zeros((told.HIGH, told.WIDE), bool)
    drawn[10:21, 30:36] = np.random.default_rng(0).random((11, 6)) < 0.7
    down, across = np.nonzero(drawn)
    left, right, top, bottom = (int(n) for n in (across.min(), across.max(), down.min(), down.max()))
    file = io.BytesIO()
    Image.fromarray(drawn[top : bottom + 1, left : right + 1]).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    one = shape("mask", [[left, top], [right, bottom]], mask=text)
    content = {"shapes": [one], "imagePath": "a.png", "imageWidth": told.WIDE, "imageHeight": told.HIGH}
    skipped = Skipped()
    (thing,) = exports.of_labelme(content, skipped)[1].things or ()
    assert thing.place == (left, top, right + 1 - left, bottom + 1 - top) and not skipped.count
    pixels = outlines.pixels_of(thing.outline, (told.WIDE, told.HIGH))
    assert pixels is not None and np.array_equal(pixels, drawn)
    for wrong in ({"mask": "no picture"}, {"mask": None}, {"points": [[told.WIDE - 2, 0], [told.WIDE, 10]]}):
        skipped = Skipped()
        assert exports.of_labelme({**content, "shapes": [{**one, **wrong}]}, skipped)[1].things is None
        assert skipped.count == 1 and skipped.bare == ["a.png"]


def result(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": 200, "original_height": 200, "value": value, **more}


def test_what_label_studio_has_and_is_not_read_is_counted() -> None:
    place = {"x": 10, "y": 10, "width": 20, "height": 20}
    labelled = result("rectanglelabels", {**place, "rectanglelabels": ["cat"]}, id="a")
    written = result("textarea", {**place, "text": ["hello"]}, id="a")
    bare, chosen = result("rectangle", place, id="b"), result("choices", {"choices": ["blurred"]}, id="c")
    brush = result("brushlabels", {"format": "rle", "rle": [1], "brushlabels": ["cat"]}, id="d")
    held = [[labelled, written, bare, chosen], [bare], [brush], [chosen]]
    tasks: list[dict[str, Any]] = [
        {"data": {"image": f"{at}.png"}, "annotations": [{"result": one}]} for at, one in enumerate(held)
    ]
    tasks[0]["annotations"] += [{"result": []}]
    said: list[str] = []
    found = [picture for _, picture in exports.of_label_studio(tasks, "export.json", said)]
    assert [None if one.things is None else len(one.things) for one in found] == [1, None, None, 0]
    assert [one.partition(" [rows")[0] for one in said] == [
        "export.json: 1 pictures were annotated more than once: the first annotation is read",
        "export.json: 2 things have no label, or not the size of their picture: not read",
        "export.json: 1 things are neither rectangles nor polygons: not read",
        "export.json: 2 pictures hold nothing but such things: what is on them is not known",
    ]


def test_a_picture_of_cvat_with_ellipses_alone_is_not_empty() -> None:
    ellipse = '<ellipse label="x" cx="1" cy="1" rx="1" ry="1"/>'
    root = ElementTree.fromstring(
        f'<annotations><image name="a.png" width="9" height="9">{ellipse}</image><image name="b.png" width="9" '
        'height="9"/></annotations>'
    )
    said: list[str] = []
    found = [picture.things for _, _, picture in trees.of_cvat(root, "annotations.xml", said)]
    assert found == [None, []] and len(said) == 2


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("coco", "COCO"), ("labelme", "labelme"), ("label-studio", "Label Studio"), ("voc", "Pascal VOC or CVAT"),
        ("cvat", "Pascal VOC or CVAT"),
    ],
)  # fmt: skip
def test_pictures_that_no_annotation_names_are_counted(form: str, kind: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    source = told.WRITTEN[form](root)
    pictures(root / "more", range(3))
    for path in root.glob("Annotations/*"):  # where a mask is called as a picture is, the file is known by its name
        path.write_text(path.read_text().replace("other.jpg", f"{path.stem}.png"))
    (root / "masks").mkdir()
    Image.new("L", (9, 9)).save(root / "masks" / "p00.gif")  # a mask of a picture that is read
    found = told.load(root if source.is_file() else source)
    said = f"3 pictures are in no annotation of {kind}: not read [rows: more/000.jpg, more/001.jpg, more/002.jpg]"
    assert said in found.warnings
    assert told.read(found) == told.truth()
