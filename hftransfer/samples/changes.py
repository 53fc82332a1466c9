"""Who changed what and when: the authors of a program's change logs, and its libraries with a line about each."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hftransfer.samples import rows
from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

EMACS = Package(
    "Debian",
    "emacs",
    "28.2+1",
    "54a21ceabe3d93a6ba164e8874d6a2cbb094e42d73d4a8978a4ff7dd75d90666",
    26_988_304,
    "emacs-28.2+1.orig/COPYING",
    source="emacs",
    file="emacs_28.2+1.orig.tar.xz",
)
_LOG = re.compile(r"(.*/)?ChangeLog\.\d+")
_ABOUT = re.compile(r";+\s*[\w.+-]+\s+-+\s+(.+?)\s*(-\*-.*)?")  # ;;; abbrev.el --- abbrev mode commands for Emacs
# the head of an entry: 2003-04-05  A Name  <address>, before 1998 Sat Apr  5 13:37:00 1997  A Name  (address)
_HEAD = re.compile(
    r"(\d{4}-\d\d-\d\d|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: [A-Z]+)? \d{4})\s+(.+?)\s+[<(][^>)]+[>)]"
)
_FILES = re.compile(r"\t\* ([^\s(:,]+(?:,\s*[^\s(:,]+)*)")


def emacs(folder: Path, archive: Archive) -> None:
    """Write user_id, item_id, timestamp, title and description, a row a person, library and day."""
    logs: dict[str, str] = {}
    titles: dict[str, str] = {}
    for member, content in archive.files():
        name = member.partition("/")[2]
        if _LOG.fullmatch(name):
            logs[name] = content.decode("utf-8", "replace")
        elif name.startswith("lisp/") and name.endswith(".el"):
            first = _ABOUT.fullmatch(content[:300].decode("utf-8", "replace").partition("\n")[0])
            if first:
                titles[name] = f"{posixpath.basename(name).removesuffix('.el')}: {first[1]}"
    numbers: dict[str, int] = {}  # people are numbered: their names say nothing to a model
    changes = sorted({change for name, text in logs.items() for change in changed(name, text) if change[2] in titles})
    rows.write(
        folder,
        ("user_id", "item_id", "timestamp", "title", "description"),
        [
            (numbers.setdefault(who, len(numbers)), name, day, titles[name], " ".join(name.split("/")[1:-1]))
            for day, who, name in changes
        ],
    )


def changed(log: str, text: str) -> Iterator[tuple[date, str, str]]:
    """Yield day, author and file of each change of a log in GNU's form; files lie beside their log."""
    head: tuple[date, str] | None = None
    for line in text.split("\n"):
        if found := _HEAD.match(line):
            head = _day(found[1]), found[2]
        elif head is not None and (named := _FILES.match(line)):
            for name in re.split(r",\s*", named[1]):
                yield *head, posixpath.normpath(posixpath.join(posixpath.dirname(log), name))


def _day(written: str) -> date:
    if written[0].isdigit():
        return date.fromisoformat(written)
    _, month, day, *_, year = written.split()
    return datetime.strptime(f"{month} {day} {year}", "%b %d %Y").date()


SAMPLES = (
    Sample(
        "emacs-changes",
        "data",
        "recommendation",
        "Which of Emacs' 1335 Lisp libraries 1868 people changed, 1985 to 2022, each library with the line about it.",
        "GPL-3.0 or later",
        (EMACS,),
        emacs,
    ),
)
