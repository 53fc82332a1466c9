"""The Xet lane: hf_xet's own `local://` storage, one folder for each token, read back through hf_xet.

The released client locks the database of the folder it stores in until its process ends, so no folder is ever shared:
each write token names a new one that knows the chunks of all earlier ones, and each read token names a copy.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hub_server.store import Repo

HEADER = 48  # bytes of a shard's header, and of each record after it
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30
LIFE = 3600


class Xet:
    """Hands out tokens for folders below its own, and finds there what the clients have stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        self._sessions: list[tuple[Path, str]] = []  # a folder, and the key of the repo that its token was for
        self._hashes: dict[str, str] = {}  # sha256 -> xet hash
        self._readable: Path | None = None
        self._in_readable: set[str] = set()
        self._lock = asyncio.Lock()
        self._session: Any = None

    def write_token(self, repo: Repo) -> dict[str, Any]:
        folder = self._new("write")
        for earlier, _ in self._sessions:  # its shards tell the client which chunks need not be sent again
            _link(earlier / "xet" / "shard-cache", folder / "xet" / "shard-cache")
        self._sessions.append((folder, repo.key))
        return _token(folder)

    def stored_bytes(self) -> int:
        """Bytes of content that clients have put into storage."""
        return sum(path.stat().st_size for folder, _ in self._sessions for path in _xorbs(folder))

    async def fetch(self, repo: Repo, sha256: str, target: Path) -> int | None:
        """Bring a file that was stored with a token of this repo to `target`; None when there is none."""
        async with self._lock:
            for folder, key in reversed(self._sessions):
                found = _files(folder).get(sha256) if key == repo.key else None
                if found is not None:
                    self._hashes[sha256] = found[0]
                    await asyncio.to_thread(self._materialize, folder, *found, target)
                    return found[1]
        return None

    async def read_token(self, blobs: dict[str, Path]) -> dict[str, Any]:
        """A folder from which the client can read these files."""
        async with self._lock:
            missing = [path for sha256, path in blobs.items() if sha256 not in self._in_readable]
            if self._readable is None or missing:
                await asyncio.to_thread(self._store, missing)
                self._in_readable |= set(blobs)
            assert self._readable is not None
            folder = self._new("read")
            _copy(self._readable, folder)
        return _token(folder)

    def hash_of(self, sha256: str, path: Path) -> str:
        if sha256 not in self._hashes:
            import hf_xet

            self._hashes[sha256] = hf_xet.hash_files([str(path)])[0].hash
        return self._hashes[sha256]

    def close(self) -> None:
        """Let the storage that was opened here go."""
        self._session = None

    def _new(self, name: str) -> Path:
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir(parents=True)
        return folder

    def _materialize(self, folder: Path, xet_hash: str, size: int, target: Path) -> None:
        import hf_xet

        view = self._new("view")
        _copy(folder, view)
        for other, _ in self._sessions:  # a chunk that was there before is in the folder that first got it
            _link(other / "xet" / "xorbs" / "xorbs", view / "xet" / "xorbs" / "xorbs")
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        with hf_xet.XetSession().new_file_download_group(**_access(view)) as group:
            group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(temporary))
        temporary.replace(target)
        shutil.rmtree(view, ignore_errors=True)

    def _store(self, paths: list[Path]) -> None:
        import hf_xet

        self._readable = self._readable or self._new("readable")
        self._session = self._session or hf_xet.XetSession()
        with self._session.new_upload_commit(**_access(self._readable)) as commit:
            for path in paths:
                commit.start_upload_file(str(path), sha256=path.name)


def _token(folder: Path) -> dict[str, Any]:
    access = f"xet_{secrets.token_hex(16)}"
    return {"casUrl": f"local://{folder}", "accessToken": access, "exp": int(time.time()) + LIFE}


def _access(folder: Path) -> dict[str, Any]:
    token = _token(folder)
    return {
        "endpoint": token["casUrl"],
        "token": token["accessToken"],
        "token_expiry_unix_secs": token["exp"],
    }


def _copy(source: Path, target: Path) -> None:
    """Link what never changes; copy the database, which is locked where it is."""
    for name in ("xorbs", "shards"):
        _link(source / "xet" / "xorbs" / name, target / "xet" / "xorbs" / name)
    for path in (source / "xet" / "xorbs").glob("*.redb"):
        shutil.copyfile(path, target / "xet" / "xorbs" / path.name)


def _link(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*"):
        if path.is_file() and not (target / path.name).exists():
            os.link(path, target / path.name)


def _xorbs(folder: Path) -> Iterator[Path]:
    return (path for path in (folder / "xet" / "xorbs" / "xorbs").glob("*") if path.suffix != ".tagset")


def _files(folder: Path) -> dict[str, tuple[str, int]]:
    """The files that a folder's shards describe: sha256 -> xet hash and size."""
    found = {}
    for path in (folder / "xet" / "xorbs" / "shards").glob("*.mdb"):
        data, at = path.read_bytes(), HEADER
        while data[at : at + 32] != b"\xff" * 32:
            flags, count = struct.unpack_from("<II", data, at + 32)
            xet_hash, size = _hex(data[at : at + 32]), 0
            for _ in range(count):
                at += HEADER
                size += struct.unpack_from("<I", data, at + 36)[0]
            at += HEADER * (count if flags & WITH_VERIFICATION else 0)
            if flags & WITH_METADATA:
                at += HEADER
                found[_hex(data[at : at + 32])] = (xet_hash, size)
            at += HEADER
    return found


def _hex(raw: bytes) -> str:
    """Xet writes a hash as four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))
