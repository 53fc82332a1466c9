"""Values of rows as a page shows them: texts cut, pictures small."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hftransfer.config import DataConfig
    from hftransfer.data import Data
    from hftransfer.tasks.base import Task


TEXT = 400  # characters shown of a text
SIDE = 160  # pixels of a thumbnail
HEARD = 10.0  # seconds of a recording
MANY = 16  # entries of a list within a value
LARGER = 320  # and of a picture with its heat map
DARK = 32  # a picture of bytes that are all below it looks black: they are numbers of classes, or it needs more light


def entry(value: Any, folder: Path | None = None, longest: int = TEXT) -> dict[str, Any]:
    """Return one value as the page can show it: text, number, image or empty; of a recording its name and length.

    Of a text that is longer than `longest` characters the beginning is shown.
    """
    import PIL.Image

    from hftransfer.inputs import _sounds

    if value is None or value == "":
        return {"form": "empty", "value": None}
    if isinstance(value, Mapping) and _sounds.holds(value):
        return sound_entry(value, folder)
    if isinstance(value, Mapping) and set(value) <= {"bytes", "path"} and value:
        return picture_entry(value, folder)
    if isinstance(value, bytes):
        return picture_entry({"bytes": value, "path": None}, folder)
    if isinstance(value, PIL.Image.Image):
        return {"form": "picture", "value": data_url(value)}
    if isinstance(value, bool | int | float):
        return {"form": "number", "value": value}
    if isinstance(value, list | tuple):
        several = any(isinstance(part, Mapping) for part in value)
        value = ("; " if several else " ").join(_plain(part) for part in value[:longest])
    text = _plain(value)
    return {"form": "text", "value": text if len(text) <= longest else text[: longest - 1] + "…"}


def _plain(value: Any) -> str:
    """Return a value in words; of one with names inside those that say something, each with what it holds."""
    if isinstance(value, Mapping):
        said = {name: part for name, part in value.items() if part not in (None, False, "", [])}
        return ", ".join(f"{name} {part}" for name, part in said.items() if not _long(part))
    return str(value)


def _long(part: Any) -> bool:
    """Tell whether a value is a list that says nothing to the eye: the runs of a mask."""
    return isinstance(part, list) and len(part) > MANY


def picture_entry(value: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return a thumbnail; nothing for what cannot be read, and never a file by its path alone from elsewhere."""
    from PIL import Image, ImageOps

    try:
        source = io.BytesIO(value["bytes"]) if value.get("bytes") else Path(folder or ".") / str(value["path"])
        with Image.open(source) as opened:
            opened.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded small
            return {"form": "picture", "value": data_url(ImageOps.exif_transpose(opened))}
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return {"form": "empty", "value": None}


def sound_entry(value: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the name and length of a recording, and in `sound` a data: URL of its beginning as a WAV file."""
    from hftransfer.inputs import _sounds

    placed = dict(value)
    if placed.get("bytes") is None:
        placed["path"] = str(Path(folder or ".") / str(value["path"]))
    try:
        sound, _ = _sounds.decoded(placed)
    except (_sounds.library().SoundFileError, OSError, ValueError):
        return {"form": "empty", "value": None}
    named = Path(value["path"]).name if value.get("path") else "a recording"
    begun = _sounds.Sound(sound.samples[: int(HEARD * sound.rate)], sound.rate)
    url = "data:audio/wav;base64," + base64.b64encode(_sounds.as_wav(begun, "PCM_16")).decode()
    return {"form": "text", "value": f"{named}, {sound.seconds:.1f} s", "sound": url}


def with_truth(found: Data, task: Task, section: DataConfig, count: int = 4) -> list[str]:
    """Return pictures of train with their truth drawn in, as data: URLs; none where truth lies in no picture."""
    answer, rows = found.answer, found.splits["train"]
    if not (answer.annotated or answer.outlined):
        return []
    (role,) = (one for one in task.shown if one.takes is not None)
    assert role.takes is not None
    section, shown = section.model_copy(update=found.settled), []
    for row in rows.select(range(min(count, len(rows)))):
        try:
            picture = role.takes.opened(row[role.name], section)
        except (OSError, ValueError, SyntaxError):  # of a file that went meanwhile
            continue
        drawn = answer.drawn(picture, row[task.truth.name], LARGER)
        shown += [] if drawn is None else [f"data:image/png;base64,{drawn}"]
    return shown


def data_url(picture: Any, side: int = SIDE) -> str:
    """Return a small PNG as a data: URL; one band that would look black is brightened to its whole range."""
    from hftransfer.inputs import _pixels

    if picture.mode == "L" and 0 < (most := picture.getextrema()[1]) < DARK:
        picture = picture.point([min(255, round(255 * value / most)) for value in range(256)])
    small = _pixels.own(picture)
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
