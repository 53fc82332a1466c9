"""Examples typed or taken one by one, as training data: what is kept of them, and what a first model makes of them."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.runs import write_text
from hftransfer.ui import uploads, visitors
from hftransfer.ui.saying import say
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

MOST = 1000  # examples of one lesson
LEAST = 10  # rows of each class below which scores say little
FILE = "taught.jsonl"
NAME = re.compile(r"taught-[0-9a-f]{8}")
Lesson = dict[str, Any]  # {task, folder, rows: [{label, value}]}


def lessons() -> dict[str, str]:
    """Return the tasks that examples can be given for one by one, by widget: one input, one label out of several."""
    found: dict[str, str] = {}
    for name in catalog.tasks():
        task = catalog.task(name)
        required = [role for role in task.shown if role.required]
        if len(required) == 1 and required[0].takes is not None and task.answers[0].typed is str and (
            task.answers[0].makes_head
        ) and required[0].takes.widget in ("textbox", "picture"):  # fmt: skip
            found[required[0].takes.widget] = name
    return found


def fresh(widget: str) -> Lesson:
    """Return a lesson without examples."""
    return {"task": lessons()[widget], "folder": f"taught-{secrets.token_hex(4)}", "rows": []}


def folder_of(visitor: Visitor, lesson: Lesson) -> Path:
    """Return where a lesson lies: a folder of its own among the visitor's uploads."""
    name = str(lesson["folder"])
    if not NAME.fullmatch(name):  # it comes back from a browser
        raise UserError("a lesson of this page is needed", "this is none", "Begin a new one.")
    return Path(visitor.uploads) / name


def add(visitor: Visitor, settings: Settings, lesson: Lesson, label: str, value: str | None) -> Lesson:
    """Keep one more example: a text, or a picture as it was taken; UserError without a class or a value."""
    visitors.require(visitor)
    words, given = (label or "").strip(), (value or "").strip()
    if not words or "/" in words or "\\" in words or words.startswith("."):
        raise UserError("the name of a class is needed", f"found {words[:60]!r}", "Type a word, such as: cat.")
    if not given:
        raise UserError("an example is needed", "there is none yet", "Type one, or take a picture.")
    if len(lesson["rows"]) >= MOST:
        raise UserError(f"at most {MOST:,} examples fit a lesson", "they are there", "Train with them.")
    folder = folder_of(visitor, lesson)
    if _takes_files(lesson["task"]):
        given = _kept(visitor, settings, folder, words, given, len(lesson["rows"]))
    found = {**lesson, "rows": [*lesson["rows"], {"label": words, "value": given}]}
    _write(folder, found)
    return found


def drop_last(visitor: Visitor, lesson: Lesson) -> Lesson:
    """Forget the last example."""
    rows = lesson["rows"]
    if not rows:
        return lesson
    folder = folder_of(visitor, lesson)
    if _takes_files(lesson["task"]):
        (folder / rows[-1]["value"]).unlink(missing_ok=True)
    found = {**lesson, "rows": rows[:-1]}
    _write(folder, found)
    return found


def asked(visitor: Visitor, lesson: Lesson, model: str, value: str | None) -> dict[str, Any]:
    """Return the arguments of a worker's `taught` for a lesson, a value that is asked about beside it."""
    files = _takes_files(lesson["task"])
    folder = str(folder_of(visitor, lesson)) if files else None
    return {"task": lesson["task"], "model": model, "rows": lesson["rows"], "asked": value, "folder": folder}


def source_of(visitor: Visitor, lesson: Lesson) -> str:
    """Return the data source that a lesson is: a file of texts, or a folder of pictures with a folder a class."""
    folder = folder_of(visitor, lesson)
    return str(folder if _takes_files(lesson["task"]) else folder / FILE)


def told(found: Mapping[str, Any]) -> str:
    """Return how far a lesson is, in a sentence."""
    counts = found["counts"]
    listed = say(", ").join(say("{n} of {name}", n=count, name=name) for name, count in counts.items())
    if len(counts) < 2:
        known = listed or say("No examples yet")
        return say("{known}. Two classes are needed before anything can be learned.", known=known)
    words = say("{known}.", known=listed)
    if found["right"] is not None:
        words += say(" It is right on {share:.0%} of examples it had not seen.", share=found["right"])
    if few := [name for name, count in counts.items() if count < LEAST]:
        names = say(", ").join(few)
        words += say(" {n} or more of each class make it worth training: add to {names}.", n=LEAST, names=names)
    return words


def _takes_files(task: str) -> bool:
    return any(role.takes is not None and role.takes.lazy for role in catalog.task(task).shown if role.required)


def _kept(visitor: Visitor, settings: Settings, folder: Path, label: str, path: str, number: int) -> str:
    name = uploads.safe_name(label)
    (folder / name).mkdir(parents=True, exist_ok=True)
    with uploads.held(visitor, path, settings, uploads.PICTURES) as found:
        target = f"{name}/{number:04}{found.suffix}"
        shutil.copy(found, folder / target)
    return target


def _write(folder: Path, lesson: Lesson) -> None:
    if _takes_files(lesson["task"]):
        return
    task = catalog.task(lesson["task"])
    shown: Sequence[str] = [role.name for role in task.shown if role.required]
    lines = [json.dumps({shown[0]: row["value"], task.truth.name: row["label"]}) for row in lesson["rows"]]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE, "".join(f"{line}\n" for line in lines))
