"""Where the files of an installed package are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hftransfer.errors import UserError


def folder(module: str, package: str) -> Path:
    """Return a module's folder without importing it, which could take a second; UserError when it is not there."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"the package {package} is needed", "it is not installed", f"Run: pip install {package}")
    return Path(spec.origin).parent
