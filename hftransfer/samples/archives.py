"""The files inside a wheel, a tar or a Debian package, by name or one after another."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path


class Archive:
    """An archive on the disk, or a plain file whose `path` is all that is wanted."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path = path
        self._bytes = content  # of a tar inside another archive

    def read(self, name: str) -> bytes:
        """Return the content of one member; KeyError when there is none of that name."""
        if self.path.suffix == ".whl":
            with zipfile.ZipFile(self.path) as wheel:
                return wheel.read(name)
        with self._tar() as tar:
            return _content(tar, name)

    def files(self, prefix: str = "", suffix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the members whose names begin and end so, in the archive's order."""
        if self.path.suffix == ".whl":
            with zipfile.ZipFile(self.path) as wheel:
                for name in wheel.namelist():
                    if name.startswith(prefix) and name.endswith(suffix) and not name.endswith("/"):
                        yield name, wheel.read(name)
            return
        with self._tar() as tar:
            for member in tar:  # by name instead would unpack a compressed tar once a file
                if member.isfile() and member.name.startswith(prefix) and member.name.endswith(suffix):
                    yield member.name, _content(tar, member)

    def inside(self, name: str) -> Archive:
        """Return the tar that is a member."""
        return Archive(Path(name), self.read(name))

    def _tar(self) -> tarfile.TarFile:
        if self._bytes is not None:
            return tarfile.open(fileobj=io.BytesIO(self._bytes))
        if self.path.suffix == ".deb":
            return tarfile.open(fileobj=io.BytesIO(_debian_data(self.path.read_bytes())))
        return tarfile.open(self.path)


def _content(tar: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is no file")
    return file.read()


def _debian_data(package: bytes) -> bytes:
    """Return data.tar.* of a Debian package, an ar archive: deb(5)."""
    at = len(b"!<arch>\n")
    while at < len(package):
        name, size = package[at : at + 16].decode().strip().rstrip("/"), int(package[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return package[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise KeyError("data.tar")
