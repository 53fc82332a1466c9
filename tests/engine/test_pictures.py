"""Pictures of any depth and transparency: one rule a data set, said, saved with the model, and asked by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hftransfer import catalog, data
from hftransfer.card import report
from hftransfer.config import DataConfig
from hftransfer.errors import UserError
from hftransfer.inputs import _pixels
from hftransfer.inputs._pixels import Seen
from hftransfer.predictor import Predictor
from tests import tiny

TASK = catalog.task("image-classification")


def pictures(folder: Path, draw: Callable[[int, np.random.Generator], Image.Image], suffix: str = ".png") -> Path:
    """Write twelve pictures of each of two classes; `draw` is told the class."""
    rng = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("low", "high")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        draw(number % 2, rng).save(place / f"{number:02}{suffix}")
    return folder


def deep(kind: int, rng: np.random.Generator) -> Image.Image:
    """Return 12-bit values in 16 bits: cut at 255 all would be white, divided by 256 all but black."""
    return Image.fromarray((rng.integers(500, 900, (32, 32)) + 2500 * kind).astype(np.uint16))


def icon(kind: int, rng: np.random.Generator) -> Image.Image:
    """Return a black shape on a transparent ground, which is black too."""
    made = np.zeros((32, 32, 4), np.uint8)
    at = 4 + int(rng.integers(0, 6))
    made[at : at + (18 if kind else 5), at : at + 18, 3] = 255
    return Image.fromarray(made, "RGBA")


def tree(tmp_path: Path, source: Path) -> dict[str, Any]:
    return {
        "task": "image-classification", "model": str(tiny.image_model(tmp_path / "model")),
        "data": {"source": str(source), "augmentation": False, "likely_copies": False, "label_issues": False},
        "train": {"num_train_epochs": 1, "learning_rate": 1e-2},
    }  # fmt: skip


def test_twelve_bits_are_scaled_by_one_rule_that_goes_with_the_model(tmp_path, train):
    run, result = train(tree(tmp_path, pictures(tmp_path / "deep", deep)))
    assert any("24 of 24" in w or "hold other numbers than 8 bits" in w for w in result["data"]["warnings"])
    assert run.result()["carried"] == {"depth": [0.0, 4095.0]}
    predictor = Predictor(run.artifact)
    path = next((tmp_path / "deep" / "high").iterdir())
    shown = predictor.opened({"image": Image.open(path)})["image"]
    assert (shown.mode, shown.getextrema()[0]) == ("RGB", (187, 212)), "3000 of 4095 is 187 of 255"
    (of_path,), (of_picture,) = predictor.answer([str(path)]), predictor.answer([Image.open(path)])
    assert of_path["scores"] == pytest.approx(of_picture["scores"])
    card = report.render(result, run.config())
    assert "must be scaled first: 0 to 4095 is 0 to 255" in card and "hold other numbers than 8 bits" in card


def test_a_deep_picture_is_refused_by_a_model_of_others(tmp_path, train):
    run, _ = train(tree(tmp_path, tiny.image_folder(tmp_path / "plain", 24)))
    picture = deep(1, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"picture of 8 bits a colour is needed.*mode I;16.*Scale it to 8 bits"):
        Predictor(run.artifact).answer([picture])


def test_transparent_parts_are_white_and_old_models_see_them_black(tmp_path, train):
    run, result = train(tree(tmp_path, pictures(tmp_path / "icons", icon)))
    assert any("transparent parts, shown on white (data.background)" in w for w in result["data"]["warnings"])
    assert result["carried"] == {"background": "white"}
    card = report.render(result, run.config())
    assert "must be put on white first" in card
    path = next((tmp_path / "icons" / "low").iterdir())
    shown = np.asarray(Predictor(run.artifact).opened({"image": Image.open(path)})["image"])
    assert shown.max() == 255 and shown.min() == 0
    notes = json.loads((run.artifact / "hftransfer.json").read_text())
    del notes["carried"]  # as models of before were noted
    (run.artifact / "hftransfer.json").write_text(json.dumps(notes))
    assert np.asarray(Predictor(run.artifact).opened({"image": Image.open(path)})["image"]).max() == 0
    black, _ = train(tree(tmp_path, tmp_path / "icons"), "data.background=black", name="black")
    assert np.asarray(Predictor(black.artifact).opened({"image": Image.open(path)})["image"]).max() == 0


def test_frames_are_counted_and_said(tmp_path):
    first = Image.new("RGB", (16, 16), "red")
    pictures(tmp_path / "moving", lambda kind, rng: Image.new("RGB", (16, 16), (int(rng.integers(256)), 90 * kind, 9)))
    first.save(tmp_path / "moving" / "low" / "more.gif", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    found = data.load(DataConfig(source=str(tmp_path / "moving"), test_size=2, validation_size=2), TASK, 1)
    assert "train: 1 of 25 pictures have several frames or pages: the first is read" in found.warnings


def test_a_picture_that_is_not_there_is_not_called_unreadable(tmp_path):
    pictures(tmp_path / "imgs", lambda kind, rng: Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)))
    names = sorted(path.name for path in (tmp_path / "imgs" / "low").iterdir())
    (tmp_path / "imgs" / "low" / names[0]).write_bytes(b"no picture")
    lines = [f"{name},{'ab'[i % 2]}" for i, name in enumerate([*names, "gone.png"])]
    (tmp_path / "imgs" / "low" / "rows.csv").write_text("image,label\n" + "\n".join(lines) + "\n")
    config = DataConfig(source=str(tmp_path / "imgs" / "low" / "rows.csv"), test_size=2, validation_size=2)
    said = next(w for w in data.load(config, TASK, 1).warnings if "dropped" in w)
    assert "1 with an unreadable image; 1 with no picture of that name in low" in said
    assert said.endswith("[rows: rows.csv:0 00.png, rows.csv:12 gone.png]")


@pytest.mark.parametrize(
    ("whole", "low", "high", "expected"),
    [
        (True, 3, 200, (0, 255)), (True, 3, 1000, (0, 1023)), (True, 0, 4095, (0, 4095)), (True, 9, 4096, (0, 16383)),
        (True, 0, 65535, (0, 65535)), (True, 0, 65536, (0, 65536)), (True, -5, 90, (-5, 90)),
        (False, 0.1, 0.9, (0, 1)), (False, -1.5, 2, (-1.5, 2)), (False, 0, 255, (0, 255)),
    ],
)  # fmt: skip
def test_the_range_is_what_the_bits_hold_else_what_the_pictures_hold(whole, low, high, expected):
    assert Seen(1, 0, 0, 1, whole, low, high).depth == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_other_modes_are_what_pil_makes_of_them(mode):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)).convert(mode)
    assert np.array_equal(np.asarray(_pixels.rgb(picture)), np.asarray(picture.convert("RGB")))
    assert _pixels.seen(picture) == Seen(1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_half_transparent_is_half_of_white(mode):
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 128)).convert(mode)
    assert np.asarray(_pixels.rgb(picture))[0, 0] == pytest.approx([127] * 3, abs=1)
    assert _pixels.seen(picture).transparent == 1
    assert np.asarray(_pixels.rgb(picture, background="black")).max() == 0


def test_what_is_no_number_is_dark_and_counts_not():
    values = np.full((4, 4), 10.0, np.float32)
    values[0] = (np.nan, np.inf, -np.inf, 30.0)
    picture = Image.fromarray(values)
    found = _pixels.seen(picture)
    assert (found.low, found.high) == (10.0, 30.0)
    assert np.asarray(_pixels.rgb(picture, (10.0, 30.0)))[0, :, 0].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("architecture", ["resnet", "vit"])
def test_the_script_that_the_docs_compare_with_runs(architecture: str, tmp_path: Path, monkeypatch: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks" / "image-classification.md").read_text(encoding="utf-8")
    script = page.split("## The same by hand")[1].split("```python\n")[1].split("```")[0]
    model = tiny.image_model(tmp_path / "backbone", architecture)
    tiny.image_folder(tmp_path / "photos", 24)
    monkeypatch.chdir(tmp_path)
    changed = script.replace('"microsoft/resnet-50"', repr(str(model))).replace("num_train_epochs=3", "max_steps=2")
    assert changed.count(str(model)) == changed.count("max_steps=2") == 1
    exec(changed, {})
    assert set(Predictor(tmp_path / "model")(str(tmp_path / "photos" / "red" / "000.png"))["scores"]) == {
        "red",
        "blue",
    }
