"""Whether files hold the bytes that they should: those of checkpoints by sums of ours, those of the Hub by its own.

Files of the Hub's cache are compared with the hashes that they are called by: its client compares their lengths alone.

Where the cache keeps no links (a disk that knows none), or whoever serves the files calls them otherwise, nothing can
be compared, and nothing is said.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hftransfer.errors import UserError

HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # of git for small files, SHA-256 for large ones
RECORD = "intact"  # in the cache of hftransfer


def sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the checksum (XXH3, 128 bits, hex) of each of a folder's files: it tells of damage, not of forgery."""
    import xxhash  # 20 times as fast as SHA-256, and not needed by `--help`

    found = {}
    for name in names:
        one = xxhash.xxh3_128()
        with open(folder / name, "rb") as file:
            while piece := file.read(1 << 20):
                one.update(piece)
        found[name] = one.hexdigest()
    return found


def require(folder: Path, name: str, record: Path) -> None:
    """Raise UserError when a file of a snapshot has other bytes than its repo's; it is then taken out of the cache.

    `record` is a folder that remembers which files were found good, by their inode, size and time: each is read once.
    """
    bad = [path for path in _links(folder) if not _is_good(path, record)]
    if not bad:
        return
    for path in bad:
        with contextlib.suppress(OSError):
            (path.parent / os.readlink(path)).unlink()
            path.unlink()
    names = ", ".join(path.relative_to(folder).as_posix() for path in bad[:3]) + (", ..." if len(bad) > 3 else "")
    raise UserError(
        f"{name} must be here as the Hub has it", f"{names} came with other bytes, or changed on this disk",
        "It was taken out of the cache, so that it is fetched again: try again.",
    )  # fmt: skip


def snapshot(repo: str, kind: str, revision: str | None) -> Path:
    """Return where the cache keeps a commit, branch or tag of a repo; the folder may not be there.

    A name that no repo can have, such as the path of a folder that is missing, has no such folder either.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name

    try:
        place = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)
    except HFValidationError:
        return Path(HF_HUB_CACHE) / "none"
    wanted = revision or "main"
    if ".." in Path(wanted).parts or Path(wanted).is_absolute():
        return place / "snapshots" / "none"
    with contextlib.suppress(OSError, ValueError):
        wanted = (place / "refs" / wanted).read_text(encoding="utf-8").strip()
    return place / "snapshots" / wanted


def _links(folder: Path) -> Iterator[Path]:
    """Yield the files of a snapshot that are links to what is called by its hash."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink():
            target = Path(os.readlink(path))
            if target.parent.name == "blobs" and HASH.fullmatch(target.name) and path.is_file():
                yield path


def _is_good(path: Path, record: Path) -> bool:
    name = Path(os.readlink(path)).name
    found = path.stat()
    key = f"{name}-{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
    note = record / hashlib.sha256(key.encode()).hexdigest()
    with contextlib.suppress(OSError):
        if note.exists():
            return True
    if name not in _hashes(path, found.st_size, len(name)):
        return False
    with contextlib.suppress(OSError):  # a cache that cannot be written to: it is looked at again next time
        record.mkdir(parents=True, exist_ok=True)
        note.touch()
    return True


def _hashes(path: Path, size: int, length: int) -> set[str]:
    """Return what a file may be called by: by SHA-256 where it is large, else by git or a mirror."""
    with open(path, "rb") as file:
        if length == 64:
            return {hashlib.file_digest(file, "sha256").hexdigest()}
        git, plain = (hashlib.sha1(start, usedforsecurity=False) for start in (b"blob %d\0" % size, b""))
        while piece := file.read(2**20):
            git.update(piece)
            plain.update(piece)
    return {git.hexdigest(), plain.hexdigest()}
