"""Examples given one by one, as training data: what is kept of them, and what a first model makes of them."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.runs import write_text
from hftransfer.ui import uploads, visitors
from hftransfer.ui.line import LINE
from hftransfer.ui.saying import say
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

if TYPE_CHECKING:
    from hftransfer.inputs.base import Input

MOST = 1000  # examples of one lesson
LEAST = 25  # rows of each class below which a fifth of them, to test on, cannot show that anything was learned
FEW = 50  # and rows whose truth is written
LONGEST = 10_000  # characters of what is written for one example
TEXTS, FILES = "taught.jsonl", "metadata.jsonl"  # what a lesson of texts is, and what says what its files are
NAME = re.compile(r"taught-([a-z-]+)-[0-9a-f]{8}")
LISTED = 12  # lessons of before that are offered, the newest
Lesson = dict[str, Any]  # {task, folder, rows: [{label, value}]}


def lessons() -> dict[str, list[str]]:
    """Return the tasks that examples can be given for one by one, by widget: those that learn classes first.

    A row is one input, and a truth that is typed in a line: the class that it is of, or a text about it.
    """
    found: dict[str, list[str]] = {}
    for name in catalog.tasks():
        task = catalog.task(name)
        if len([role for role in task.shown if role.required]) == 1 and task.answers[0].typed is str:
            found.setdefault(_takes(name).widget, []).append(name)
    return {widget: sorted(names, key=lambda name: not has_classes(name)) for widget, names in found.items()}


def has_classes(task: str) -> bool:
    """Tell whether the truth of a task's rows are classes: a first model can be made of a few examples of each."""
    return bool(catalog.task(task).answers[0].makes_head)


def fresh(task: str) -> Lesson:
    """Return a lesson without examples."""
    return {"task": task, "folder": f"taught-{task}-{secrets.token_hex(4)}", "rows": []}


def earlier(visitor: Visitor) -> list[Lesson]:
    """Return the lessons that were begun before, with any examples, the newest first: they outlive their page."""
    if visitor.anonymous or not visitor.uploads.is_dir():
        return []
    places = [path for path in visitor.uploads.glob("taught-*") if path.is_dir() and not path.is_symlink()]
    newest = sorted(places, key=lambda path: path.stat().st_mtime, reverse=True)
    return [lesson for lesson in map(_read, newest) if lesson is not None and lesson["rows"]][:LISTED]


def _read(folder: Path) -> Lesson | None:
    """Return the lesson that a folder holds; None for a folder that is none."""
    named = NAME.fullmatch(folder.name)
    if named is None or not any(named[1] in tasks for tasks in lessons().values()):
        return None
    shown, truth, file = _columns(named[1])
    try:
        lines = [json.loads(line) for line in (folder / file).read_text(encoding="utf-8").splitlines()]
        rows = [{"label": str(line[truth]), "value": str(line[shown])} for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if _takes_files(named[1]) and any(_leaves(row["value"]) for row in rows):
        return None
    return {"task": named[1], "folder": folder.name, "rows": rows}


def _leaves(name: str) -> bool:
    """Tell whether a file's name leads out of its lesson's folder."""
    return Path(name).is_absolute() or ".." in Path(name).parts


def remove(visitor: Visitor, lesson: Lesson) -> None:
    """Delete a lesson with all its examples."""
    visitors.require(visitor)
    folder = folder_of(visitor, lesson)
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)


def classes(lesson: Lesson) -> list[str]:
    """Return the classes that a lesson has examples of, in the order that they came."""
    return list(dict.fromkeys(row["label"] for row in lesson["rows"]))


def folder_of(visitor: Visitor, lesson: Lesson) -> Path:
    """Return where a lesson lies: a folder of its own among the visitor's uploads."""
    name = str(lesson["folder"])
    if not NAME.fullmatch(name):  # it comes back from a browser
        raise UserError("a lesson of this page is needed", "this is none", "Begin a new one.")
    return Path(visitor.uploads) / name


def add(visitor: Visitor, settings: Settings, lesson: Lesson, label: str, value: str | None) -> Lesson:
    """Keep one more example: a text, or a file as it was taken; UserError without its truth or a value."""
    visitors.require(visitor)
    words, given = (label or "").strip(), (value or "").strip()
    _require_truth(lesson["task"], words)
    if not given:
        how = "Type one." if not _takes_files(lesson["task"]) else "Take or record one, or drop a file."
        raise UserError("an example is needed", "there is none yet", how)
    if len(lesson["rows"]) >= MOST:
        raise UserError(f"at most {MOST:,} examples fit a lesson", "they are there", "Train with them.")
    if _takes_files(lesson["task"]):
        given = _kept(visitor, settings, lesson, words, given)
    found = {**lesson, "rows": [*lesson["rows"], {"label": words, "value": given}]}
    _write(visitor, found)
    return found


def drop_last(visitor: Visitor, lesson: Lesson) -> Lesson:
    """Forget the last example."""
    rows = lesson["rows"]
    if not rows:
        return lesson
    if _takes_files(lesson["task"]):
        (folder_of(visitor, lesson) / rows[-1]["value"]).unlink(missing_ok=True)
    found = {**lesson, "rows": rows[:-1]}
    _write(visitor, found)
    return found


def asked(visitor: Visitor, lesson: Lesson, model: str, value: str | None) -> dict[str, Any]:
    """Return the arguments of a worker's `taught` for a lesson, a value that is asked about beside it."""
    folder = str(folder_of(visitor, lesson)) if _takes_files(lesson["task"]) else None
    return {"task": lesson["task"], "model": model, "rows": lesson["rows"], "asked": value, "folder": folder}


def source_of(visitor: Visitor, lesson: Lesson) -> str:
    """Return the data source that a lesson is: a file of texts, or a folder of files and what each of them is."""
    folder = folder_of(visitor, lesson)
    return str(folder if _takes_files(lesson["task"]) else folder / TEXTS)


def counted(lesson: Lesson) -> str:
    """Return how many examples a lesson has, of each class where it has some, in words."""
    labels = [row["label"] for row in lesson["rows"]]
    if not labels:
        return say("No examples yet")
    if not has_classes(lesson["task"]):
        return say("{n} examples", n=len(labels))
    return say(", ").join(say("{n} of {name}", n=labels.count(name), name=name) for name in sorted(set(labels)))


def is_source(source: str) -> bool:
    """Tell whether a data source is a lesson: its folder, or the file of texts in it."""
    path = Path(source)
    return NAME.fullmatch(path.parent.name if path.name == TEXTS else path.name) is not None


def called(source: str) -> str:
    """Return the last part of a source's name; a lesson's is none that anybody gave it."""
    return say("your examples") if is_source(source) else source.rstrip("/").rsplit("/", 1)[-1]


def told(lesson: Lesson, right: float | None) -> str:
    """Return how far a lesson is, in a sentence; `right` is the share that a first model has right, None without."""
    labels, known = [row["label"] for row in lesson["rows"]], counted(lesson)
    if not has_classes(lesson["task"]):
        few = say(" {n} or more make it worth training.", n=FEW) if len(labels) < FEW else ""
        return say("{known}.", known=known) + few
    if len(set(labels)) < 2:
        return say("{known}. Two classes are needed before anything can be learned.", known=known)
    words = say("{known}.", known=known)
    if right is not None:
        words += say(" It is right on {share:.0%} of examples it had not seen.", share=right)
    if few_of := [name for name in sorted(set(labels)) if labels.count(name) < LEAST]:
        names = say(", ").join(few_of)
        words += say(" {n} or more of each class make it worth training: add to {names}.", n=LEAST, names=names)
    return words


def _require_truth(task: str, words: str) -> None:
    if not has_classes(task):
        if not words or len(words) > LONGEST:
            about = catalog.task(task).truth.about
            raise UserError(
                f"{about} is needed, of at most {LONGEST:,} characters", f"found {words[:60]!r}", "Type it."
            )
    elif not words or "/" in words or "\\" in words or words.startswith("."):
        raise UserError("the name of a class is needed", f"found {words[:60]!r}", "Type a word, such as: cat.")


def _takes(task: str) -> Input:
    """Return the kind of input that a task's models are shown of each example."""
    (taken,) = [role.takes for role in catalog.task(task).shown if role.required and role.takes is not None]
    return taken


def _takes_files(task: str) -> bool:
    return _takes(task).lazy


def _kept(visitor: Visitor, settings: Settings, lesson: Lesson, label: str, path: str) -> str:
    """Copy a file into the lesson's folder, those of a class into one of their own; return its name there."""
    folder, name = folder_of(visitor, lesson), f"{len(lesson['rows']):04}"
    if has_classes(lesson["task"]):
        name = f"{uploads.safe_name(label)}/{name}"
    kinds = uploads.kinds_of(_takes(lesson["task"]).suffixes)
    with LINE.turn(visitor), uploads.held(visitor, path, settings, kinds) as found:
        target = folder / f"{name}{found.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, target)
    return f"{name}{found.suffix}"


def _write(visitor: Visitor, lesson: Lesson) -> None:
    """Write the rows, as a file beside the folder's others where these hold what is shown."""
    folder, (shown, truth, file) = folder_of(visitor, lesson), _columns(lesson["task"])
    rows: list[Mapping[str, str]] = [{shown: row["value"], truth: row["label"]} for row in lesson["rows"]]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


def _columns(task: str) -> tuple[str, str, str]:
    """Return what the columns of a lesson's rows are called, of what is shown and of the truth, and their file."""
    known = catalog.task(task)
    given = next(role.name for role in known.shown if role.required)
    return ("file_name", known.truth.name, FILES) if _takes_files(task) else (given, known.truth.name, TEXTS)
