"""Looks at one recording that somebody uploaded, in the process that looks at uploads."""

from __future__ import annotations

from typing import Any

from hftransfer.errors import UserError
from hftransfer.inputs import _sounds
from hftransfer.ui.picture_inspection import ACTIVE

LONGEST = 3600.0  # seconds that are decoded for one answer


def require_recording(data: bytes, name: str) -> dict[str, Any]:
    """Return the length and rate of a recording; UserError where it is none, or lasts too long."""
    if data.lstrip()[:16].lower().startswith(ACTIVE):
        raise UserError(f"{name} must be a recording", "its content is a program or a page", "Save it as WAV or FLAC.")
    entry = {"bytes": data, "path": None}
    try:
        seconds = _sounds.seconds_of(entry)
        if seconds > LONGEST:
            raise UserError(f"a recording of at most {LONGEST:g} s is needed", f"{name} has {seconds:,.0f}", "Cut it.")
        sound, _ = _sounds.decoded(entry)
    except (_sounds.library().SoundFileError, OSError, ValueError) as error:
        raise UserError(f"{name} must be a recording", "it cannot be read", "Save it as WAV or FLAC.") from error
    return {"seconds": sound.seconds, "rate": sound.rate}
