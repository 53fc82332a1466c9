"""Sounds of any format, rate and number of channels as one channel of float32; their parts and random changes."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.config import Augmentation

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"})
# what phones and browsers record, and libsndfile does not read
OTHER_SUFFIXES = frozenset({".m4a", ".aac", ".mp4", ".webm", ".wma", ".amr", ".3gp", ".mka"})
CONVERT = "Convert it first: ffmpeg -i clip.m4a clip.flac"
FASTEST = 2**20  # samples a second: a header that claims more is none, and a filter for its rate fills the memory
SHORTEST = 0.025  # seconds: one frame of the recognisers' spectra and convolutions
FAINTEST = 2.0**-15  # of 1: one step of 16 bits; below is silence
SHORT_OF = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)  # in libsndfile's notes on a WAV file
UNKNOWN_SIZES = frozenset({0, 2**31 - 1, 2**32 - 1})  # what a program writes there that does not know the end yet
MARGIN = 15  # a part may end so much of a window earlier or later, where it is quiet
MOMENT = 0.1  # seconds over which it must be


class Sound(NamedTuple):
    """One channel, (n,) float32 around -1 to 1, and how many of its samples make a second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def at(self, rate: int) -> np.ndarray:
        """Return the samples (n,) float32 at another rate, by scipy's polyphase filter."""
        return resampled(self.samples, self.rate, rate)


@dataclass(frozen=True)
class Heard:
    """What was heard of recordings, besides whether they can be used: how many are how."""

    sounds: int = 0
    several: int = 0  # channels
    cut: int = 0  # end before their header says
    silent: int = 0
    rates: Mapping[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def and_(self, other: Heard) -> Heard:
        """Return what was heard of both."""
        rates = {rate: self.rates.get(rate, 0) + other.rates.get(rate, 0) for rate in {**self.rates, **other.rates}}
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in (found.name for found in dataclasses.fields(self) if found.name != "rates")
        }
        return Heard(**counts, rates=rates)


def library() -> Any:
    """Return soundfile; UserError where it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library is missing
        raise UserError(
            "recordings are read with the package soundfile", f"it cannot be imported ({error})",
            "Run: pip install 'hftransfer-learning[audio]'",
        ) from error  # fmt: skip
    return soundfile


def decoded(value: Mapping[str, Any]) -> tuple[Sound, Heard]:
    """Return a recording, or the part of it that `start` and `seconds` name, and what was heard of it.

    Raises soundfile's SoundFileError for content that it cannot read, OSError for a file that is not there, or whose
    rate is none.
    """
    with library().SoundFile(_opened(value)) as file:
        if file.samplerate > FASTEST:
            raise OSError(f"{file.samplerate:,} samples a second are no recording's")
        start, count = 0, -1
        if value.get("start") is not None:
            start = min(max(0, round(value["start"] * file.samplerate)), file.frames)
            file.seek(start)
        if value.get("seconds") is not None:
            count = max(0, round(value["seconds"] * file.samplerate))  # below 0, soundfile reads all
        promised = file.frames - start if count < 0 else min(count, file.frames - start)
        found = file.read(count, dtype="float32", always_2d=True)
        cut = len(found) < promised or _header_promises_more(file)
        several, rate = file.channels > 1, int(file.samplerate)
    samples = found[:, 0] if not several else found.mean(axis=1)
    silent = bool(len(samples)) and float(np.abs(samples).max()) < FAINTEST
    sound = Sound(np.ascontiguousarray(samples, np.float32), rate)
    return sound, Heard(1, int(several), int(cut), int(silent), {rate: 1}, sound.seconds)


def header(value: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many samples a recording has, and how many make a second, by its header."""
    with library().SoundFile(_opened(value)) as file:
        return int(file.frames), int(file.samplerate)


def seconds_of(value: Mapping[str, Any]) -> float:
    """Return how long a recording is, by its header."""
    with library().SoundFile(_opened(value)) as file:
        whole = file.frames / file.samplerate - (value.get("start") or 0.0)
    asked = value.get("seconds")
    return max(0.0, whole if asked is None else min(asked, whole))


def _opened(value: Mapping[str, Any]) -> Any:
    if value["bytes"] is not None:
        return io.BytesIO(value["bytes"])
    if "://" in value["path"]:
        return io.BytesIO(encoded(value))
    if not Path(value["path"]).is_file():
        raise FileNotFoundError(value["path"])
    return value["path"]


def encoded(value: Mapping[str, Any]) -> bytes:
    """Return the encoded bytes of a whole recording, read from its path when the row does not hold them."""
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    if "://" not in value["path"]:
        return Path(value["path"]).read_bytes()
    import fsspec

    with fsspec.open(value["path"], "rb") as file:
        return bytes(file.read())


def holds(value: Mapping[str, Any]) -> bool:
    """Tell whether a dict of `bytes` and `path` is a recording: by its parts, its name, or how it begins."""
    if not value or not set(value) <= {"bytes", "path", "start", "seconds"}:
        return False
    named = Path(value.get("path") or "").suffix.lower() in SUFFIXES
    return "start" in value or named or bytes(value.get("bytes") or b"")[:4] in (b"RIFF", b"fLaC", b"OggS")


def as_wav(sound: Sound, subtype: str = "FLOAT") -> bytes:
    """Return a sound as a WAV file; by default one that loses nothing of it."""
    buffer = io.BytesIO()
    library().write(buffer, sound.samples, sound.rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def _header_promises_more(file: Any) -> bool:
    found = SHORT_OF.search(file.extra_info)
    return found is not None and int(found[1]) not in UNKNOWN_SIZES and int(found[1]) > int(found[2])


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return samples (n,) of one rate at another, (ceil(n * wanted / rate),) float32."""
    if rate == wanted:
        return samples
    import scipy.signal

    shared = math.gcd(rate, wanted)
    return np.asarray(scipy.signal.resample_poly(samples, wanted // shared, rate // shared), np.float32)


# --- recordings that are longer than a model takes at once ---


def parts_of(seconds: float, window: float) -> int:
    """Return in how many parts of at most `window` seconds a recording is asked."""
    if seconds <= window:
        return 1
    return math.ceil(seconds / (window - 2 * window / MARGIN))


def part(sound: Sound, number: int, count: int, window: float) -> Sound:
    """Return one of `count` parts of a recording; they end where it is quietest near an equal share of the time."""
    if count == 1:
        return Sound(sound.samples[: int(window * sound.rate)], sound.rate)
    ends = [0, *(_quiet_near(sound, k * sound.seconds / count, window / MARGIN) for k in range(1, count))]
    ends.append(len(sound.samples))
    return Sound(sound.samples[ends[number] : ends[number + 1]], sound.rate)


def _quiet_near(sound: Sound, second: float, margin: float) -> int:
    first = max(0, int((second - margin) * sound.rate))
    some = np.abs(sound.samples[first : int((second + margin) * sound.rate)])
    width = max(1, min(int(MOMENT * sound.rate), len(some) // 4))
    if len(some) < 2 * width:
        return int(second * sound.rate)
    sums = np.concatenate([[0.0], np.cumsum(some, dtype=np.float64)])
    loudness = sums[width:] - sums[:-width]
    return first + int(np.argmin(loudness)) + width // 2


# --- random changes ---


def augmented(sound: Sound, augmentation: Augmentation, rng: np.random.Generator) -> Sound:
    """Make a sound louder or softer, add noise, and silence a stretch of it, at random."""
    # every draw is made whatever is switched on, so that turning one change off leaves the others as they were
    loudness, noisy, share, place = rng.random(4)
    hiss = rng.standard_normal(len(sound.samples), dtype=np.float32)
    samples = sound.samples * np.float32(10 ** ((2 * loudness - 1) * augmentation.gain / 20))
    if augmentation.noise and len(samples):
        effective = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
        samples = samples + np.float32(noisy * augmentation.noise * effective) * hiss
    if augmentation.time_mask:
        width = int(share * augmentation.time_mask * len(samples))
        first = int(place * (len(samples) - width + 1))
        samples = np.array(samples, np.float32)
        samples[first : first + width] = 0.0
    return Sound(np.asarray(samples, np.float32), sound.rate)
