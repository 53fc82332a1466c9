"""A row of a table that holds nothing to ask with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unanswerable:
    """What such a row holds, and why that is nothing."""

    input: Any
    reason: str
