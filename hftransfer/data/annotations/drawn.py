"""Things that were drawn on a picture, before it is known what their numbers mean."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hftransfer.errors import UserError, with_rows

Form = Literal["xywh", "xyxy", "cxcywh"]
CONVENTIONS: dict[str, Form] = {"bbox": "xywh", "bbox_xyxy": "xyxy", "bbox_cxcywh": "cxcywh"}  # by a field's name
FIELD: dict[Form, str] = {form: name for name, form in CONVENTIONS.items()}
FORMS: dict[Form, str] = {
    "xywh": "left, top, width, height", "xyxy": "left, top, right, bottom", "cxcywh": "middle, width, height",
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One thing: four numbers of its box (None: those of its outline), its class, and its outline if it was drawn.

    `outline` is a list of polygons [x, y, x, y, ...] or COCO's runs {"counts", "size"}. A `difficult` one is hard to
    recognise, as who drew it says: scores pass over it.
    """

    place: Sequence[float] | None
    name: str | None
    crowd: bool = False
    outline: Any = None
    difficult: bool = False


@dataclass(frozen=True)
class Picture:
    """What was drawn on one picture; None: nobody looked. `size` (width, height) is that of whoever drew."""

    things: Sequence[Thing] | None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Drawn:
    """What was drawn on the pictures of one split, what their numbers are by convention, and what was noticed."""

    pictures: list[Picture]
    form: Form = "xywh"
    warnings: tuple[str, ...] = ()
    guesses: tuple[str, ...] = field(default=())


@dataclass
class Skipped:
    """How many things that were drawn cannot be read, and the pictures on which there is nothing else."""

    count: int = 0
    bare: list[str] = field(default_factory=list)

    def known(self, file: str, things: Sequence[Thing], lost: int) -> Sequence[Thing] | None:
        """Return the things of a picture, beside which some were lost; None where all were: nobody knows its truth."""
        self.count += lost
        if things or not lost:
            return things
        self.bare.append(file)
        return None

    def said(self, name: str) -> list[str]:
        """Say of how many pictures nothing is known, by the name of their file or of its kind."""
        if not self.bare:
            return []
        said = f"{name}: {len(self.bare):,} pictures hold nothing but such things: what is on them is not known"
        return [with_rows(said, self.bare)]


def around(outline: Any) -> tuple[float, float, float, float] | None:
    """Return left, top, width and height around polygons; None where they have no three points."""
    if not isinstance(outline, Sequence) or isinstance(outline, str):
        return None
    rings = [ring for ring in outline if isinstance(ring, Sequence) and len(ring) >= 6]
    if not rings:
        return None
    xs = [float(x) for ring in rings for x in ring[::2]]
    ys = [float(y) for ring in rings for y in ring[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def around_turned(
    place: Sequence[float], angle: float, middle: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return left, top, width, height around a box of such that is turned clockwise by degrees about a point."""
    (left, top, width, height), (x, y) = place, middle
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    corners = [(left + a * width - x, top + b * height - y) for a in (0, 1) for b in (0, 1)]
    xs = [x + a * cosine - b * sine for a, b in corners]
    ys = [y + a * sine + b * cosine for a, b in corners]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def first_of(found: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of some names that is a key, whatever its case."""
    known = {str(name).lower(): name for name in found}
    return next((known[name] for name in names if name in known), None)


def refuse_from_one(numbers: Collection[int], names: int, where: str) -> None:
    """Raise UserError where classes are numbered from 1 on and their names from 0 on: each would have the next one's.

    `names` is how many there are, `where` what holds the numbers.
    """
    if names and names in numbers and 0 not in numbers:
        raise UserError(
            "class numbers from 0 on are needed where names are given in their order",
            f"{where}: {min(numbers)} to {max(numbers)} and no 0, for {names} names",
            "Put a name for 0 first (data.label_names=[none, ...]), or count from 0.",
        )  # fmt: skip
