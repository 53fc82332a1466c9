"""Which formats of pictures are opened, by their suffixes: those that Pillow reads with code of its own, and DICOM."""

from __future__ import annotations

import os
import re
from pathlib import Path

# not EPS and WMF, which start a program or ask Windows; nor what Pillow knows and cannot read: PDF, MPEG, HDF5, ...
FORMATS: dict[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "ICO": (".ico",),
    "CUR": (".cur",),
    "ICNS": (".icns",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "PCX": (".pcx",),
    "DCX": (".dcx",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "DDS": (".dds",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "IM": (".im",),
    "MSP": (".msp",),
    "FITS": (".fit", ".fits"),
    "FLI": (".fli", ".flc"),
    "FTEX": (".ftc", ".ftu"),
    "BLP": (".blp",),
    "GBR": (".gbr",),
    "PCD": (".pcd",),
    "PIXAR": (".pxr",),
    "DICOM": (".dcm", ".dicom", ".ima"),  # by pydicom, where that is installed: hftransfer.inputs._dicom
}
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
DICOM = FORMATS["DICOM"]
HEAD = re.compile(rb"DICM\x02\x00..[A-Z]{2}", re.DOTALL)  # the mark of DICOM and the first tag behind it
LONGEST = 10  # bytes of it
BLOCK = 2**22  # bytes of a file that are looked at together
ACTIVE = (b"%!ps", b"<!doctype", b"<html", b"<svg", b"<?xml", b"<script")  # what a picture or table never begins with
VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh")  # no pictures: refused by name
COMMON = tuple(
    suffix for name in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "DICOM") for suffix in FORMATS[name]
)


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return a file's suffix in small letters; of one that has none, or a number, that of DICOM where it is so.

    Scanners name files after their place in a series, or after a long number with points in it.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix and not suffix[1:].isdigit():
        return suffix
    try:
        with open(path, "rb") as file:
            return DICOM[0] if is_dicom(file.read(132)) else suffix
    except OSError:
        return suffix


def is_dicom(head: bytes) -> bool:
    """Tell whether a file that begins with these bytes (132 or more) is DICOM, by its mark."""
    return head[128:132] == b"DICM"


def holds_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, or holds one whole, as a table does whose cells are not compressed."""
    with open(path, "rb") as file:
        before = file.read(BLOCK)
        if is_dicom(before) or path.suffix.lower() in DICOM:
            return True
        while before:
            after = file.read(BLOCK)
            if HEAD.search(before + after[:LONGEST]):
                return True
            before = after
    return False


def unreadable() -> tuple[type[Exception], ...]:
    """Return what Pillow's decoders raise on damaged files.

    A list, so that a mistake of ours (AttributeError, NameError) still shows.
    """
    import struct
    import zlib

    from PIL.Image import DecompressionBombError

    return (
        OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError,
        NotImplementedError, struct.error, zlib.error, DecompressionBombError,
    )  # fmt: skip
