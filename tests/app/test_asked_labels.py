"""A picture is asked about beside labels that a person writes, or beside those that the model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hftransfer.predictor import Predictor
from hftransfer.ui import answers_shown, asking, try_step
from tests import tiny_captions


def test_labels_are_written_beside_a_picture_and_scored(tmp_path: Path) -> None:
    asks = try_step._asks("zero-shot-image-classification", ["image", "caption"])
    assert asks == [("image", "picture"), ("labels", "textbox")]
    assert try_step.labels_of(["labels"], len(asks))[0] == "Labels" and try_step.labels_of(["text"], 1)[0] == "Text"
    path = str(tiny_captions.folder(tmp_path / "rows", 1) / "000.png")
    files: dict[str, Any] = {"picture": path, "recording": None}
    assert try_step._input(asks, "", "", files) == {"image": path}
    given = try_step._input(asks, "a film, a story\nfood", "", files)
    predictor = Predictor(tiny_captions.model(tmp_path / "model", "CLIP"))
    (found,) = predictor.answer([asking.by_role(given, predictor.task)])
    assert set(found["scores"]) == {"a film", "a story", "food"}
    shown = answers_shown.answer_of({"view": _view(predictor, found)})
    assert all(label in shown for label in found["scores"])


def _view(predictor: Predictor, found: dict[str, Any]) -> dict[str, Any]:
    from hftransfer import views

    return views.to_dict(predictor.views([found])[0])
