"""Zip files, unpacked once into a folder of ours; nothing in them can land outside it or fill the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

import datasets

from hftransfer.errors import UserError
from hftransfer.safety.unpacking import require_safe


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
            require_safe(path, archive, shutil.disk_usage(temporary).free)
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
