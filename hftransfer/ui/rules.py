"""What a visitor may name in a configuration: own files, samples and the Hub; on a Space, nothing that runs code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.config import RunConfig
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor


def read(text: str) -> dict[str, Any]:
    """Read pasted YAML or JSON into a tree; UserError when it is too large, deep or repeats itself by aliases."""
    raise NotImplementedError


def admit(visitor: Visitor, tree: Mapping[str, Any], settings: Settings) -> RunConfig:
    """Build the configuration and refuse whatever this visitor may not use; ConfigError lists all problems at once."""
    raise NotImplementedError


def place(visitor: Visitor, where: str, settings: Settings) -> str:
    """Return a model's place (a run's name, own artifact folder, sample:NAME, Hub id) as the worker takes it."""
    raise NotImplementedError
