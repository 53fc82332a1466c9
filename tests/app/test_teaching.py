"""Examples given one by one: learned from as they are given where they are of classes, then the rows of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import numpy as np
import pytest
import scipy.stats

from hftransfer import catalog, data
from hftransfer.config import build
from hftransfer.errors import UserError
from hftransfer.ui import data_step, teaching, teaching_part, train_view
from hftransfer.ui.settings import Settings
from hftransfer.ui.teaching_worker import taught
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers
from tests import tiny, tiny_heard


def test_texts_become_a_classifier_and_a_source(alice: Visitor, space: Settings, tmp_path: Path) -> None:
    model = str(tiny.text_model(tmp_path / "model"))
    lesson = teaching.fresh("text-classification")
    for text, label in tiny.sentences(16):
        lesson = teaching.add(alice, space, lesson, label, text)
    found = taught(**teaching.asked(alice, lesson, model, "a good film"))
    assert {name for name, _ in found["answer"]} == {"positive", "negative"} and 0 <= found["right"] <= 1
    assert sum(share for _, share in found["answer"]) == pytest.approx(1, abs=1e-3)
    said = teaching.told(lesson, found["right"])
    assert "of examples it had not seen" in said and f"{teaching.LEAST} or more" in said
    source = Path(teaching.source_of(alice, lesson))
    assert alice.owns(source) and len(source.read_text().splitlines()) == 16
    assert len(teaching.drop_last(alice, lesson)["rows"]) == len(source.read_text().splitlines()) == 15


def test_pictures_lie_in_a_folder_a_class(alice: Visitor, space: Settings, received: Path, tmp_path: Path) -> None:
    model = str(tiny.image_model(tmp_path / "model", "resnet"))
    photos = tiny.image_folder(received / "photos", 8)
    lesson = teaching.fresh("image-classification")
    for path in sorted(photos.rglob("*.png")):
        lesson = teaching.add(alice, space, lesson, path.parent.name, str(path))
    found = taught(**teaching.asked(alice, lesson, model, lesson["rows"][0]["value"]))
    assert found["answer"][0][0] == lesson["rows"][0]["label"]
    source = Path(teaching.source_of(alice, lesson))
    assert {path.name for path in source.iterdir()} == {"blue", "red", teaching.FILES}
    assert len([*source.rglob("*.png")]) == 8
    assert labels_of("image-classification", source) == {"blue": 4, "red": 4}


def labels_of(task: str, source: Path) -> dict[str, int]:
    """Return how many rows of each label a run finds in a source."""
    section = build({"task": task, "model": "-", "data": {"source": str(source), "test_size": 2}}).data
    found = data.load(section, catalog.task(task), 0, source.parent)
    rows = [label for split in found.splits.values() for label in split[catalog.task(task).truth.name]]
    return {name: rows.count(number) for number, name in enumerate(found.answer.names)}


def test_what_a_camera_sees_is_kept_and_answered(
    alice: Visitor, space: Settings, received: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny.image_model(tmp_path / "model", "resnet"))
    monkeypatch.setattr(teaching_part.proposing, "usual", lambda task: model)

    class AtOnce:
        def call(self, visitor: Visitor, name: str, **given: Any) -> Any:
            return taught(**given)

    page = cast(Any, SimpleNamespace(settings=space, workers=AtOnce()))
    photos = tiny.image_folder(received / "photos", 8)

    def see(lesson: Any, label: str, keep: bool, path: Path) -> list[Any]:
        frame = received / "frame.png"
        frame.write_bytes(path.read_bytes())
        found = teaching_part.watched(page, "camera", alice, lesson, label, keep, source, str(frame))
        assert not frame.exists()  # a second of it is a picture: they would fill the disk
        return found

    source = ""
    red, blue = (sorted((photos / name).iterdir()) for name in ("red", "blue"))
    assert "Name a class" in see(None, "", False, red[0])[2]
    assert "name of a class" in see(None, "", True, red[0])[2]
    lesson = None
    for label, path in [*[("red", one) for one in red], *[("blue", one) for one in blue]]:
        lesson, names, said, answer, *form = see(lesson, label, True, path)
        place = teaching.source_of(alice, lesson)
        assert form[:1] == [place if label == "blue" and source != place else gr.skip()]  # once there are two classes
        source = source if form[0] == gr.skip() else form[0]
        assert (names != gr.skip()) == (path in (red[0], blue[0]))  # at a new class alone: somebody may be typing
    assert "4 of blue, 4 of red" in said and answer
    kept, _, said, answer, *_ = see(lesson, "red", False, red[1])
    assert kept == lesson and answer.index("red") < answer.index("blue")
    assert len([*teaching.folder_of(alice, lesson).rglob("*.png")]) == 8
    assert teaching_part.watched(page, "camera", alice, lesson, "red", True, source, None) == [gr.skip()] * 7

    # pictures that are taken one by one go on with the same lesson, texts begin one of their own; nothing is lost
    image, text = "image-classification", "text-classification"
    assert teaching_part.chosen_kind(alice, "picture", image, lesson, {})[0] == lesson
    none, others, *_ = teaching_part.chosen_kind(alice, "textbox", "", lesson, {})
    assert (none["task"], none["rows"]) == (text, [])
    assert teaching_part.chosen_kind(alice, "picture", "", none, others)[0] == lesson


def test_what_is_no_example_is_said(alice: Visitor, space: Settings) -> None:
    lesson = teaching.fresh("text-classification")
    for label, value, words in (
        ("", "a text", "name of a class"),
        ("../up", "a", "name of a class"),
        ("a", " ", "an example"),
    ):
        with pytest.raises(UserError, match=words):
            teaching.add(alice, space, lesson, label, value)
    with pytest.raises(UserError, match="lesson of this page"):
        teaching.folder_of(alice, {**lesson, "folder": "../../elsewhere"})
    rows = [{"label": "a", "value": "t"}]
    assert taught("text-classification", "none", rows)["answer"] == []
    assert "Two classes are needed" in teaching.told({**lesson, "rows": rows}, None)


def test_every_input_that_a_person_gives_alone_has_its_lesson_and_its_widget() -> None:
    """What can be taught comes from the tasks: one input that is required, and a truth that is typed in a line."""
    known = teaching.lessons()
    assert known["recording"] == ["audio-classification", "automatic-speech-recognition"]
    assert known["textbox"][0] == "text-classification" and "translation" in known["textbox"]
    assert set(known) == {teaching_part.lesson_of(kind) for kind in teaching_part.KINDS}
    for kind in teaching_part.KINDS:
        tasks = [name for _, name in teaching_part.tasks_of(kind)]
        assert tasks and (kind not in teaching_part.LIVE or all(map(teaching.has_classes, tasks)))
        for task in tasks:  # as many parts are shown or hidden as there are, whatever is chosen
            lesson, others, *parts = teaching_part.chosen_kind(cast(Any, None), kind, task, None, {})
            assert (lesson["task"], lesson["rows"], others, len(parts)) == (task, [], {}, 15)


class AtOnce(Workers):
    """Workers that answer in this process what is admitted."""

    def call(self, visitor: Visitor, function: str, timeout: float | None = None, **arguments: Any) -> Any:
        with self._admitted(visitor, function, arguments) as allowed:
            return taught(**allowed)


def test_recordings_become_a_classifier_while_they_are_given(
    alice: Visitor, space: Settings, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_heard.heard_model(alice.uploads / "model"))
    monkeypatch.setattr(teaching_part.proposing, "usual", lambda task: model)
    page = cast(Any, SimpleNamespace(settings=space, workers=AtOnce(space)))
    clips = sorted(tiny_heard.class_folder(received / "clips", 9).rglob("*.wav"))
    low, high = ([clip for clip in clips if clip.parent.name == name] for name in ("low", "high"))
    lesson, said = None, ""
    try:
        for path in (low[0], high[0], low[1], high[1]):
            given = ["recording", path.parent.name, "", "", None, str(path)]
            lesson, names, _, text, picture, emptied, said = teaching_part.added(page, alice, lesson, *given)
            assert (text, picture, emptied) == ("", None, None) and path.parent.name in names["choices"]
        assert "2 of high, 2 of low" in said
        said, answer = teaching_part.answered(page, alice, lesson, "recording", None, None, str(low[0]))
    finally:
        page.workers.close()
    assert "of examples it had not seen" in said and answer.index("low") < answer.index("high")
    source = Path(teaching_part.taken(alice, lesson)[0])
    # Train, the bright button, is for these as soon as there are two classes
    one = {**lesson, "rows": lesson["rows"][:1]}
    assert (
        teaching_part.offered(alice, one, "")[0] == teaching_part.offered(alice, lesson, str(source))[0] == gr.skip()
    )
    assert teaching_part.offered(alice, lesson, "tickets.csv") == [str(source), lesson["task"], ""]
    assert labels_of("audio-classification", source) == {"high": 2, "low": 2}


@pytest.mark.parametrize("architecture", ["whisper", "ast"])
def test_models_that_fill_a_recording_up_with_silence_learn_from_short_ones(architecture: str, tmp_path: Path) -> None:
    model = str(tiny_heard.heard_model(tmp_path / "model", architecture))
    clips = tiny_heard.class_folder(tmp_path / "clips", 24)
    names = {word: sorted(f"{word}/{path.name}" for path in (clips / word).iterdir()) for word in ("low", "high")}
    rows = [{"label": word, "value": name} for word, found in names.items() for name in found[:6]]
    for word, found in names.items():
        answer = taught("audio-classification", model, rows, found[7], str(clips))["answer"]
        assert answer[0][0] == word and answer[0][1] > 0.6, answer


def test_what_a_microphone_hears_is_no_part_of_a_lesson_until_it_is_kept(
    alice: Visitor, space: Settings, received: Path
) -> None:
    page = cast(Any, SimpleNamespace(settings=space, workers=None))
    clip = next(tiny_heard.class_folder(received / "clips", 1).rglob("*.wav"))
    told = teaching_part.watched(page, "microphone", alice, None, "", False, "", str(clip))
    assert "microphone hears" in told[2] and not clip.exists()


def test_classes_are_kept_by_their_own_names(alice: Visitor, space: Settings, received: Path) -> None:
    """Folders are named after classes by what a file system takes: two that differ in other letters alone stay two."""
    lesson = teaching.fresh("image-classification")
    photos = sorted(tiny.image_folder(received / "photos", 8).rglob("*.png"))
    for path, label in zip(photos, ["c", "c++"] * 4, strict=True):
        lesson = teaching.add(alice, space, lesson, label, str(path))
    assert labels_of("image-classification", Path(teaching.source_of(alice, lesson))) == {"c": 4, "c++": 4}


def test_a_recording_and_what_is_said_in_it_are_an_example(alice: Visitor, space: Settings, received: Path) -> None:
    page = cast(Any, SimpleNamespace(settings=space, workers=None))  # nothing is learned from them yet
    folder, task = tiny_heard.spoken_folder(received / "spoken", 6), "automatic-speech-recognition"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lesson, said = teaching.fresh(task), ""
    for row in rows:
        given = ["recording", None, row["text"], "", None, str(folder / row["file_name"])]
        lesson, *_, said = teaching_part.added(page, alice, lesson, *given)
    assert f"6 examples. {teaching.FEW} or more" in said and rows[-1]["text"] in said
    assert teaching_part.answered(page, alice, lesson, "recording", None, None, "x.wav") == [said, ""]
    assert teaching.earlier(alice) == [lesson]
    refused = teaching_part.added(page, alice, lesson, "recording", "low", " ", "", None, str(folder / "000.flac"))
    assert "what is said is needed" in refused[-1]
    source, chosen = teaching_part.taken(alice, lesson)
    section = build({"task": chosen, "model": "-", "data": {"source": source, "test_size": 2}}).data
    found = data.load(section, catalog.task(chosen), 0, received)
    assert sorted(text for split in found.splits.values() for text in split["text"]) == sorted(r["text"] for r in rows)
    lesson = teaching.drop_last(alice, lesson)
    assert len([*Path(source).glob("*.flac")]) == len((Path(source) / teaching.FILES).read_text().splitlines()) == 5


def test_a_text_and_its_translation_are_an_example(alice: Visitor, space: Settings) -> None:
    lesson = teaching.fresh("translation")
    for number in range(3):
        lesson = teaching.add(alice, space, lesson, f"ein Haus {number}", f"a house {number}")
    said = teaching_part._told(lesson, None)
    assert "3 examples." in said and "a house 2" in said and "ein Haus 2" in said
    rows = [json.loads(line) for line in Path(teaching.source_of(alice, lesson)).read_text().splitlines()]
    assert rows[0] == {"text": "a house 0", "translation": "ein Haus 0"}


def test_lessons_outlive_their_page_and_can_be_deleted(alice: Visitor, bob: Visitor, space: Settings) -> None:
    begun = [teaching.fresh("text-classification"), teaching.fresh("translation")]
    for number, lesson in enumerate(begun):
        begun[number] = teaching.add(alice, space, lesson, "eine Tür", "a door")
    assert {one["folder"]: one for one in teaching.earlier(alice)} == {one["folder"]: one for one in begun}
    assert teaching.earlier(bob) == [] and "1 of eine Tür" in teaching_part.listed(alice)

    kind, learns, lesson, others = teaching_part.resumed(alice, begun[1]["folder"], begun[0], {})
    for one in begun:
        assert train_view.short(teaching.source_of(alice, one)) == "your examples"
        assert data_step.origin_of(alice, {"data": {"source": teaching.source_of(alice, one)}}) == data_step.EXAMPLES
    assert data_step.origin_of(alice, {"data": {"source": str(alice.uploads / "a.csv")}}) == data_step.UPLOAD
    assert (kind, learns["value"], lesson, others) == (
        "textbox",
        "translation",
        begun[1],
        {begun[0]["task"]: begun[0]},
    )
    assert teaching_part.left(alice, lesson, {**others, "translation": lesson}) == [None, others]
    source = teaching.source_of(alice, lesson)
    assert teaching_part.deleted(alice, "", lesson, others, source) == [gr.skip()] * 3
    assert len(teaching.earlier(alice)) == 2
    assert teaching_part.deleted(alice, "yes", lesson, others, source)[2] == ""
    assert teaching.earlier(alice) == [begun[0]]
    with pytest.raises(UserError, match="these are gone"):
        teaching_part.resumed(alice, lesson["folder"], None, {})

    # what somebody else wrote there is no lesson, and names no file outside its folder
    damaged = teaching.folder_of(alice, begun[0]) / teaching.TEXTS
    for text in ("[", '{"text": "a"}', "[1]"):
        damaged.write_text(text)
        assert teaching.earlier(alice) == []
    pictures = teaching.folder_of(alice, teaching.fresh("image-classification"))
    pictures.mkdir()
    for name, count in (("../../other.png", 0), ("/etc/passwd", 0), ("a/1.png", 1)):
        (pictures / teaching.FILES).write_text(json.dumps({"file_name": name, "label": "a"}))
        assert len(teaching.earlier(alice)) == count


@pytest.mark.parametrize(("each", "shown"), [(10, False), (teaching.LEAST, True)])
def test_as_many_examples_are_asked_for_as_can_show_that_anything_was_learned(each: int, shown: bool) -> None:
    """Two classes, a fifth of the rows to test on, all of them right: is that above an answer that does not look?"""
    rows = 2 * each // 5
    gained = np.arange(rows) % 2  # the trivial answer has half of them
    low, _ = scipy.stats.t.interval(0.95, rows - 1, gained.mean(), scipy.stats.sem(gained))
    assert bool(low > 0) is shown
