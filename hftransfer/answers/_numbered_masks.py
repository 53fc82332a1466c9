"""Masks whose numbers tell single things apart: each value but 0 is one of them, and all are of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hftransfer.answers import _found_masks, _mask_files
from hftransfer.answers._mask_classes import USUAL_IGNORED
from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.config import DataConfig

FEW, OFTEN = 10, 3  # masks by which that can be told, and how often a value stands that is a class's
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


def said(config: DataConfig) -> str:
    """Return what is told of how such masks are read."""
    named = f"is a single object, and all are of one class: {name_of(config)} (data.label_names)"
    if config.ignore_value is not None:
        return f"each number of a mask but 0 {named}"
    return f"each number of a mask but 0, and but 255 beside 1, 2, 3 ... (data.ignore_value), {named}"


def _held(one: _mask_files.Look, ignored: int | None) -> dict[int, int]:
    """Return the value of each thing of a mask, by its place among the values."""
    coloured = one.coding == _mask_files.COLOUR
    found = {
        at: value for at, value in enumerate(one.colours if coloured else one.values) if value not in (0, ignored)
    }
    rest = sorted({*found.values()} - {USUAL_IGNORED})
    counts = bool(rest) and rest == [*range(1, len(rest) + 1)] and rest[-1] < USUAL_IGNORED - 1
    edges = ignored is None and not coloured and counts
    return {at: value for at, value in found.items() if not (edges and value == USUAL_IGNORED)}


def things(files: Sequence[Mapping[str, Any] | None], config: DataConfig) -> list[list[dict[str, Any]] | None]:
    """Return the things of each mask, None of one that cannot be read.

    0 is around them, and black where masks are coloured; `data.ignore_value` is no thing either, and by itself the 255
    of edges (Pascal VOC's) beside numbers that count from 1 on. UserError for more of
    them than a byte counts, and for values that look like those of classes where nobody named the things.
    """
    name = name_of(config)
    found: list[list[dict[str, Any]] | None] = []
    crowded, known, gaps = 0, 0, 0
    seen: Counter[int] = Counter()
    for one in _mask_files.each(files, _mask_files.look):
        crowded += one.reason in (_mask_files.MANY, _mask_files.SMEARED)
        if one.png is None:
            found.append(None)
            continue
        numbers, held = _mask_files.of_png(one.png), _held(one, config.ignore_value)
        found.append([_found_masks.thing(numbers == at, name=name, crowd=False, difficult=False) for at in held])
        seen.update(held.values())
        known += bool(held)
        gaps += sorted(held.values()) != [*range(1, len(held) + 1)]
    if crowded:
        raise UserError(
            f"masks of up to {_mask_files.MOST - 1} single objects are needed",
            f"{crowded:,} have more, or were saved as JPEG, which changes values",
            "Cut the pictures, and their masks, into parts; save masks as PNG.",
        )  # fmt: skip
    if config.label_names is None and known >= FEW and 2 * gaps > known and seen.total() >= OFTEN * len(seen):
        raise UserError(
            "masks with a number an object are needed",
            f"{gaps:,} of {known:,} do not count from 1 on, and share {len(seen)} values, as masks of classes do",
            f"Drop data.problem_type to learn classes; if each value is a single object, name them: "
            f"data.label_names=[{THING}].",
        )  # fmt: skip
    if config.label_names is None and known >= FEW and len(seen) == 1:
        raise UserError(
            "masks with a number an object are needed",
            f"all {known:,} hold {next(iter(seen))} alone, as masks of one class do, however many objects it has",
            f"Drop data.problem_type to learn that class; if each picture has one object, name it: "
            f"data.label_names=[{THING}].",
        )  # fmt: skip
    return found
