"""A picture is asked about beside labels that a person writes, or beside those that the model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hftransfer import catalog
from hftransfer.predictor import Predictor
from hftransfer.ui import answers_shown, asking, try_step
from tests import tiny_captions


def test_labels_are_written_beside_a_picture_and_scored(tmp_path: Path) -> None:
    asks = try_step._asks("zero-shot-image-classification", ["image", "caption"])
    assert asks == [("image", "picture"), ("labels", "textbox")]
    path = str(tiny_captions.folder(tmp_path / "rows", 1) / "000.png")
    files: dict[str, Any] = {"picture": path, "recording": None}
    assert try_step._input(asks, "", "", files) == {"image": path}
    given = try_step._input(asks, "a film, a story\nfood", "", files)
    predictor = Predictor(tiny_captions.model(tmp_path / "model", "CLIP"))
    (found,) = predictor.answer([asking.by_role(given, predictor.task)])
    assert set(found["scores"]) == {"a film", "a story", "food"}
    shown = answers_shown.answer_of({"view": _view(predictor, found)})
    assert all(label in shown for label in found["scores"])


def test_what_is_given_with_each_widget_stands_above_it() -> None:
    """A model is asked with a question, a sentence or a history: a box that is called "Text" tells nobody which."""
    found = {}
    for task in catalog.tasks():
        asks = try_step._asks(task, [role.name for role in catalog.task(task).shown])
        found[task] = try_step.labels_of(task, asks)
        assert len(found[task]) == len(asks), task
    assert found["text-generation"] == {"text": "A message or a prompt"}
    assert found["recommendation"] == {"text": "A history of ids or titles"}
    assert found["token-classification"] == {"text": "A sentence"}
    assert found["question-answering"] == {"text": "A question", "second": "A text that may hold the answer"}
    assert found["zero-shot-image-classification"] == {"picture": "A picture", "text": "A list of labels"}
    assert found["audio-classification"] == {"recording": "A recording"}
    assert try_step.labels_of(None, []) == {}


def _view(predictor: Predictor, found: dict[str, Any]) -> dict[str, Any]:
    from hftransfer import views

    return views.to_dict(predictor.views([found])[0])
