"""audio: a recording, read by soundfile as one channel of float32 at the rate that a model takes."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError
from hftransfer.inputs import _near_sounds, _sounds
from hftransfer.inputs._sounds import CONVERT, OTHER_SUFFIXES, SHORTEST, SUFFIXES, Heard, Sound
from hftransfer.inputs.base import Alike, Input, Looked

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig

LOUDEST = 16.0  # of floats: above are whole numbers that were not divided
DECODE_BATCH = 256  # recordings in memory at a time
# a part of a file, as manifests name it: `start` and `seconds` are null for a whole one
FIELDS = {"bytes": "binary", "path": "string", "start": "float64", "seconds": "float64"}


class Audio(Input):
    """An encoded recording, its path, or samples with their rate."""

    kind = "audio"
    heeds = frozenset({"augmentation", "max_seconds"})
    needs = "audio"
    words = ("sound", "sounds")
    widget = "recording"
    example = '"recording.wav"'
    asked = "a recording"
    lazy = True
    suffixes = SUFFIXES
    buffer = 1_000  # an encoded recording is some hundred kB
    preview = 2_000
    identifies = True  # `file` and `path` are what columns of recordings are called

    def fits(self, feature: Any, values: Sequence[Any]) -> bool:
        return is_audio(feature) or (is_value(feature, *STRINGS) and _are_names(values))

    def can_be(self, feature: Any, values: Sequence[Any]) -> bool:
        return is_audio(feature) or is_value(feature, *STRINGS)

    def feature(self) -> Any:
        # not `datasets.Audio`, which needs torchcodec even to write down a path, and knows no part of a file
        from datasets import Value

        return {name: Value(dtype) for name, dtype in FIELDS.items()}

    def canonical(self, raw: pa.ChunkedArray, required: bool, folder: Path | None) -> pa.ChunkedArray:
        import pyarrow as pa

        base = str(folder or Path.cwd())
        numbers = [("start", pa.float64()), ("seconds", pa.float64())]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string()), *numbers])
        rows = [None if value is None else _placed(_entry(value), base) for value in raw.to_pylist()]
        return pa.chunked_array([pa.array(rows, kind)], kind)

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        found = list(_listen(column))
        reasons = dict.fromkeys(one.reason for one in found if one.reason)
        unusable = tuple((reason, [one.reason == reason for one in found]) for reason in reasons)
        empty = np.zeros(_near_sounds.WIDTH, np.float32)
        sketches = [empty if one.sketch is None else one.sketch for one in found]
        return Looked(
            [one.digest for one in found],
            np.stack(sketches) if sketches else np.empty((0, _near_sounds.WIDTH), np.float32),
            unusable,
            functools.reduce(Heard.and_, (one.heard for one in found), Heard()),
        )

    def learn(self, seen: Mapping[str, Any], config: DataConfig) -> tuple[dict[str, Any], list[str]]:
        said = []
        for use, found in seen.items():
            of = f"of {found.sounds:,} recordings"
            if found.several:
                said.append(f"{use}: {found.several:,} {of} have several channels: their mean is heard")
            if found.cut:
                said.append(f"{use}: {found.cut:,} {of} end before their header says: what is there is heard")
            if found.silent:
                said.append(f"{use}: {found.silent:,} {of} are silent from beginning to end")
            if len(found.rates) > 1:
                rates = ", ".join(f"{rate:,} Hz ({count:,})" for rate, count in sorted(found.rates.items()))
                said.append(f"{use}: recordings are of several rates, all made one: {rates}")
        return {}, said

    def near(self, sketches: np.ndarray, owner: np.ndarray, alike: Alike) -> np.ndarray | None:
        return _near_sounds.pairs(sketches)

    # --- values ---

    def content(self, values: list[Any]) -> list[Any]:
        return [
            [hashlib.sha256(_sounds.encoded(value)).hexdigest(), value["start"], value["seconds"]] for value in values
        ]

    def embedded(self, values: list[Any]) -> list[Any]:
        return [_carried(value) for value in values]

    def seconds(self, value: Any) -> float:
        return _sounds.seconds_of(value)

    def parts(self, seconds: float, window: float) -> int:
        return _sounds.parts_of(seconds, window)

    def part(self, opened: Any, number: int, count: int, window: float) -> Any:
        return _sounds.part(opened, number, count, window)

    def read(self, value: Any) -> Any:
        entry = _entry(_given(value))
        if entry is None:
            found = f"found {_kind(value)}"
            raise UserError("a recording is needed", found, "Give a path, or samples and their rate.")
        name = os.fspath(entry["path"]) if entry["path"] else "the recording"
        if entry["bytes"] is None and not Path(name).is_file():
            raise UserError("a recording is needed", f"there is no file {name!r}", "Check the path.")
        reason = _heard(entry).reason
        if reason is not None:
            raise UserError(
                "a recording that can be heard is needed", f"{name} holds {reason}",
                CONVERT if Path(name).suffix.lower() in OTHER_SUFFIXES else "Give a WAV, FLAC, MP3 or OGG file.",
            )  # fmt: skip
        return entry

    def offered(self, feature: Any) -> bool:
        return is_value(feature, *STRINGS) or is_audio(feature)

    def cells(self, rows: Any, column: str, path: Path) -> list[Any]:
        table = rows.select_columns([column]).with_format("arrow")[:]
        entries = [None if value is None else _entry(value) for value in table[column].to_pylist()]
        return [None if entry is None else _placed(entry, str(path.parent)) for entry in entries]

    def entry(self, value: Any, folder: Path | None) -> dict[str, Any] | None:
        """Return a recording as a row holds it, its path from a folder made whole; None for what is none."""
        found = _entry(value)
        return found if folder is None else _placed(found, str(folder))

    def opened(self, value: Any, config: DataConfig, rng: np.random.Generator | None = None) -> Any:
        sound, _ = _sounds.decoded(value)
        changed = rng is not None and config.augmentation is not None
        return _sounds.augmented(sound, config.augmentation, rng) if changed else sound  # type: ignore[arg-type]

    def stored(self, value: Any) -> Any:
        return value

    def shown(self, value: Any) -> str:
        return self.file(value) or ""

    def file(self, value: Any) -> str | None:
        return Path(value["path"]).name if value and value["path"] else None


def is_audio(feature: Any) -> bool:
    """Tell whether a column holds recordings, or their encoded bytes."""
    import datasets

    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {*FIELDS, "sampling_rate"}
    return isinstance(feature, datasets.Audio) or is_value(feature, "binary", "large_binary")


def _are_names(values: Sequence[Any]) -> bool:
    found = [value for value in values[:20] if value]
    known = SUFFIXES | OTHER_SUFFIXES
    return bool(found) and all(Path(str(value)).suffix.lower() in known for value in found)


def _entry(value: Any) -> dict[str, Any] | None:
    """Return a path, bytes or a dict of them as a row holds a recording; None for what is none."""
    if isinstance(value, str | os.PathLike):
        value = {"path": os.fspath(value)}
    if isinstance(value, bytes):
        value = {"bytes": value}
    if not isinstance(value, Mapping) or (value.get("bytes") is None and value.get("path") is None):
        return None
    return {name: value.get(name) for name in FIELDS}


def _given(value: Any) -> Any:
    """Return samples with their rate, in any of the forms that people have them in, as an encoded recording."""
    array = rate = None
    if isinstance(value, Mapping) and "sampling_rate" in value:
        array, rate = value.get("array", value.get("raw")), value["sampling_rate"]
    elif isinstance(value, tuple) and len(value) == 2:
        rate, array = sorted(value, key=lambda part: not isinstance(part, Integral))
    if array is None or not isinstance(rate, Integral):
        return value
    samples = _floats(np.asarray(array))
    if samples.ndim == 2:  # (n, channels), or (channels, n)
        samples = samples.mean(axis=1 if samples.shape[0] > samples.shape[1] else 0)
    return {"bytes": _sounds.as_wav(Sound(np.asarray(samples, np.float32), int(rate)))}


def _floats(samples: np.ndarray) -> np.ndarray:
    """Return samples of any type around -1 to 1; UserError for floats that are none of these.

    Numbers of 64 bits are no samples' own type, but what a list of Python's becomes: 16 bits where they fit, else 32.
    """
    if samples.dtype.kind == "f":
        most = float(np.nanmax(np.abs(samples), initial=0.0))
        if LOUDEST < most < np.inf:
            raise UserError(
                "samples around -1 to 1 are needed", f"the largest of these is {most:g}",
                "Divide those that were made of 16 bits by 32768.",
            )  # fmt: skip
        return samples
    if samples.dtype.kind == "u":  # silence is in the middle
        middle = 2.0 ** (8 * samples.dtype.itemsize - 1)
        return (samples - middle) / middle
    if samples.dtype.kind != "i":
        raise UserError("samples as numbers are needed", f"these are {samples.dtype}", "Give numbers around -1 to 1.")
    bits = 8 * samples.dtype.itemsize
    if bits == 64:
        bits = 16 if int(np.abs(samples).max(initial=0)) <= 2**15 else 32
    return samples / 2.0 ** (bits - 1)


def _placed(entry: dict[str, Any] | None, folder: str) -> dict[str, Any] | None:
    """Return a row's recording with its path made whole."""
    if entry is None or entry["bytes"] is not None or "://" in entry["path"]:
        return entry
    return {**entry, "path": os.path.join(folder, entry["path"])}


def _carried(value: dict[str, Any]) -> dict[str, Any]:
    """Return a recording that holds its own bytes, those of its part alone where it is a part of a file."""
    if value["start"] is None and value["seconds"] is None:
        return {**value, "bytes": _sounds.encoded(value)}
    sound, _ = _sounds.decoded(value)
    name = Path(value["path"]).stem if value["path"] else "recording"
    return {"bytes": _sounds.as_wav(sound), "path": f"{name}.wav", "start": None, "seconds": None}


def _kind(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float) or value is None else f"a {type(value).__name__}"


class Listened(NamedTuple):
    """A recording that was decoded: why it cannot be used, its samples' hash, a sketch of it, and what was heard."""

    reason: str | None
    digest: bytes = b""
    sketch: np.ndarray | None = None
    heard: Heard = Heard()


def _listen(column: pa.ChunkedArray) -> Iterator[Listened]:
    """Decode every recording once, as training will."""
    _sounds.library()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(column), DECODE_BATCH):
            yield from pool.map(_heard, column.slice(start, DECODE_BATCH).to_pylist())


def _heard(value: dict[str, Any] | None) -> Listened:
    if value is None or (value["bytes"] is None and value["path"] is None):
        return Listened("no sound")
    try:
        sound, heard = _sounds.decoded(value)
    except FileNotFoundError:
        return Listened(f"no recording of that name in {Path(value['path']).parent.name or 'the folder'}")
    except (_sounds.library().SoundFileError, OSError, ValueError):
        suffix = Path(value["path"] or "").suffix.lower()
        held = f" (soundfile reads no {suffix}: {CONVERT[0].lower()}{CONVERT[1:]})" if suffix in OTHER_SUFFIXES else ""
        return Listened(f"an unreadable sound{held}")
    if not len(sound.samples):
        return Listened("no sound")
    if not np.isfinite(sound.samples).all():
        return Listened("a sound that is not made of numbers")
    if sound.seconds < SHORTEST:
        return Listened(f"a sound shorter than a frame ({1000 * SHORTEST:g} ms)")
    steps = np.round(np.clip(sound.samples, -1, 1) * 32767).astype("<i2")
    digest = hashlib.blake2b(steps.tobytes(), digest_size=16, salt=b"%d" % sound.rate).digest()
    return Listened(None, digest, _near_sounds.sketch(sound), heard)


AUDIO = INPUT = Audio()
