"""Masks whose numbers tell single things apart: each value but 0 is one of them, and all are of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hftransfer.answers import _found_masks, _mask_files
from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.config import DataConfig

THING = "object"  # the class of things that nobody named


def name_of(config: DataConfig) -> str:
    """Return the one class that things are of; UserError where several are named."""
    names = config.label_names or (THING,)
    if len(names) > 1:
        raise UserError(
            "one name is needed for numbers of single objects, which tell no classes",
            f"data.label_names has {len(names)}", "Name one, give outlines with their classes, or drop "
            "data.problem_type to learn the values as classes.",
        )  # fmt: skip
    return str(names[0])


def things(files: Sequence[Mapping[str, Any] | None], config: DataConfig) -> list[list[dict[str, Any]] | None]:
    """Return the things of each mask, None of one that cannot be read; UserError for more of them than a byte counts.

    0 is around them, and black where masks are coloured; `data.ignore_value` is no thing either.
    """
    name, aside = name_of(config), {0, config.ignore_value}
    found: list[list[dict[str, Any]] | None] = []
    crowded = 0
    for one in _mask_files.each(files, _mask_files.look):
        crowded += one.reason in (_mask_files.MANY, _mask_files.SMEARED)
        if one.png is None:
            found.append(None)
            continue
        numbers, drawn = _mask_files.of_png(one.png), one.colours if one.coding == _mask_files.COLOUR else one.values
        found.append([
            _found_masks.thing(numbers == place, name=name, crowd=False, difficult=False)
            for place, value in enumerate(drawn)
            if value not in aside
        ])  # fmt: skip
    if crowded:
        raise UserError(
            f"masks of up to {_mask_files.MOST - 1} single objects are needed",
            f"{crowded:,} have more, or were saved as JPEG, which changes values",
            "Cut the pictures, and their masks, into parts; save masks as PNG.",
        )  # fmt: skip
    return found
