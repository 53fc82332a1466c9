"""Rows from any source, in canonical columns, split, checked and fingerprinted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hftransfer.data.inputs import read_inputs
    from hftransfer.data.loading import Data, load
    from hftransfer.data.unanswerable import Unanswerable

__all__ = ["Data", "Unanswerable", "load", "read_inputs"]

_LAZY = {  # `datasets` takes as long to import as a small model takes to answer
    "Data": "hftransfer.data.loading",
    "Unanswerable": "hftransfer.data.unanswerable",
    "load": "hftransfer.data.loading",
    "read_inputs": "hftransfer.data.inputs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
