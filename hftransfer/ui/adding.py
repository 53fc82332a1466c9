"""Rows added from Try ("this should have been ..."), kept beside the uploads, then trained on: test rows stay."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hftransfer import answers, catalog
from hftransfer.errors import UserError
from hftransfer.runs import Run, write_text
from hftransfer.ui import mending, received, uploads, visitors
from hftransfer.ui.line import LINE
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

FILE = "rows.jsonl"
FORMS = {"CSV": ".csv", "Folders of files": ".zip", "Label Studio": ".json"}  # that `revision` writes
MOST = 2000  # rows that are added by hand to one run


def place_of(visitor: Visitor, run: Run) -> Path:
    """Return where the rows lie that this visitor adds after a run, its pictures and recordings beside them."""
    return Path(visitor.uploads) / f"added-{run.name}" / FILE


def offered(result: Mapping[str, Any]) -> tuple[type, list[str]] | None:
    """Return what says a row's truth, and the labels there are; None where rows cannot be added one by one."""
    task = catalog.task(result["task"])
    if task.gathers or task.reads is not None:
        return None
    answer = answers.restore(result["answer"])
    return None if answer.typed is None else (answer.typed, [*answer.names])


def rows_of(place: Path) -> list[dict[str, Any]]:
    """Return the rows that were added so far; UserError for a file that is damaged."""
    try:
        return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{place.parent.name} must be readable", str(error)[:200], "Delete it.") from error


def add(visitor: Visitor, settings: Settings, run: Run, value: Mapping[str, Any], said: str) -> int:
    """Keep a row: what a model was asked with, by role, and what it should have said; return how many there are.

    A picture or a recording is looked at as every upload is, and copied beside the rows.
    """
    visitors.require(visitor)
    task = catalog.task(run.config().task)
    known = offered(run.result())
    if known is None or not value:
        raise UserError("a model of one answer a row is needed", f"{task.name} has more", "Add rows to its data.")
    place, rows = place_of(visitor, run), begun(visitor, run)
    if len(rows) >= MOST:
        raise UserError(f"at most {MOST:,} rows are added here", "they are", "Add them to the data themselves.")
    row = {task.truth.name: truth_of(known[0], said)}
    for role in (role for role in task.shown if role.name in value):
        given = value[role.name]
        lazy = role.takes is not None and role.takes.lazy
        kinds = uploads.kinds_of(task.suffixes)
        row[role.name] = _beside(visitor, settings, place.parent, len(rows), given, kinds) if lazy else given
    with mending.ONE_AT_A_TIME:
        rows = rows_of(place)  # another page may have added one meanwhile
        write(place, [*rows, row])
    return len(rows) + 1


def truth_of(typed: type, said: str) -> Any:
    """Return what was typed as the truth it means; UserError for nothing, and for words where a number is wanted."""
    words = (said or "").strip()
    if not words:
        raise UserError("what it should have been is needed", "nothing was chosen", "Choose or type it.")
    try:
        return typed(words)
    except ValueError as error:
        raise UserError("a number is needed", f"found {words[:60]!r}", "Type a number.") from error


def begun(visitor: Visitor, run: Run) -> list[dict[str, Any]]:
    """Return the rows added after a run; the first ones are those that it was itself trained with."""
    place, before = place_of(visitor, run), run.config().data.added
    with mending.ONE_AT_A_TIME:
        if not place.is_file() and before and (visitor.local or visitor.owns(before)):
            shutil.copytree(Path(before).parent, place.parent, symlinks=True, dirs_exist_ok=True)
    return rows_of(place)


def write(place: Path, rows: list[dict[str, Any]]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def take_back(visitor: Visitor, run: Run) -> int:
    """Forget the row that was added last; return how many are left."""
    visitors.require(visitor)
    with mending.ONE_AT_A_TIME:
        rows = rows_of(place_of(visitor, run))[:-1]
        write(place_of(visitor, run), rows)
    return len(rows)


def tree_of(visitor: Visitor, run: Run) -> dict[str, Any]:
    """Return a run's configuration with what was added and mended since; the test rows stay the same."""
    mended, added = mending.place_of(visitor, run), place_of(visitor, run)
    tree = run.config().to_dict()
    tree.pop("output", None)
    tree.pop("hub", None)
    data = dict(tree["data"])
    if added.is_file():
        data.pop("added", None)  # all of them may have been taken back
        data |= {"added": str(added)} if rows_of(added) else {}
    if mended.is_file():
        data["corrections"] = str(mended)
    return {**tree, "data": data}


def _beside(
    visitor: Visitor, settings: Settings, folder: Path, number: int, given: Any, kinds: tuple[str, ...]
) -> str:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with LINE.turn(visitor), uploads.held(visitor, str(given), settings, kinds) as found:
        return uploads.moved(found, folder / f"{number:05}-{found.name}").name


def exported(page: Any, visitor: Visitor, name: str | None, form: str) -> str:
    """Write the rows of a run as they are now, mended and added to, and return the file's place."""
    run = visitors.find(visitor, name or "")
    visitor.temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=visitor.temporary, prefix="revision-") as own:  # two pages may ask for it
        made = Path(own) / f"revision-{run.name}{FORMS[form]}"
        page.workers.call(visitor, "revision", tree=tree_of(visitor, run), form=form, target=str(made))
        target = received.lend(visitor, page.settings, made.name, made.stat().st_size / 2**20)
        shutil.move(made, target)
    return str(target)


def pushed(page: Any, visitor: Visitor, name: str | None, repo: str) -> dict[str, Any]:
    """Commit the rows of a run as they are now as a data set of the Hub, with the visitor's token; {rows, url}."""
    run, to = visitors.find(visitor, name or ""), visitors.require_writing(visitor, repo)
    found: dict[str, Any] = page.workers.call(visitor, "pushed", tree=tree_of(visitor, run), repo=to)
    return found
