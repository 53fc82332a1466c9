"""Uploads: looked at in a process of their own with bounded memory and time, then moved under a safe name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.safety.pictures import COMMON
from hftransfer.ui import disk, received, visitors
from hftransfer.ui.line import LINE
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx", ".conll", ".tmx", ".zip")  # what a file input offers
ASKED = (*KINDS[:-1], ".txt")  # what holds inputs to ask with
PICTURES = COMMON  # what a prediction takes besides
RECORDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus")
INSTEAD = {  # of a file that is of none of these kinds
    PICTURES: "Save it as JPEG or PNG, or take the picture here.",
    RECORDINGS: "Save it as WAV or MP3, or record it here.",
}
SECONDS = 300.0  # for one inspection
STEM = 80  # characters of a file's name
BLOCK = 2**20
NO_LIMIT = 2**62
_INSPECTING = threading.BoundedSemaphore(2)  # each may take 3 GB
SPARE_MB = 300.0  # of the disk that nobody fills: events and results are still written


def kinds_of(suffixes: Collection[str]) -> tuple[str, ...]:
    """Return which of the files that are taken one by one have one of these suffixes."""
    return tuple(kind for kind in (*PICTURES, *RECORDINGS) if kind in suffixes)


def accept(visitor: Visitor, path: str | Path, settings: Settings, kinds: tuple[str, ...] = KINDS) -> Path:
    """Check an uploaded file and move it into the visitor's uploads; return where it is, UserError when refused."""
    visitors.require(visitor)
    with LINE.turn(visitor), held(visitor, path, settings, kinds) as found:
        visitor.uploads.mkdir(parents=True, exist_ok=True)
        return moved(found, visitor.uploads / found.name)


def moved(path: Path, target: Path) -> Path:
    """Move a file to a place that nothing has, `target` or one numbered after it, and return it.

    Two that come at once get two places; nobody sees half of a file that comes from another disk.
    """
    hidden = target.with_name(f".{secrets.token_hex(8)}")
    try:
        shutil.move(path, hidden)
        place = _reserved(target)
        os.replace(hidden, place)
    finally:
        hidden.unlink(missing_ok=True)
    return place


@contextlib.contextmanager
def held(visitor: Visitor, path: str | Path, settings: Settings, kinds: tuple[str, ...]) -> Iterator[Path]:
    """Check an uploaded file and keep a copy, where the visitor's processes can read it, as long as the block lasts.

    The app itself reads no byte of it: a process with little memory, a time limit and no way to other files does,
    which takes a while: whoever calls this waits in the line of `line.LINE`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in kinds:
        how = next((how for some, how in INSTEAD.items() if {*kinds} <= {*some}), "Convert it.")
        raise UserError(f"a file ending in {', '.join(kinds)} is needed", f"found {_shown(path.name)}", how)
    _require_received(path, settings)
    visitor.temporary.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=visitor.temporary, prefix="upload-"))
    try:
        found = folder / safe_name(path.name)
        _take(path, found, visitor, settings)
        _inspect(found, suffix, visitor, settings)
        yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def listing(visitor: Visitor) -> list[Path]:
    """Return the visitor's uploads, newest first."""
    if not visitor.uploads.is_dir():
        return []
    found = [p for p in visitor.uploads.iterdir() if p.is_file() and not p.is_symlink() and not p.name.startswith(".")]
    return sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)


def remove(visitor: Visitor, path: str | Path) -> None:
    """Delete one of the visitor's own uploads."""
    visitors.require(visitor)
    for own in listing(visitor):
        if own.name == Path(path).name and own == visitor.uploads / Path(path).name:
            own.unlink()
            return
    raise UserError("one of your uploads is needed", f"{_shown(Path(path).name)} is none", "Reload the page.")


def require_room(visitor: Visitor, settings: Settings, more_mb: float = 0.0) -> None:
    """Raise UserError when the visitor's share of the disk is used up, or the disk itself, deleted runs aside."""
    wanted = more_mb + SPARE_MB
    if disk.free_mb(visitor.folder, wanted) < wanted:
        raise UserError("room on the disk is needed", "it is full", "Try again later, or delete what you do not need.")
    most = settings.disk_mb - more_mb
    if settings.disk_mb and (used := disk.kept_mb(visitor.folder, most)) > most:
        raise UserError(
            f"at most {settings.disk_mb:,} MB may be kept here",
            f"you use {used:,.0f} MB and want {more_mb:,.0f} more", "Delete uploads or runs.",
        )  # fmt: skip


def left_for(settings: Settings, run: Run, wanted: float) -> float:
    """Return the bytes that may be brought into a visitor's run: their bucket holds whatever they put into it."""
    place, more_mb = run.folder.parents[1], wanted / 2**20  # the visitor's
    free = disk.free_mb(place, more_mb + SPARE_MB) - SPARE_MB
    return min(free, settings.disk_mb - disk.kept_mb(place, settings.disk_mb - more_mb)) * 2**20


def safe_name(name: str) -> str:
    """Return a file's name of letters, digits, `.`, `-` and `_` alone, not hidden, with its suffix in lower case."""
    plain = unicodedata.normalize("NFKC", name)
    stem, suffix = os.path.splitext(plain.replace("\\", "/").rpartition("/")[2])
    stem = re.sub(r"[^\w.-]+", "_", re.sub(r"[\x00-\x1f\x7f]", "", stem)).strip("._-")
    return (stem[:STEM] or f"upload-{secrets.token_hex(4)}") + suffix.lower()


def _shown(name: str) -> str:
    return repr("".join(character if character.isprintable() else "?" for character in name)[:STEM])


def _require_received(path: Path, settings: Settings) -> None:
    """Refuse what did not come in through an upload: on a Space, a path of this machine is nobody's to name."""
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError) as error:
        raise UserError(
            "an uploaded file is needed", f"{_shown(path.name)} is not there", "Upload it again."
        ) from error
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(received.folder()))
    if not stat.S_ISREG(mode) or (settings.space and not inside):
        raise UserError("an uploaded file is needed", f"{_shown(path.name)} is none", "Upload the file itself.")


def _take(path: Path, copy: Path, visitor: Visitor, settings: Settings) -> None:
    size = path.stat().st_size / 2**20
    if settings.upload_mb and size > settings.upload_mb:
        raise UserError(
            f"a file of at most {settings.upload_mb:,} MB is needed", f"it has {size:,.0f} MB",
            "Keep fewer rows, or put it on the Hub and name it.",
        )  # fmt: skip
    require_room(visitor, settings, size)
    with (
        open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW)) as source,
        open(copy, "xb") as out,
    ):
        shutil.copyfileobj(source, out, BLOCK)


def _inspect(copy: Path, suffix: str, visitor: Visitor, settings: Settings) -> dict[str, Any]:
    limits = {
        "unpacked": settings.unpacked_mb * 2**20 or NO_LIMIT,
        "pixels": settings.picture_megapixels * 10**6 or NO_LIMIT,
        "columns": settings.columns or NO_LIMIT,
    }
    asked = json.dumps({"path": str(copy), "suffix": suffix, "limits": limits, "later": settings.later})
    environment = visitors.environment(visitor, settings) | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    environment.pop("HF_TOKEN", None)
    try:
        with _INSPECTING:
            done = subprocess.run(
                [sys.executable, "-m", "hftransfer.ui.inspection", asked], env=environment, cwd=copy.parent,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", errors="replace",
                timeout=SECONDS,
            )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise UserError(
            "a file that can be read is needed", f"{copy.name} took too long, too much memory, or broke its reader",
            "Is it damaged? Write it again.",
        ) from error  # fmt: skip
    if "refused" in answer:
        raise UserError(*answer["refused"])
    found: dict[str, Any] = answer["found"]
    return found


def _reserved(target: Path) -> Path:
    """Make an empty file where there is none, at `target` or at a number behind it."""
    number, found = 1, target
    while True:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(found, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return found
        number += 1
        found = target.with_name(f"{target.stem}-{number}{target.suffix}")
