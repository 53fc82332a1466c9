"""Photos far larger than a model takes are trained on as smaller copies, made once; slow validation items are kept."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from hftransfer import catalog, train, yaml_core
from hftransfer.answers.single_label import SingleLabel
from hftransfer.config import Augmentation, DataConfig
from hftransfer.inputs import _reduced
from hftransfer.modeling import rereading
from hftransfer.modeling.prepared import Lazy, prepare
from hftransfer.processors import side_of
from hftransfer.safety.shelf import Shelf
from hftransfer.tasks.base import Preparation
from tests import tiny
from tests.engine.conftest import QUICK

SIDE = 40  # of copies
ORIENTATION = 0x0112


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return a picture that gets brighter to the right and down, of its own in every place."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)).convert(mode)


def encoded(picture: Image.Image, kind: str, **options: Any) -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_copy_is_the_picture_made_smaller(kind: str, mode: str, tmp_path: Path) -> None:
    value, shelf = encoded(photo(300, 200, mode), kind, quality=95), Shelf(tmp_path)
    first, again = _reduced.copy_of(value, SIDE, shelf), _reduced.copy_of(value, SIDE, shelf)
    alone = _reduced.copy_of(value, SIDE, None)
    assert first.size == (60, 40) and first.mode == mode
    assert first.tobytes() == again.tobytes() == alone.tobytes()
    plain = np.asarray(photo(300, 200, mode).resize((60, 40), Image.Resampling.BICUBIC), float)
    assert np.abs(np.asarray(first, float) - plain).max() < (12 if kind == "JPEG" else 2)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_copy_is_the_way_up_that_the_camera_noted() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was turned: 90 degrees clockwise make it upright
    made = _reduced.copy_of(encoded(photo(300, 200), "JPEG", exif=exif.tobytes()), SIDE, None)
    assert made.size == (40, 60) and ORIENTATION not in made.getexif()
    upright = np.asarray(photo(300, 200).transpose(Image.Transpose.ROTATE_270).resize((40, 60)), float)
    assert np.abs(np.asarray(made, float) - upright).mean() < 5


@pytest.mark.parametrize(
    "value",
    [
        encoded(photo(2 * SIDE - 1, 300), "JPEG"),  # not far larger
        encoded(photo(300, 200, "RGBA"), "PNG"),  # with transparent parts: `data.background` is put behind them
        encoded(Image.fromarray(np.zeros((200, 300), np.uint16)), "PNG"),  # deep: `data.depth` says how it is shown
        {"bytes": encoded(photo(300, 200), "JPEG")["bytes"][:80], "path": None},  # cut: its reader says so
        {"bytes": None, "path": "/nowhere/photo.jpg"},
    ],
)
def test_what_is_read_as_any_other(value: dict[str, Any], tmp_path: Path) -> None:
    assert _reduced.copy_of(value, SIDE, Shelf(tmp_path)) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ({"size": {"height": 30, "width": 50}}, 50),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, 256),
        ({"size": {"height": 224, "width": 224}, "do_resize": False}, None),  # it is shown as large as it is
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}, "crop_size": None}, None),
    ],
)
def test_the_side_that_a_model_is_shown(sizes: dict[str, Any], side: int | None) -> None:
    class Processor:
        def __init__(self) -> None:
            vars(self).update(sizes)

    assert side_of(Processor()) == side


def rows_of(folder: Path, count: int = 4) -> datasets.Dataset:
    folder.mkdir()
    for number in range(count):
        photo(400 + number, 300).save(folder / f"{number}.jpg", quality=95)
    names = [str(folder / f"{number}.jpg") for number in range(count)]
    found = datasets.Dataset.from_dict({"image": names, "label": [number % 2 for number in range(count)]})
    return found.cast_column("image", datasets.Image())


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Any, datasets.Dataset, Any, Preparation]:
    processor = AutoImageProcessor.from_pretrained(tiny.image_model(tmp_path / "model"), backend="pil")
    answer = SingleLabel(names=("a", "b"), counts=(2, 2))
    config = DataConfig(source="-", augmentation=Augmentation(color=0.0))
    preparation = Preparation(config, answer, 0, shelf=Shelf(tmp_path / "copies"))
    return catalog.task("image-classification"), rows_of(tmp_path / "photos"), processor, preparation


def items_of(prepared: Any, epoch: int) -> list[Any]:
    prepared.on_epoch(epoch)
    return [item["pixel_values"] for item in prepared.dataset.__getitems__([2, 0, 3, 1])]


def test_train_reads_its_photos_once(scene: Any, tmp_path: Path) -> None:
    task, rows, processor, preparation = scene
    found = prepare(task, rows, processor, preparation, training=True)
    before = items_of(found, 0), items_of(found, 1)
    alone = prepare(task, rows, processor, dataclasses.replace(preparation, shelf=None), training=True)
    assert all(map(torch.equal, before[1], items_of(alone, 1)))  # a full disk changes nothing but the time
    assert not any(map(torch.equal, *before))  # the crops are drawn anew
    kept = sorted((tmp_path / "copies").iterdir())
    assert len(kept) == 4
    assert min(Image.open(kept[0]).size) < 200
    state = [(path, path.stat()) for path in (tmp_path / "photos").iterdir()]
    for path, was in state:  # what is at their place cannot be read, yet it is the same file by all that is asked
        path.write_bytes(bytes(was.st_size))
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert all(map(torch.equal, before[0], items_of(found, 0)))
    whole = prepare(task, rows, processor, dataclasses.replace(preparation, config=preparation.config.model_copy(
        update={"reduced": False})), training=True)  # fmt: skip
    with pytest.raises(Exception, match="cannot identify image file"):
        items_of(whole, 0)


def test_copies_change_little_and_what_is_scored_nothing(scene: Any) -> None:
    task, rows, processor, preparation = scene
    plain = dataclasses.replace(preparation, config=preparation.config.model_copy(update={"reduced": False}))
    small, whole = (items_of(prepare(task, rows, processor, one, training=True), 0) for one in (preparation, plain))
    assert all(torch.allclose(a, b, atol=0.1) for a, b in zip(small, whole, strict=True))
    assert not any(map(torch.equal, small, whole))
    scored = [prepare(task, rows, processor, one, training=False).dataset for one in (preparation, plain)]
    assert all(torch.equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(*scored, strict=True))


def test_truth_in_pixels_of_the_picture_keeps_the_picture(scene: Any) -> None:
    task, rows, processor, preparation = scene

    class InPlaces(SingleLabel):
        in_places = True

    there = dataclasses.replace(preparation, answer=InPlaces(names=("a", "b"), counts=(2, 2)))
    assert prepare(task, rows, processor, there, training=True).dataset.copies is None
    assert prepare(task, rows, processor, preparation, training=True).dataset.copies is not None
    named = ("object-detection", "image-segmentation")
    assert all(answer.in_places for name in named for answer in catalog.task(name).answers)


def test_slow_items_are_made_once(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, rows, processor, preparation = scene
    monkeypatch.setattr(rereading, "SLOW", 0.0)
    found = prepare(task, rows, processor, preparation, training=False)
    kept = rereading.over(found.dataset, preparation.shelf)
    first = kept.__getitems__([1, 3])
    others = prepare(task, rows.select([0, 0, 0, 0]), processor, preparation, training=False)  # rows of another fit
    assert not torch.equal(
        rereading.over(others.dataset, preparation.shelf)[1]["pixel_values"], first[0]["pixel_values"]
    )
    other = rereading.over(found.dataset.select([3, 2, 1]), preparation.shelf)  # the same rows in another order
    monkeypatch.setattr(Lazy, "of", lambda *_: pytest.fail("it was made once more"))
    again = [other[2], other[0]]
    for made, read in zip(first, again, strict=True):
        assert made.keys() == read.keys() and made["labels"] == read["labels"]
        assert type(made["labels"]) is type(read["labels"]) and torch.equal(made["pixel_values"], read["pixel_values"])
    assert rereading.over(found.dataset, None) is found.dataset and rereading.over([1], preparation.shelf) == [1]


def test_a_full_disk_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path / "shelf")
    monkeypatch.setattr("hftransfer.safety.shelf.DISK_SHARE", 0.0)
    shelf.put("a", b"content")
    assert shelf.get("a") is None
    monkeypatch.undo()
    Shelf(tmp_path / "shelf").put("a", b"content")
    assert shelf.get("a") == b"content" and len(list((tmp_path / "shelf").iterdir())) == 1


def test_a_run_on_photos_leaves_no_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, model = tiny.image_folder(tmp_path / "photos", 24, size=200), tiny.image_model(tmp_path / "model")
    run = tmp_path / "run"
    path = tmp_path / "config.yaml"
    path.write_text(yaml_core.dump_yaml({
        **QUICK, "task": "image-classification", "model": str(model), "data": {"source": str(source)},
        "method": {"name": "full"}, "output": str(run),
    }))  # fmt: skip
    seen = []
    put = Shelf.put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shelf, "put", lambda self, key, content: (seen.append(self.folder), put(self, key, content)))
        assert train.main(["--config", str(path), "train.dataloader_num_workers=0"]) == 0
    capsys.readouterr()
    assert seen and {folder.parent for folder in seen} == {run} and not seen[0].exists()
    assert json.loads((run / "result.json").read_text())["test"]["metrics"]
