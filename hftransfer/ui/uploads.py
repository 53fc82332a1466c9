"""Uploads: looked at in a process of their own with bounded memory and time, then moved under a safe name."""

from __future__ import annotations

from pathlib import Path

from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".zip")  # what a file input offers
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")  # what a prediction takes besides


def accept(visitor: Visitor, path: str | Path, settings: Settings, kinds: tuple[str, ...] = KINDS) -> Path:
    """Check an uploaded file and move it into the visitor's uploads; return where it is, UserError when refused."""
    raise NotImplementedError


def listing(visitor: Visitor) -> list[Path]:
    """Return the visitor's uploads, newest first."""
    raise NotImplementedError


def remove(visitor: Visitor, path: str | Path) -> None:
    """Delete one of the visitor's own uploads."""
    raise NotImplementedError
