"""Masks as files hold them, a number or a colour a pixel; and as they are kept: a PNG with the class of each pixel."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import PIL.Image

from hftransfer.safety.pictures import unreadable

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 256  # values or colours of one mask: a PNG of bytes holds them
NOTHING = 255  # the byte of a pixel that is neither learned nor measured
AT_ONCE = 64  # masks that are decoded side by side
GREY, PALETTE, COLOUR = 0, 1, 2  # how a file says which class a pixel is of
WHOLE = {"1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N"}  # modes of PIL with one whole number a pixel
LOSSY = {"JPEG", "MPO"}
UNREADABLE = unreadable()
NO_MASK, NO_FILE, BROKEN = "no mask", "no mask of that name", "an unreadable mask"
MANY, SMEARED = "a mask of more than 256 values or colours", "a mask saved as JPEG"
CLEAR, FLOATS = "a mask with transparent parts", "a mask of broken numbers"
ORIENTATION = 0x0112  # EXIF's tag


class Look(NamedTuple):
    """What one mask holds: the place of each pixel's value in `values` as a PNG, and how often each value stands.

    `colours` are the values as 0xRRGGBB, -1 for numbers beyond 255. `reason`: why it cannot be used.
    """

    png: bytes | None
    values: Sequence[int] = ()
    colours: Sequence[int] = ()
    pixels: Sequence[int] = ()
    width: int = 0
    height: int = 0
    coding: int = GREY
    found: int = 0  # distinct values
    reason: str | None = None


def to_png(classes: np.ndarray) -> bytes:
    """Return numbers below 256 (h, w) as a grey PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(classes, np.uint8)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def of_png(png: bytes) -> np.ndarray:
    """Return the numbers (h, w), uint8, of what `to_png` gave."""
    with PIL.Image.open(io.BytesIO(png)) as opened:
        return np.asarray(opened)


def size_of(png: bytes) -> tuple[int, int]:
    """Return width and height of a PNG, by its header."""
    width, height = struct.unpack(">II", png[16:24])
    return int(width), int(height)


def over(values: Iterable[Any], take: Any) -> list[Any]:
    """Return what a function makes of each value; decoding lets other threads run."""
    return list(each(values, take))


def each(values: Iterable[Any], take: Any) -> Iterator[Any]:
    """Yield what a function makes of each value, few of which are in memory at a time."""
    left = iter(values)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while part := list(islice(left, AT_ONCE)):
            yield from pool.map(take, part)


def content_of(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file that a row holds, or names."""
    if value.get("bytes") is not None:
        return bytes(value["bytes"])
    path = str(value["path"])
    if "://" not in path:
        return Path(path).read_bytes()
    import fsspec

    with fsspec.open(path, "rb") as file:
        return bytes(file.read())


def look(value: Mapping[str, Any] | None) -> Look:
    """Decode one mask. A palette's PNG stays numbers: PIL's `convert` would make them colours or shades of grey."""
    if value is None or (value.get("bytes") is None and not value.get("path")):
        return Look(None, reason=NO_MASK)
    try:
        content = content_of(value)
        with PIL.Image.open(io.BytesIO(content)) as opened:
            opened.load()
            return _looked(opened)
    except FileNotFoundError:
        return Look(None, reason=NO_FILE)
    except UNREADABLE:
        return Look(None, reason=BROKEN)


def _looked(mask: PIL.Image.Image) -> Look:
    width, height = mask.size
    palette: np.ndarray | None = None
    if mask.mode in WHOLE:
        numbers, coding = np.asarray(mask).astype(np.int64), GREY
        if mask.mode == "P":
            coding = PALETTE
            held = np.array(mask.getpalette("RGB") or (), np.int64).reshape(-1, 3)
            palette = np.zeros((256, 3), np.int64)
            palette[: len(held)] = held
    elif mask.mode == "F":
        floats = np.asarray(mask, np.float64)
        if not (np.isfinite(floats).all() and (floats == np.rint(floats)).all()):
            return Look(None, width=width, height=height, reason=FLOATS)
        numbers, coding = floats.astype(np.int64), GREY
    else:
        if mask.mode in ("RGBA", "LA", "PA") and int(np.asarray(mask.getchannel("A")).min()) < 255:
            return Look(None, width=width, height=height, reason=CLEAR)
        parts = np.asarray(mask.convert("RGB"), np.int64)
        numbers, coding = code(parts), COLOUR
    values, places, pixels = np.unique(numbers, return_inverse=True, return_counts=True)
    if mask.format in LOSSY and len(values) > 2:
        return Look(None, width=width, height=height, coding=coding, found=len(values), reason=SMEARED)
    if len(values) > MOST:
        return Look(None, width=width, height=height, coding=coding, found=len(values), reason=MANY)
    png = to_png(places.reshape(height, width))
    if coding == COLOUR:
        colours = values
    elif palette is not None:
        colours = code(palette[values])
    else:
        colours = np.where((values >= 0) & (values < 256), values * 0x010101, -1)
    return Look(png, values.tolist(), colours.tolist(), pixels.tolist(), width, height, coding, len(values))


def code(parts: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) as one number each, 0xRRGGBB."""
    return np.asarray(parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2])


def written(colour: int) -> str:
    """Return a colour as people write it: #ff8000."""
    return f"#{colour:06x}"


def read_colour(text: str) -> int | None:
    """Return 0xRRGGBB of `#ff8000` or `255,128,0`; None for what is no colour."""
    plain = text.strip().removeprefix("#")
    try:
        if "," in plain:
            red, green, blue = (int(part) for part in plain.split(","))
            return red << 16 | green << 8 | blue if all(0 <= part < 256 for part in (red, green, blue)) else None
        return int(plain, 16) if len(plain) == 6 else None
    except ValueError:
        return None


def may_hold(feature: Any) -> bool:
    """Tell whether a column of this type can hold files of masks."""
    from datasets import Image

    from hftransfer.column_types import STRINGS, is_value

    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return isinstance(feature, Image) or is_value(feature, "binary", "large_binary", *STRINGS)


def entries(raw: pa.Array) -> list[dict[str, Any] | None]:
    """Return the files of a raw column, each {bytes} or {path}, None where there is none."""
    import pyarrow as pa

    if pa.types.is_struct(raw.type):
        found: list[dict[str, Any] | None] = raw.to_pylist()
        return found
    named = "bytes" if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type) else "path"
    return [None if one is None else {named: one} for one in raw.to_pylist()]


def other_sizes(sizes: Sequence[tuple[int, int] | None], inputs: Mapping[str, pa.ChunkedArray]) -> list[bool]:
    """Tell which masks, of `sizes` (width, height) as far as they are known, are of another than their picture."""
    pictures = over(next(iter(inputs.values())).to_pylist(), picture_size)
    return [one is not None and size is not None and one != size for one, size in zip(sizes, pictures, strict=True)]


def table_type() -> pa.DataType:
    """Return the type of a column of looks."""
    import pyarrow as pa

    numbers = pa.list_(pa.int64())
    return pa.struct([
        ("png", pa.binary()), ("values", numbers), ("colours", numbers), ("pixels", numbers), ("width", pa.int32()),
        ("height", pa.int32()), ("coding", pa.int8()), ("found", pa.int64()), ("reason", pa.string()),
    ])  # fmt: skip


def table(looks: Sequence[Look]) -> pa.Array:
    """Return looks as a column; null where a row has no mask at all."""
    import pyarrow as pa

    return pa.array([None if one.reason == NO_MASK else one._asdict() for one in looks], table_type())


def picture_size(value: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """Return width and height of an encoded picture the way up that it is shown; None where it cannot be told."""
    if value is None or (value.get("bytes") is None and not value.get("path")):
        return None
    try:
        held = value.get("bytes")
        local = held is None and "://" not in str(value["path"])
        source: Any = str(value["path"]) if local else io.BytesIO(content_of(value))
        with PIL.Image.open(source) as opened:
            width, height = opened.size
            turned = opened.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    except UNREADABLE:
        return None
    return (height, width) if turned else (width, height)


def resized(classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return numbers (h, w) at another size (width, height): each from the nearest place, none in between."""
    if classes.shape == size[::-1]:
        return classes
    return np.asarray(PIL.Image.fromarray(classes).resize(size, PIL.Image.Resampling.NEAREST))
