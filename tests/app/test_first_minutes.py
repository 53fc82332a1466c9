"""The first five minutes of twelve people: from a file as each has it to a model above its baseline that answers."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import openpyxl
import pytest

from hftransfer import answers, catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.launchers import launcher
from hftransfer.runs import Run, verdict_of
from hftransfer.ui import (
    app,
    asking,
    chatting,
    data_step,
    headline,
    inspection,
    settings,
    task_guess,
    train_view,
    try_step,
    visitors,
    worker,
)
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.page import Page
from hftransfer.ui.queueing import Queue
from hftransfer.ui.visitors import Visitor
from tests import (
    tiny,
    tiny_catalogue,
    tiny_causal,
    tiny_detectors,
    tiny_dicom,
    tiny_heard,
    tiny_masks,
    tiny_pairs,
    tiny_written,
)

LIMITS = inspection.Limits(unpacked=2**30, pixels=10**8, columns=1000)
PROBE: dict[str, Any] = {"method": {"name": "probe"}}


def learning(rate: float, steps: int, **train: Any) -> dict[str, Any]:
    return {"method": {"name": "full"}, "train": {"learning_rate": rate, "max_steps": steps, **train}}


def packed(folder: Path, path: Path, inside: str = "") -> Path:
    """Pack a folder as a system's own "compress" does, below one folder or not, with what a Mac leaves in it."""
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                archive.write(one, Path(inside) / one.relative_to(folder))
        archive.writestr("__MACOSX/._photos", b"\0\1")
        archive.writestr(str(Path(inside) / ".DS_Store"), b"\0\1")
    shutil.rmtree(folder)
    return path


# --- what people bring ---


def support_lead(place: Path) -> Path:
    """An export of tickets as a spreadsheet gives it: a number, a text, a queue, divided by semicolons."""
    rows = [
        f"T-{number:04};{text} please, order {number};{'billing' if label == 'positive' else 'shipping'}"
        for number, (text, label) in enumerate(tiny.sentences(160))
    ]
    (place / "tickets.csv").write_text("\n".join(["Ticket number;Text;Category", *rows]), encoding="utf-8-sig")
    return place / "tickets.csv"


def biologist(place: Path) -> Path:
    """A folder of photographs for each species, compressed on a Mac."""
    photos = tiny.image_folder(place / "photos", 60)
    (photos / "red").rename(photos / "Carabus auratus")
    (photos / "blue").rename(photos / "Lucanus cervus")
    return packed(photos, place / "beetles.zip", "beetles")


def teacher(place: Path) -> Path:
    """Recordings in a folder for each word that was said."""
    return packed(tiny_heard.class_folder(place / "sounds", 60), place / "words.zip")


def shop(place: Path) -> Path:
    """A workbook of reviews with their stars, and the sheet of totals that stands behind it."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Reviews"
    sheet.append(["Date", "Review", "Stars"])
    for number, (text, label) in enumerate(tiny.sentences(160, seed=3)):
        sheet.append([f"2026-0{1 + number % 9}-1{number % 10}", text, (1, 5)[label == "positive"]])
    book.save(place / "reviews.xlsx")
    return place / "reviews.xlsx"


def lawyer(place: Path) -> Path:
    """Clauses with marked parts, as doccano exports them."""
    with open(place / "clauses.jsonl", "w", encoding="utf-8") as file:
        for number, (text, _) in enumerate(tiny.sentences(160)):
            found, at = [], 0
            for word in text.split():
                if word in tiny.GOOD + tiny.BAD:
                    found.append([at, at + len(word), "PARTY" if word in tiny.GOOD else "DUTY"])
                at += len(word) + 1
            file.write(json.dumps({"id": number, "text": text, "label": found, "Comments": []}) + "\n")
    return place / "clauses.jsonl"


def radiologist(place: Path) -> Path:
    """DICOM files of patients, a folder for each finding."""
    return packed(tiny_dicom.folder(place / "scans", 160), place / "scans.zip", "export")


def translator(place: Path) -> Path:
    """A translation memory."""
    units = "".join(
        f'<tu><tuv xml:lang="en-GB"><seg>{text}</seg></tuv><tuv xml:lang="fr-FR"><seg>{other}</seg></tuv></tu>'
        for text, other in tiny_written.pairs(200)
    )
    (place / "memory.tmx").write_text(
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx version="1.4">'
        f'<header srclang="en-GB"/><body>{units}</body></tmx>',
        encoding="utf-8",
    )
    return place / "memory.tmx"


def librarian(place: Path) -> Path:
    """Questions of readers, passages that share their words, and which passage answers which question."""
    return packed(tiny_catalogue.collection(place / "library"), place / "library.zip", "library")


def shop_owner(place: Path) -> Path:
    """Purchases and products, as two tables of a shop's system."""
    return packed(tiny_catalogue.interactions(place / "shop", 120), place / "shop.zip")


def bird_watcher(place: Path) -> Path:
    """Pictures with boxes around birds, as YOLO's tools write them."""
    folder, random_order = place / "birds", random.Random(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, (picture, boxes, names) in enumerate(tiny_detectors.pictures(60)):
        picture.save(folder / "images" / f"bird{number:03}.jpg", quality=95)
        wide, high = picture.size
        lines = [
            f"{tiny_detectors.CLASSES.index(name)} {(x + w / 2) / wide} {(y + h / 2) / high} {w / wide} {h / high}"
            for (x, y, w, h), name in zip(boxes, names, strict=True)
        ]
        random_order.shuffle(lines)
        (folder / "labels" / f"bird{number:03}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames: {list(tiny_detectors.CLASSES)}\n")
    return packed(folder, place / "birds.zip", "birds")


def farmer(place: Path) -> Path:
    """Photographs of fields, and beside them masks in colours."""
    return packed(tiny_masks.folder(place / "fields", 40, form="palette"), place / "fields.zip", "fields")


def chatbot_author(place: Path) -> Path:
    """Conversations in ShareGPT's form, as one list."""
    rows = tiny_causal.rows("conversations", 200)
    (place / "talks.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return place / "talks.json"


# --- what they ask, and how much is learnt ---


def picture_of(red: bool) -> Callable[[Path], dict[str, Any]]:
    def ask(place: Path) -> dict[str, Any]:
        folder = tiny.image_folder(place / "asked", 2, seed=9)
        return {"picture": str(next((folder / ("red" if red else "blue")).iterdir()))}

    return ask


def word(place: Path) -> dict[str, Any]:
    folder = tiny_heard.class_folder(place / "asked", len(tiny_heard.WORDS), seed=9)
    return {"recording": str(next((folder / next(iter(tiny_heard.WORDS))).iterdir()))}


def scan(place: Path) -> dict[str, Any]:
    folder = tiny_dicom.folder(place / "asked", 4)
    return {"picture": str(next((folder / "spot").iterdir()))}


def field_seen(place: Path) -> dict[str, Any]:
    folder = tiny_masks.folder(place / "asked", 1, seed=9)
    return {"picture": str(next((folder / "images").iterdir()))}


def bird(place: Path) -> dict[str, Any]:
    picture, _, _ = tiny_detectors.pictures(1, seed=9)[0]
    picture.save(place / "asked.png")
    return {"picture": str(place / "asked.png")}


def words(text: str) -> Callable[[Path], dict[str, Any]]:
    return lambda place: {"words": text}


@dataclass(frozen=True)
class Person:
    """What somebody brings, what it is guessed to be, and what the model answers to a question of theirs."""

    brings: Callable[[Path], Path]
    task: str
    said: str  # in the sentence of the guess
    model: Callable[[Path], Any]
    asks: Callable[[Path], dict[str, Any]]
    answer: str  # in what is shown
    learns: dict[str, Any] = field(default_factory=lambda: PROBE)
    shown: bool | None = True  # that it is better than what does not look; None: too few rows for it, False: it is not
    data: dict[str, Any] = field(default_factory=dict)


PEOPLE = {
    "support lead": Person(support_lead, "text-classification", "Category is the label", tiny.text_model,
                           words("the food was lovely please, order 7"), "billing"),
    "biologist": Person(biologist, "image-classification", "image", lambda place: tiny.image_model(place, "resnet"),
                        picture_of(red=True), "Carabus auratus"),
    "teacher": Person(teacher, "audio-classification", "audio", tiny_heard.heard_model, word,
                      next(iter(tiny_heard.WORDS))),
    "shop with reviews": Person(shop, "text-classification", "Stars", tiny.text_model,
                                words("a lovely cast and a great story"), "5"),
    "lawyer": Person(lawyer, "token-classification", "words", tiny.text_model, words("the film was lovely"), "PARTY"),
    "radiologist": Person(radiologist, "image-classification", "image",
                          lambda place: tiny.image_model(place, "resnet"), scan, "spot"),
    "translator": Person(translator, "translation", "target is the translation",
                         lambda place: tiny_written.written_model(place, "marian"), words("the big cat"), "<p",
                         learning(5e-3, 250), shown=None),
    "librarian": Person(librarian, "retrieval", "query", tiny_pairs.model, words("good film was a"), "<",
                        shown=False),
    "shop owner": Person(shop_owner, "recommendation", "history", tiny_pairs.model, words("3, 6, 9"), "near",
                         learning(3e-3, 30)),
    "bird watcher": Person(bird_watcher, "object-detection", "objects", tiny_detectors.model, bird, "",
                           learning(3e-3, 120, per_device_train_batch_size=8), shown=None),
    "farmer": Person(farmer, "image-segmentation", "mask", tiny_masks.model, field_seen, "<img",
                     learning(5e-3, 80, per_device_train_batch_size=4)),
    "chatbot author": Person(chatbot_author, "text-generation", "prompt and completion", tiny_causal.causal_model,
                             words("the big cat"), "", learning(1e-2, 120), shown=None),
}  # fmt: skip
SLOW = {"bird watcher", "chatbot author", "farmer"}  # tens of seconds: their models learn by many updates


class AtOnce:
    """What asks workers, answered in this process."""

    def call(self, visitor: Visitor, name: str, **given: Any) -> Any:
        return worker.FUNCTIONS[name](**given)

    def grow(self, visitor: Visitor, where: str, input: Any) -> Iterator[str]:
        return asking.write(where, input)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    place = settings.Settings.read({"HFTRANSFER_ROOT": str(tmp_path / "root")})
    made = Page(place, Queue(place, launcher("local")), cast(Any, AtOnce()), Monitor())
    app.laid_out(made)
    return made


def values_of(page: Page, task: str, source: Path) -> list[Any]:
    """Return what stands in the form: the file, the task, and nothing else."""
    found = {"task": task, "data.source": str(source), "model": "m", "method.name": "auto"}
    return [*(found.get(path) for path in page.widgets), *[""] * len(page.roles), []]


def trained(visitor: Visitor, person: Person, source: Path, model: Path) -> Run:
    """Train as the engine does, in this process, by what is quick."""
    from hftransfer import training

    tree = {
        "task": person.task, "model": str(model),
        "data": {"source": str(source), "label_issues": False, "likely_copies": False, **person.data},
        "evaluation": {"resamples": 100, "max_new_tokens": 12, "forgetting": False},
        "speed": {"tune": False, "threads": 1}, **person.learns,
        "train": {"auto": False, "per_device_train_batch_size": 16, "use_cpu": True, "eval_strategy": "no",
                  "save_strategy": "no", **person.learns.get("train", {})},
    }  # fmt: skip
    config = catalog.build_config(tree)
    visitor.runs.mkdir(parents=True, exist_ok=True)
    run = Run.create(config, visitor.runs / f"20260101-000000-{person.task}-m-auto")
    with Interruption() as interruption:
        training.run(config, run, interruption)
    return run


@pytest.mark.parametrize(
    "who", [pytest.param(who, marks=[pytest.mark.slow, pytest.mark.long] if who in SLOW else []) for who in PEOPLE]
)
def test_from_a_file_to_an_answer(who: str, page: Page, tmp_path: Path) -> None:
    person = PEOPLE[who]
    visitor = visitors.of(None, None, None, page.settings)
    source = person.brings(tmp_path)
    assert inspection.inspect(source, source.suffix, LIMITS)

    # the task is guessed and said, and the rows are shown as it will read them
    first = values_of(page, data_step.FIRST, source)
    task, sentence = task_guess.guess(page, visitor, *first)
    assert task == person.task
    assert task_guess.label(task).lower() in sentence and person.said in sentence
    said, there, summary, *_, rows = data_step.look(page, visitor, *values_of(page, task, source))
    assert said == "" and there["visible"] and "note bad" not in summary and "Which column" not in summary
    assert rows.count("<tr") > 3 and "<table" in rows

    # it learns, and its score is above what an answer gives that does not look
    person.model(tmp_path / "model")
    run = trained(visitor, person, source, tmp_path / "model")
    result = run.result()
    name, score = next(iter(result["test"]["metrics"].items()))
    trivial = result["baseline"]["metrics"][name]["value"]
    sign = 1 if answers.metrics()[name].greater_is_better else -1
    assert (sign * (score["value"] - trivial) > 0) == (person.shown is not False), (name, score, trivial)
    came = train_view.came_of(result)
    assert f"{score['value']:.3f}" in came and headline.of(result) in came
    if person.shown is not None:  # words in common find these passages as well, and that is said
        assert verdict_of(result).useless == ("note bad" in came) == (not person.shown)

    # and it answers a question of theirs
    _, asks, *_ = try_step.choose(page, visitor, try_step.RUN, "", run.name)
    given = {"words": "", "picture": None, "recording": None, **person.asks(tmp_path)}
    whom = (try_step.RUN, "", run.name, asks, given["words"])
    if chatting.is_chat(asks):
        where = partial(try_step._where, page)
        *_, (shown, turns, _) = chatting.answer(page, where, visitor, *whom, [])
        assert len(turns) == 2 and turns[1]["content"].strip()
    else:
        shown, _ = try_step.asked(page, visitor, *whom, "", given["picture"], given["recording"], None)
    assert "note bad" not in shown and person.answer in shown, shown
