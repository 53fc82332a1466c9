"""What may be unpacked: a zip whose entries stay in one folder, hold no links, and do not grow out of proportion."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from hftransfer.errors import UserError

MOST_BYTES = 200 * 2**30
MOST_RATIO = 200  # text packs about 10 to 1; what packs better than this is made to fill a disk
SMALL = 64 * 2**20  # below this no ratio does harm


def require_safe(path: Path, archive: zipfile.ZipFile, free: int, most: int = MOST_BYTES) -> int:
    """Return the bytes that an archive unpacks to; UserError when it must not be unpacked.

    `free` is what the disk holds, `most` what anyone may unpack.
    """
    wanted = f"{path} must unpack into one folder"
    total = 0
    packed = path.stat().st_size  # not the sum of what its entries claim: they may share the same bytes
    for entry in archive.infolist():
        name = entry.filename
        if not name:  # zipfile itself breaks on it
            raise UserError(wanted, "one of its entries has no name", "It is damaged; pack it again.")
        parts = PurePosixPath(name).parts + PureWindowsPath(name).parts
        if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
            raise UserError(wanted, f"its entry {name!r} leads outside it", "Do not trust this file; pack it again.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(wanted, f"its entry {name!r} is a link", "Pack it again with the files themselves.")
        if entry.flag_bits & 1:
            raise UserError(f"{path} must be readable", f"{name!r} is encrypted", "Pack it again without a password.")
        total += entry.file_size
    if total > most or (total > SMALL and total > MOST_RATIO * max(packed, 1)):
        raise UserError(
            f"{path} must unpack to a size in proportion",
            f"{packed / 2**20:.1f} MB would become {total / 2**20:.0f} MB",
            "Do not trust this file; if it is yours, unpack it and name the folder.",
        )
    if total > free:
        raise UserError(
            f"{total / 2**20:.0f} MB are needed to unpack {path}",
            f"the disk has {free / 2**20:.0f} MB left",
            "Free some, or set HF_DATASETS_CACHE to another disk.",
        )
    return total


def require_places(name: str, archive: zipfile.ZipFile, most: int) -> None:
    """Raise UserError for more files and folders than `most`: each takes a place on the disk, and so does every
    folder on the way to one."""
    places: set[str] = set()
    for entry in archive.infolist():
        path = entry.filename.rstrip("/")
        while path and path not in places:
            places.add(path)
            path = path.rpartition("/")[0]
        if len(places) > most:
            raise UserError(f"{name} may hold {most:,} files and folders", "it holds more", "Upload fewer.")
