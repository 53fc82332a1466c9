"""What readers of files have in common: what the user said of a file, and what a look at one found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from datasets import Features

from hftransfer.config import DataConfig
from hftransfer.errors import UserError

ROWS = 10_000  # of a table that readers yield


@dataclass(frozen=True)
class Settings:
    """What the user said of the form of files; None: to be found out."""

    encoding: str | None = None
    delimiter: str | None = None
    quoting: Literal["double", "backslash", "none"] | None = None
    header: bool | tuple[str, ...] | None = None
    key: str | None = None
    name: str | None = None
    settable: bool = False  # whether there is a configuration in which more could be said

    @staticmethod
    def of(config: DataConfig) -> Settings:
        """Return the settings of a configuration."""
        return Settings(
            config.encoding, config.delimiter, config.quoting, config.header, config.key, config.name, settable=True
        )

    def advice(self, setting: str, otherwise: str) -> str:
        """Say what to do: set something, where that can be, or change the file."""
        return f"Set {setting}, or {otherwise}." if self.settable else f"{otherwise[0].upper()}{otherwise[1:]}."


class Form(ABC):
    """How one file is read, after a look at it; it is pickled into processes that read streams."""

    path: Path
    features: Features
    guesses: tuple[str, ...]
    warnings: tuple[str, ...]

    @abstractmethod
    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in parts, with the columns and types of `features`."""


def empty(path: Path) -> UserError:
    """Build the error for a file without rows."""
    return UserError("rows are needed", f"{path} is empty", "Check data.source.")
