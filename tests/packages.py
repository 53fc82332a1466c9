"""Small archives as the registries serve them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def tar(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    """Write a tar, as npm and PyPI's sdists are."""
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def wheel(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """Write a wheel."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def debian(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a Debian package: an ar archive whose odd members are padded."""
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        "data.tar.xz": tar(path.with_suffix(".xz"), members, "w:xz").read_bytes(),
    }
    ar = b"!<arch>\n"
    for name, content in parts.items():
        ar += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    path.write_bytes(ar)
    return path
