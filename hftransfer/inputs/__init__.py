"""What a model is shown: one file a kind, each owning fit, reading, checks, prints, near copies and widget."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hftransfer.inputs.base import Input


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds: the files of this package are the list."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


def of(kind: str) -> Input:
    """Return the input of a kind."""
    found: Input = importlib.import_module(f"hftransfer.inputs.{kind}").INPUT
    return found
