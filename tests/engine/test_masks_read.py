"""Masks as people have them: read by looking at what lies there, or refused with what to do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL import Image as Pictures

from hftransfer import catalog
from hftransfer.answers import _mask_classes, _mask_files
from hftransfer.config import DataConfig
from hftransfer.data.loading import load
from hftransfer.data.result import Data
from hftransfer.errors import UserError
from tests import tiny_masks

TASK = "image-segmentation"


def read(source: Path, **options: Any) -> Data:
    return load(DataConfig(source=str(source), **options), catalog.task(TASK), 0)


def drawn(found: Data, split: str = "train") -> list[np.ndarray]:
    return [_mask_files.of_png(png) for png in found.splits[split]["mask"]]


def rewrite(folder: Path, change: Any, suffix: str = ".png", **options: Any) -> Path:
    """Save each mask of a folder again, as `change` makes it of its classes."""
    for path in sorted((folder / "masks").glob("*.png")):
        with Pictures.open(path) as opened:
            classes = np.asarray(opened)
        path.unlink()
        change(classes).save(path.with_suffix(suffix), **options)
    return folder


def of(array: Any, mode: str | None = None) -> Pictures.Image:
    found = Pictures.fromarray(np.asarray(array))
    return found if mode is None else found.convert(mode)


@pytest.mark.parametrize("form", ["index", "palette", "rgb"])
def test_numbers_palettes_and_colours_are_the_same_classes(form, tmp_path):
    found = read(tiny_masks.folder(tmp_path, 12, form=form))
    plain = read(tiny_masks.folder(tmp_path / "plain", 12))
    assert len(found.answer.names) == 3
    wanted = {"rgb": ("background", "#3c5adc", "#dc3c32")}.get(form, ("background", "1", "2"))
    assert found.answer.names == wanted
    order = (
        [found.answer.names.index(name) for name in ("background", "#dc3c32", "#3c5adc")] if form == "rgb" else None
    )
    for one, other in zip(drawn(found), drawn(plain), strict=True):
        assert np.array_equal(one, other if order is None else np.array(order)[other])
    assert any("3 classes" in guess for guess in found.guesses)
    assert any("names of others" in guess for guess in found.guesses)


def test_binary_masks_have_two_classes_and_255_beside_others_is_ignored(tmp_path):
    found = read(tiny_masks.folder(tmp_path / "two", 10, form="binary"), label_names=["skin", "spot"])
    assert found.answer.names == ("skin", "spot") and found.answer.values == (0, 255)
    assert found.answer.ignored is None
    edged = read(tiny_masks.folder(tmp_path / "edge", 10, edge=True))
    assert edged.answer.ignored == 255 and edged.answer.names == ("background", "1", "2")
    assert any("neither learned nor measured (data.ignore_value" in guess for guess in edged.guesses)
    assert all((mask[0] == 255).all() and (mask[1:] != 255).all() for mask in drawn(edged))
    kept = read(tmp_path / "edge", ignore_value=-1, background_class="none")
    assert kept.answer.names == ("0", "1", "2", "255") and kept.answer.background is None


def test_a_palette_that_numbers_colours_anew_in_each_file_is_read_by_colour(tmp_path):
    tiny_masks.folder(tmp_path, 10, form="rgb")
    for number, path in enumerate(sorted((tmp_path / "masks").glob("*.png"))):
        with Pictures.open(path) as opened:
            colours = np.asarray(opened)
        palette = np.unique(colours.reshape(-1, 3), axis=0)[:: 1 if number % 2 else -1]
        places = (colours[:, :, None] == palette).all(-1).argmax(-1).astype(np.uint8)
        saved = Pictures.fromarray(places, "P")
        saved.putpalette(palette.ravel().tolist())
        saved.save(path)
    found = read(tmp_path)
    assert found.answer.coloured and found.answer.names == ("background", "#3c5adc", "#dc3c32")
    plain = read(tiny_masks.folder(tmp_path / "plain", 10, form="rgb"))
    assert all(np.array_equal(*pair) for pair in zip(drawn(found), drawn(plain), strict=True))


@pytest.mark.parametrize("layout, split", [
    ("{split}/images/{n}.png {split}/masks/{n}.png", True), ("images/{split}/{n}.png masks/{split}/{n}.png", True),
    ("{split}/{n}.png {split}_labels/{n}_L.png", True), ("{split}/{n}.png {split}annot/{n}.png", True),
    ("JPEGImages/{n}.png SegmentationClass/{n}.png", False), ("{n}.png {n}_mask.png", False),
    ("leftImg8bit/{split}/a/x_{n}_leftImg8bit.png gtFine/{split}/a/x_{n}_gtFine_labelIds.png", True),
    ("masks/{split}/images/{n}.png masks/{split}/masks/{n}.png", True), ("masks/{n}.png masks/{n}_mask.png", False),
])  # fmt: skip
def test_folders_are_laid_out_in_many_ways(layout, split, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        names = {"split": "train" if number < 9 else "val", "n": f"{number:03}"}
        for pattern, content in zip(layout.split(), tiny_masks.scene(rng), strict=True):
            path = tmp_path / pattern.format(**names)
            path.parent.mkdir(parents=True, exist_ok=True)
            (content if isinstance(content, Pictures.Image) else of(content)).save(path)
    found = read(tmp_path, test_size=3, validation_size=3) if not split else read(tmp_path, test_size=3)
    assert sum(found.sizes.values()) == 12 and found.answer.names == ("background", "1", "2")
    if split:
        assert found.sizes == {"train": 6, "validation": 3, "test": 3}
    assert not [warning for warning in found.warnings if "not read" in warning]


def test_lists_say_splits_and_files_say_names(tmp_path):
    tiny_masks.folder(tmp_path, 12)
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{n:03}\n" for n in range(8)))
    (lists / "val.txt").write_text("".join(f"{n:03}\n" for n in range(8, 11)))
    (tmp_path / "classes.txt").write_text("ground\ndisc\nbox\n")
    found = read(tmp_path, test_size=2)
    assert found.sizes == {"train": 6, "validation": 3, "test": 2} and found.answer.names == ("ground", "disc", "box")
    assert any("in no list of a split" in warning for warning in found.warnings)
    tiny_masks.folder(tmp_path / "rgb", 10, form="rgb")
    (tmp_path / "rgb" / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbox:60,90,220::\ndisc:220,60,50::\ntree:1,2,3::\n"
    )
    named = read(tmp_path / "rgb", max_rows=10)
    assert named.answer.names == ("background", "box", "disc", "tree") and named.answer.background == 0
    assert named.answer.counts[3] == 0 and any("tree missing from train" in one for one in named.warnings)


def test_tables_and_columns_hold_masks_too(tmp_path):
    tiny_masks.folder(tmp_path, 12)
    lines = [{"file_name": f"images/{n:03}.png", "mask_file_name": f"masks/{n:03}.png"} for n in range(12)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read(tmp_path)
    assert found.answer.names == ("background", "1", "2") and sum(found.sizes.values()) == 12
    assert not [warning for warning in found.warnings if "not read" in warning]
    (tmp_path / "metadata.jsonl").unlink()
    paths = [[str(path) for path in sorted((tmp_path / name).glob("*.png"))] for name in ("images", "masks")]
    features = Features({"image": Image(), "annotation": Image()})
    rows = Dataset.from_dict(dict(zip(features, paths, strict=True)), features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    hub = read(tmp_path / "rows.parquet")
    assert {choice.role: choice.column for choice in hub.columns} == {"image": "image", "mask": "annotation"}
    assert all(np.array_equal(*pair) for pair in zip(drawn(hub), drawn(found), strict=True))


def test_two_folders_of_photographs_are_classes_not_masks(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("mask", "no_mask"):  # people with and without one
        (tmp_path / name).mkdir()
        for number in range(8):
            of(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    found = load(DataConfig(source=str(tmp_path)), catalog.task("image-classification"), 0)
    assert found.answer.names == ("mask", "no_mask")


def test_sizes_and_gaps_are_counted_and_left_out(tmp_path):
    tiny_masks.folder(tmp_path, 16)
    masks = sorted((tmp_path / "masks").glob("*.png"))
    with Pictures.open(masks[0]) as opened:
        opened.resize((10, 10)).save(masks[0])
    masks[1].unlink()
    masks[2].write_bytes(b"no picture")
    found = read(tmp_path)
    assert sum(found.sizes.values()) == 13
    (said,) = [warning for warning in found.warnings if "rows dropped" in warning]
    for reason in ("1 with a mask of another size than its picture", "1 with no mask", "1 with an unreadable mask"):
        assert reason in said


def smoothed(classes: np.ndarray) -> Pictures.Image:
    large = of((classes > 0).astype(np.uint8) * 255)
    return large.resize((400, 360), Pictures.Resampling.BICUBIC).resize(large.size, Pictures.Resampling.BICUBIC)


def photograph(classes: np.ndarray) -> Pictures.Image:
    return of(np.random.default_rng(0).integers(0, 256, (*classes.shape, 3)).astype(np.uint8))


WRONG = {
    "jpeg": (lambda c: tiny_masks.as_mask(c, "rgb"), {"suffix": ".jpg", "quality": 60},
             "masks with one value or colour a class are needed.*JPEG.*as PNG"),
    "photographs": (photograph, {}, r"masks with one value or colour a class are needed.* 1,\d\d\d colours"),
    "smoothed": (smoothed, {}, "edges were smoothed.*by nearest"),
    "sizes": (lambda c: of(c).resize((20, 20)), {}, "16 with a mask of another size than its picture"),
    "one class": (lambda c: of(c * 0), {}, "masks of two classes or more"),
    "transparent": (lambda c: of(np.dstack([c] * 3 + [c * 100])), {}, "a mask with transparent parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_mask_is_refused_with_what_to_do(name, tmp_path):
    change, options, said = WRONG[name]
    rewrite(tiny_masks.folder(tmp_path, 16), change, **options)
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("options, said", [
    ({"label_names": ["a", "b"]}, "every value of the masks must have a name; there are 2 names, for 0 to 1"),
    ({"label_colors": ["#000000", "red"], "label_names": ["a", "b"]}, "'red' is no colour"),
    ({"label_colors": ["#000000", "#010101"], "label_names": ["a", "b"]}, "every colour of the masks must have a"),
    ({"background_class": "sky"}, "class in data.background_class"),
])  # fmt: skip
def test_settings_that_do_not_fit_the_masks_are_refused(options, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        read(tiny_masks.folder(tmp_path, 8), **options)
    assert caught.value.exit_code == 2


def test_a_class_that_train_does_not_know_is_refused(tmp_path):
    for split, top in (("train", 0), ("test", 9)):
        tiny_masks.folder(tmp_path / split, 6, seed=top)
        if top:
            rewrite(tmp_path / split, lambda c: of(np.where(c == 2, 9, c).astype(np.uint8)))
    with pytest.raises(UserError, match="test also has pixels of 9"):
        read(tmp_path)


def test_pictures_without_masks_are_asked_for_them(tmp_path):
    tiny_masks.folder(tmp_path, 6)
    with pytest.raises(UserError, match="image-segmentation needs a mask column"):
        read(tmp_path / "images")


def coco(folder: Path, count: int = 12) -> list[np.ndarray]:
    """Write pictures and COCO's annotations of them: boxes as polygons, discs as runs; return the classes."""
    rng = np.random.default_rng(0)
    images, annotations, wanted = [], [], []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        picture, classes = tiny_masks.scene(rng)
        height, width = classes.shape
        picture.save(folder / "images" / f"{number}.jpg", quality=95)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        flat = (classes == 1).T.ravel()
        counts = np.diff([0, *(np.flatnonzero(np.diff(flat.astype(int))) + 1), flat.size]).tolist()
        segment = {"size": [height, width], "counts": [0, *counts] if flat[0] else counts}
        down, across = np.nonzero(classes == 2)
        left, top, right, bottom = map(int, (across.min(), down.min(), across.max() + 1, down.max() + 1))
        ring = [left, top, right, top, right, bottom, left, bottom]
        drawn = np.zeros_like(classes)
        drawn[top:bottom, left:right] = 1  # in the order of names: box, disc
        drawn[classes == 1] = 2
        for kind, outline in ((7, [ring]), (3, segment)):
            where = drawn == (1 if kind == 7 else 2)
            box = [left, top, right - left, bottom - top] if kind == 7 else [0, 0, width, height]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": kind, "bbox": box,
                                "segmentation": outline, "area": int(where.sum()), "iscrowd": 0})  # fmt: skip
        wanted.append(drawn)
    kinds = [{"id": 7, "name": "box"}, {"id": 3, "name": "disc"}]
    content = {"images": images, "annotations": annotations, "categories": kinds}
    (folder / "instances.json").write_text(json.dumps(content))
    return wanted


def test_polygons_and_runs_of_coco_become_masks(tmp_path):
    wanted = coco(tmp_path)
    found = read(tmp_path)
    assert found.answer.names == ("background", "box", "disc") and found.answer.background == 0
    assert any("masks are made of outlines" in guess for guess in found.guesses)
    seen = 0
    for split in found.splits:
        rows = [
            int(Path(name["path"]).stem)
            for name in found.splits[split].cast_column("image", Image(decode=False))["image"]
        ]
        for row, mask in zip(rows, drawn(found, split), strict=True):
            # discs that are smaller than their box lie on top
            assert np.array_equal(mask, wanted[row]) or (wanted[row] == 2).sum() > (wanted[row] == 1).sum()
            assert (mask == wanted[row]).mean() > 0.97
            seen += 1
    assert seen == 12


def test_polygons_hold_the_pixels_that_coco_gives_them():
    """Whole coordinates are edges of pixels: PIL's own polygons have half a pixel more on all sides."""
    from pycocotools import mask as coded

    from hftransfer.data.annotations import outlines, rings

    rng, turns = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for whole in (False, True):
        areas = []
        for _ in range(40):
            far = rng.uniform(5, 40, 20)  # some of it lies outside
            points = np.stack([32 + far * np.cos(turns), 24 + far * np.sin(turns)], 1)
            ring = (np.rint(points) if whole else points).ravel().tolist()
            theirs = coded.decode(coded.merge(coded.frPyObjects([ring], 48, 64))).astype(bool)
            ours = outlines.pixels_of([ring], (64, 48))
            assert ours is not None and (ours & theirs).sum() > 0.95 * (ours | theirs).sum()
            areas.append(int(ours.sum()) - int(theirs.sum()))
        assert abs(np.mean(areas)) < 5
    for left, top, across, down in rng.integers(1, 30, (20, 4)).tolist():
        box = rings.filled(
            [(left, top), (left + across, top), (left + across, top + down), (left, top + down)], (64, 64)
        )
        wanted = np.zeros((64, 64), bool)
        wanted[top : top + down, left : left + across] = True
        assert np.array_equal(box, wanted)
    assert rings.filled([(3, 3), (9, 3.1), (9, 3.2)], (20, 20)).any(), "what is thin is not lost"


def test_runs_are_those_of_coco():
    """The text form, against the numbers that pycocotools writes it for."""
    from hftransfer.data.annotations import outlines

    numbers = [5, 3, 40, 7, 33, 2, 1000, 1]

    def text(values: list[int]) -> str:
        found = ""
        for place, value in enumerate(values):
            rest, more = value - (values[place - 2] if place > 2 else 0), True
            while more:
                part, rest = rest & 0x1F, rest >> 5
                more = rest != (-1 if part & 0x10 else 0)
                found += chr((part | (0x20 if more else 0)) + 48)
        return found

    assert outlines._uncompressed(text(numbers)) == numbers


def test_boxes_alone_are_no_masks(tmp_path):
    coco(tmp_path)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        del one["segmentation"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"needs outlines of things; .*boxes alone.*task=object-detection") as caught:
        read(tmp_path)
    assert caught.value.exit_code == 2


def test_numbers_of_single_objects_are_said_to_look_so(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        objects = np.zeros((24, 24), np.uint8)
        for at in range(1 + number % 5):
            objects[4 * at : 4 * at + 3] = at + 1
        for name, content in (("images", rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)), ("masks", objects)):
            (tmp_path / name).mkdir(exist_ok=True)
            of(content).save(tmp_path / name / f"{number}.png")
    assert any("masks count from 1 without a gap, to 1 or up to 5" in guess for guess in read(tmp_path).guesses)
    named = read(tmp_path, label_names=["ground", "a", "b", "c", "d", "e"])
    assert not any("without a gap" in guess for guess in named.guesses)
    classes = read(tiny_masks.folder(tmp_path / "classes", 24))
    assert not any("without a gap" in guess for guess in classes.guesses)


def test_outlines_in_shares_are_drawn_and_turned_with_their_pictures(tmp_path):
    """YOLO's polygons; and COCO's on a photo that EXIF turns, drawn on its pixels as they are stored."""
    rng = np.random.default_rng(0)
    for number in range(12):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        of(rng.integers(0, 255, (100, 100, 3)).astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        (tmp_path / "labels" / f"{number}.txt").write_text(f"{number % 2} .2 .2 .8 .2 .8 .8 .2 .8\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    found = read(tmp_path, validation_size=2, test_size=2)
    assert found.answer.names == ("background", "cat", "dog")
    assert all((mask > 0).sum() == 3600 for mask in drawn(found))

    place = tmp_path / "turned"
    place.mkdir()
    exif = Pictures.Exif()
    exif[0x0112] = 6
    images, annotations = [], []
    for number in range(12):
        of(rng.integers(0, 255, (50, 100, 3)).astype(np.uint8)).save(place / f"{number}.jpg", exif=exif)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 50})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 20, 10], "iscrowd": 0,
                            "area": 200, "segmentation": [[0, 0, 20, 0, 20, 10, 0, 10]]})  # fmt: skip
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    (place / "a.json").write_text(json.dumps(whole))
    for mask in drawn(read(place, validation_size=2, test_size=2)):
        down, across = np.nonzero(mask)
        assert mask.shape == (100, 50) and down.max() < 21 and across.min() > 38


def test_shades_from_black_to_white_are_classes():
    said = _mask_classes.Said()
    counts = Counter({0: 1000, 128: 3000, 255: 96000})
    kept = _mask_classes.classes_of(counts, Counter(dict.fromkeys(counts, 10)), 10, False, said)
    assert kept.ignored is None and len(kept.names) == 3
    few = Counter({0: 1000, 1: 3000, 255: 96})
    assert _mask_classes.classes_of(few, Counter(dict.fromkeys(few, 10)), 10, False, said).ignored == 255
