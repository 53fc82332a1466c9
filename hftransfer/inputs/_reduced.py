"""Smaller copies of pictures far larger than a model takes, for training: reading a photo costs more than its step."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

import PIL.Image
import PIL.ImageOps

from hftransfer.safety.pictures import unreadable

if TYPE_CHECKING:
    from hftransfer.safety.shelf import Shelf

PLAIN = {"RGB", "L", "CMYK", "YCbCr"}  # modes of 8 bits a colour without transparency
LOSSY = {"JPEG", "MPO"}  # a copy of such a file is one too; copies of others lose nothing
QUALITY = 95
FAR = 2  # times the copy's shorter side that a picture's must have


def copy_of(value: dict[str, Any], side: int, shelf: Shelf | None) -> Any:
    """Return a copy of an encoded picture whose shorter side has `side` pixels; None where it is not far larger.

    It is the way up that its camera noted. The same pixels come from the shelf as are made without one.
    """
    content = value["bytes"]
    try:
        key = f"{side} {_whose(value)}" if shelf is not None else ""
        found = shelf.get(key) if shelf is not None else None
        if found is not None:
            return _decoded(found)
        with PIL.Image.open(io.BytesIO(content) if content is not None else value["path"]) as opened:
            if min(opened.size) < FAR * side or opened.mode not in PLAIN or "transparency" in opened.info:
                return None
            found = _encoded(opened, side)
        if shelf is not None:
            shelf.put(key, found)
        return _decoded(found)
    except unreadable():  # it is read as any other, and what is wrong with it is said there
        return None


def _encoded(opened: Any, side: int) -> bytes:
    """Return an open picture as a file of such a copy."""
    lossy = opened.format in LOSSY
    opened.draft("RGB" if opened.mode != "L" else "L", (FAR * side, FAR * side))  # a JPEG is decoded small
    upright = PIL.ImageOps.exif_transpose(opened)
    upright = upright if upright.mode == "L" else upright.convert("RGB")
    scale = side / min(upright.size)
    size = (max(side, round(upright.width * scale)), max(side, round(upright.height * scale)))
    small, file = upright.resize(size, PIL.Image.Resampling.BICUBIC), io.BytesIO()
    if lossy:
        small.save(file, "JPEG", quality=QUALITY, subsampling=0)
    else:
        small.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _decoded(content: bytes) -> Any:
    picture = PIL.Image.open(io.BytesIO(content))
    picture.load()
    return picture


def _whose(value: dict[str, Any]) -> str:
    """Return what tells a picture from every other: its bytes, or its file as it is now."""
    if value["bytes"] is not None:
        return hashlib.blake2b(value["bytes"], digest_size=20).hexdigest()
    found = os.stat(value["path"])
    return f"{os.path.abspath(value['path'])} {found.st_size} {found.st_mtime_ns}"
