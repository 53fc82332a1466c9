"""A folder of pictures and their masks, as a source: a row a picture."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from datasets import Dataset, Features, Image

from hftransfer.config import DataConfig
from hftransfer.data import pairs
from hftransfer.data.layout import lay_out
from hftransfer.data.named_splits import Source
from hftransfer.data.suffixes import BUILDERS
from hftransfer.data.tables import Rows
from hftransfer.data.tree import Left, Parts, Tree, sort_out, unread, walk
from hftransfer.safety.pictures import SUFFIXES

FEW = 256  # values that a mask may have
COLUMNS = ("image", "mask")


def open_pairs(
    tree: Tree, files: Sequence[Parts], others: Sequence[Left], named: Collection[str], config: DataConfig
) -> Source | None:
    """Return the pictures of a folder with their masks; None where they have none, or a table tells of them."""
    if any(Path(parts[-1]).stem == "metadata" and Path(parts[-1]).suffix in BUILDERS for parts in tree.files):
        return None
    found = pairs.pair(tree, files, _of_few_values)
    if found is None:
        return None
    photos = [parts for parts in files if parts not in set(found.mask_of.values()) | {one for one, _ in found.left}]
    laid = lay_out(photos, None, named, "pictures", classes=False)
    split_of = found.split_of or {parts: name for name, held in laid.splits.items() for parts in held}
    splits: dict[str, Rows] = {}
    features = Features(dict.fromkeys(COLUMNS, Image()))
    for name in sorted(set(split_of.values())):
        held = [parts for parts in photos if split_of.get(parts) == name]
        masks = [found.mask_of.get(parts) for parts in held]
        rows = Dataset.from_dict(
            {"image": [str(tree.path(parts)) for parts in held],
             "mask": [None if parts is None else str(tree.path(parts)) for parts in masks]},
            features=features,
        )  # fmt: skip
        splits[name] = rows.to_iterable_dataset() if config.streaming else rows
    unlisted = [Left(parts, "in no list of a split") for parts in photos if parts not in split_of]
    told = [one for one in others if one.path[-1].rpartition(".")[2].lower() not in ("txt", "csv", "names")]
    left = unread(
        [*tree.left, *told, *laid.left, *unlisted, *(Left(*one) for one in found.left)],
        [*split_of, *found.mask_of.values()], laid.base,
    )  # fmt: skip
    guesses = (*tree.guesses(), *laid.guesses, *found.guesses)
    return Source(splits, tree.path(laid.base), tuple(left), guesses, asides=tuple(left), settings=found.settings)


def has_masks(folder: Path) -> bool:
    """Tell whether a folder holds pictures with their masks."""
    tree = walk(folder)
    return pairs.pair(tree, sort_out(tree, SUFFIXES)[0], _of_few_values) is not None


def _of_few_values(paths: Sequence[Path]) -> bool:
    """Tell whether most pictures hold few values, as masks do and photographs do not."""
    few = 0
    for path in paths:
        try:
            with PIL.Image.open(io.BytesIO(path.read_bytes())) as opened:
                pixels = np.asarray(opened if opened.mode in ("L", "P", "1") else opened.convert("RGB"))
        except (OSError, ValueError, SyntaxError):
            continue
        flat = pixels.reshape(-1, pixels.shape[-1]) if pixels.ndim == 3 else pixels.ravel()
        few += len(np.unique(flat, axis=0)) <= FEW // 2
    return 2 * few > len(paths)
