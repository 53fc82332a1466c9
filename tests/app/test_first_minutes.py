"""The first five minutes of people with data of their own: what they drop is understood, and its task guessed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hftransfer.ui import task_guess, worker
from tests import tiny, tiny_heard


def support_lead(place: Path) -> Path:
    """An export of tickets as a spreadsheet gives it: a number, a text, a queue."""
    rows = [
        f"T-{number:04};{text} please, order {number};{'billing' if label == 'positive' else 'shipping'}"
        for number, (text, label) in enumerate(tiny.sentences(80))
    ]
    (place / "tickets.csv").write_text("\n".join(["Ticket number;Text;Category", *rows]), encoding="utf-8-sig")
    return place / "tickets.csv"


def biologist(place: Path) -> Path:
    """A zip of a folder with a folder of photographs for each species, and what a system leaves in it."""
    photos = tiny.image_folder(place / "photos", 24)
    with zipfile.ZipFile(place / "beetles.zip", "w") as archive:
        for path in sorted(photos.rglob("*.png")):
            archive.write(path, Path("beetles") / path.relative_to(photos))
        archive.writestr("__MACOSX/._beetles", b"x")
        archive.writestr("beetles/.DS_Store", b"x")
    return place / "beetles.zip"


def teacher(place: Path) -> Path:
    """A zip of recordings, a folder for each word that was said."""
    sounds = tiny_heard.class_folder(place / "sounds", 24)
    with zipfile.ZipFile(place / "words.zip", "w") as archive:
        for path in sorted(sounds.rglob("*.wav")):
            archive.write(path, path.relative_to(sounds))
    return place / "words.zip"


def translator(place: Path) -> Path:
    """A memory of translations with tabs between its columns."""
    pairs = [f"the house number {i} is old\tla maison numero {i} est vieille" for i in range(60)]
    (place / "memory.tsv").write_text("\n".join(["source\ttarget", *pairs]), encoding="utf-8")
    return place / "memory.tsv"


@pytest.mark.parametrize(
    ("brings", "task", "train"),
    [
        (support_lead, "text-classification", 56),
        (biologist, "image-classification", 17),
        (teacher, "audio-classification", 17),
        (translator, "translation", 42),
    ],
)
def test_what_people_drop_is_understood(brings: Callable[[Path], Path], task: str, train: int, tmp_path: Path) -> None:
    source = brings(tmp_path)
    tree = {"task": "text-classification", "model": "m", "data": {"source": str(source)}}
    found = worker.tasks_for(tree)
    assert found[0]["task"] == task, found
    assert task_guess.label(task).lower() in task_guess.said(found)
    seen = worker.preview({**tree, "task": task})
    assert seen["problem"] is None and abs(seen["splits"]["train"] - train) <= 2
    assert seen["rows"] and all(entry.get("value") is not None for entry in seen["rows"][0].values())
