"""Looks at one picture that somebody uploaded, in the process that looks at uploads."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from typing import Any

from hftransfer.errors import UserError
from hftransfer.inputs import _dicom  # PIL knows of DICOM from here on
from hftransfer.safety.pictures import ACTIVE, FORMATS, is_dicom


def require_picture(data: bytes, name: str, pixels: int, decode: bool) -> dict[str, Any]:
    """Return the size and format of a picture; UserError where it is none, does harm, or has more pixels."""
    from PIL import Image

    if data.lstrip()[:16].lower().startswith(ACTIVE):
        raise UserError(f"{name} must be a picture", "its content is a program or a page", "Save it as PNG or JPEG.")
    try:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
        Image.init()
        known = [name for name in FORMATS if name in Image.OPEN]  # MPO is opened by JPEG's own
        with Image.open(io.BytesIO(data), formats=known) as opened:
            width, height = opened.size
            if width * height > pixels:
                raise _too_many(name, width * height, pixels)
            if decode:
                opened.load()
            return {"width": width, "height": height, "format": opened.format}
    except _dicom.Unfit as error:
        raise UserError(f"{name} must be a picture", f"it is {error.reason}", error.action) from error
    except Image.DecompressionBombError as error:
        raise _too_many(name, None, pixels) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        zlib.error,
    ) as error:
        raise UserError(f"{name} must be a picture", " ".join(str(error).split())[:200], "Save it as PNG.") from error


def is_marked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, suffix: str) -> bool:
    """Tell whether an entry without a suffix, or with a number as one, is DICOM."""
    if suffix and not suffix[1:].isdigit():
        return False
    with archive.open(entry) as file:
        return is_dicom(file.read(132))


def _too_many(name: str, found: int | None, most: int) -> UserError:
    said = "it has more" if found is None else f"it has {found / 1e6:.0f}"
    return UserError(f"{name} may have up to {most / 1e6:.0f} megapixels", said, "Make it smaller.")
