"""Looks at one recording that somebody uploaded, in the process that looks at uploads."""

from __future__ import annotations

from typing import Any

from hftransfer.errors import UserError
from hftransfer.inputs import _sounds
from hftransfer.safety.pictures import ACTIVE

LONGEST = 3600.0  # seconds that are decoded for one answer


def require_recording(data: bytes, name: str) -> dict[str, Any]:
    """Return the length and rate of a recording; UserError where it is none, lasts too long, or nothing is heard."""
    if data.lstrip()[:16].lower().startswith(ACTIVE):
        raise UserError(f"{name} must be a recording", "its content is a program or a page", "Save it as WAV or FLAC.")
    entry = {"bytes": data, "path": None}
    try:
        seconds = _sounds.seconds_of(entry)
        if seconds > LONGEST:
            raise UserError(f"a recording of at most {LONGEST:g} s is needed", f"{name} has {seconds:,.0f}", "Cut it.")
        sound, heard = _sounds.decoded(entry)
    except (_sounds.library().SoundFileError, OSError, ValueError) as error:
        raise UserError(f"{name} must be a recording", "it cannot be read", "Save it as WAV or FLAC.") from error
    if sound.seconds < _sounds.SHORTEST:
        held = f"{name} lasts {1000 * sound.seconds:.0f} ms"
        raise UserError("a recording that lasts long enough to be heard is needed", held, "Record it again.")
    if heard.silent:
        raise UserError(
            "a recording with a sound in it is needed", f"{name} is silent from beginning to end",
            "Is the microphone muted? Record it again.",
        )  # fmt: skip
    return {"seconds": sound.seconds, "rate": sound.rate}
