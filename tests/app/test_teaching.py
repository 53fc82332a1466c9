"""Two classes out of a few examples: learned from as they are given, then the rows of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hftransfer.errors import UserError
from hftransfer.ui import teaching
from hftransfer.ui.settings import Settings
from hftransfer.ui.teaching_worker import taught
from hftransfer.ui.visitors import Visitor
from tests import tiny


def test_texts_become_a_classifier_and_a_source(alice: Visitor, space: Settings, tmp_path: Path) -> None:
    model = str(tiny.text_model(tmp_path / "model"))
    lesson = teaching.fresh("textbox")
    assert lesson["task"] == "text-classification"
    for text, label in tiny.sentences(16):
        lesson = teaching.add(alice, space, lesson, label, text)
    found = taught(**teaching.asked(alice, lesson, model, "a good film"))
    assert {name for name, _ in found["answer"]} == {"positive", "negative"} and 0 <= found["right"] <= 1
    assert sum(share for _, share in found["answer"]) == pytest.approx(1, abs=1e-3)
    assert "of examples it had not seen" in teaching.told(found) and "10 or more" in teaching.told(found)
    source = Path(teaching.source_of(alice, lesson))
    assert alice.owns(source) and len(source.read_text().splitlines()) == 16
    assert len(teaching.drop_last(alice, lesson)["rows"]) == len(source.read_text().splitlines()) == 15


def test_pictures_lie_in_a_folder_a_class(alice: Visitor, space: Settings, received: Path, tmp_path: Path) -> None:
    model = str(tiny.image_model(tmp_path / "model", "resnet"))
    photos = tiny.image_folder(received / "photos", 8)
    lesson = teaching.fresh("picture")
    for path in sorted(photos.rglob("*.png")):
        lesson = teaching.add(alice, space, lesson, path.parent.name, str(path))
    found = taught(**teaching.asked(alice, lesson, model, lesson["rows"][0]["value"]))
    assert found["answer"][0][0] == lesson["rows"][0]["label"]
    source = Path(teaching.source_of(alice, lesson))
    assert {path.name for path in source.iterdir()} == {"blue", "red"} and len([*source.rglob("*.png")]) == 8


def test_what_is_no_example_is_said(alice: Visitor, space: Settings) -> None:
    lesson = teaching.fresh("textbox")
    for label, value, words in (
        ("", "a text", "name of a class"),
        ("../up", "a", "name of a class"),
        ("a", " ", "an example"),
    ):
        with pytest.raises(UserError, match=words):
            teaching.add(alice, space, lesson, label, value)
    with pytest.raises(UserError, match="lesson of this page"):
        teaching.folder_of(alice, {**lesson, "folder": "../../elsewhere"})
    one = taught("text-classification", "none", [{"label": "a", "value": "t"}])
    assert "Two classes are needed" in teaching.told(one)
