"""Zip files, unpacked once into a folder of ours; nothing in them can land outside it or fill the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

import datasets

from hftransfer.errors import UserError

MOST_BYTES = 200 * 2**30
MOST_RATIO = 200  # text packs about 10 to 1; what packs better than this is made to fill a disk
SMALL = 64 * 2**20  # below this no ratio does harm


def unpack(path: Path, work_dir: Path | None) -> Path:
    """Unpack a zip under `work_dir` (else under the datasets cache) and return the folder.

    Raises UserError for a file that is no zip, is encrypted, holds links or paths outside the folder, or unpacks to
    more than the disk holds or an honest archive would.
    """
    with open(path, "rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = scratch(work_dir) / "unpacked" / f"{path.stem}-{key}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(path) as archive:
            _check(path, archive, shutil.disk_usage(temporary).free)
            archive.extractall(temporary)
        try:
            os.replace(temporary, folder)  # whole or not at all
        except OSError:
            if not folder.is_dir():  # another process may have been first
                raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} must be a zip file", str(error), "Pack it again.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def scratch(work_dir: Path | None) -> Path:
    """Return the folder for files of ours: never one beside the user's data."""
    return work_dir if work_dir is not None else Path(datasets.config.HF_DATASETS_CACHE) / "hftransfer"


def _check(path: Path, archive: zipfile.ZipFile, free: int) -> None:
    wanted = f"{path} must unpack into one folder"
    total = packed = 0
    for entry in archive.infolist():
        name = entry.filename
        parts = PurePosixPath(name).parts + PureWindowsPath(name).parts
        if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
            raise UserError(wanted, f"its entry {name!r} leads outside it", "Do not trust this file; pack it again.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(wanted, f"its entry {name!r} is a link", "Pack it again with the files themselves.")
        if entry.flag_bits & 1:
            raise UserError(f"{path} must be readable", f"{name!r} is encrypted", "Pack it again without a password.")
        total += entry.file_size
        packed += entry.compress_size
    if total > MOST_BYTES or (total > SMALL and total > MOST_RATIO * max(packed, 1)):
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
