"""Which classes the values of masks are: told by what the training masks hold, and by what the user says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from hftransfer.answers import _mask_files as files
from hftransfer.answers._learner import Learner
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CLASSES = 255  # a byte a pixel, less the one for pixels of none
USUAL_IGNORED = 255
SMOOTHED = 32  # more values than this, nearly all pixels being of two of them: edges that were smoothed
OF_TWO = 0.8
SHADES = 32  # between any two values: shades that were chosen to be told apart by eye, and no counting
SURROUND = ("background", "bg", "_background_", "unlabeled", "unlabelled", "void")  # names of what is around objects
FEW, ENDS, OF_ALL = (
    10,
    3,
    0.8,
)  # masks, different counts and share of them that make numbers look like those of objects
EVERYWHERE = 0.9  # share of the masks that hold what is around the objects
NONE = "none"  # of data.background_class: every class is one like the others


class Said(NamedTuple):
    """What the user said of the masks, or what lies beside them."""

    names: tuple[str, ...] | None = None  # of the values 0, 1, 2 ...; of the colours, where those are given
    colours: tuple[str, ...] | None = None
    ignored: int | None = None
    background: str | None = None


class Kept(NamedTuple):
    """How masks are read: the value (a number, or 0xRRGGBB) of each class, and what is left out."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    coloured: bool = False
    ignored: int | None = None
    background: int | None = None  # the class that is around the objects
    guesses: tuple[str, ...] = ()


class Values(Learner):
    """Counts what masks hold; `made` is given the way to read them, and how many there were."""

    def __init__(self, answer: Any, said: Said) -> None:
        self.answer, self.said = answer, said
        self.rows = 0
        self.codings: set[int] = set()
        self.pixels: Counter[tuple[int, int]] = Counter()  # of (number, colour)
        self.masks: Counter[tuple[int, int]] = Counter()
        self.counted: Counter[int] = Counter()  # masks with so many numbers besides 0, 0 of those with a gap in them

    def add(self, truth: pa.Array) -> None:
        """Count the values of a batch of masks."""
        for row in truth.drop_null().to_pylist():
            self.rows += 1
            self.codings.add(row["coding"])
            for value, colour, pixels in zip(row["values"], row["colours"], row["pixels"], strict=True):
                number = value if row["coding"] != files.COLOUR else grey_of(colour)
                self.pixels[number, colour] += pixels
                self.masks[number, colour] += 1
            numbers = sorted({*row["values"]} - {0, USUAL_IGNORED})
            if numbers:
                self.counted[len(numbers) if numbers == [*range(1, len(numbers) + 1)] else 0] += 1

    def learn(self) -> Any:
        """Return the answer that knows the classes; UserError where the values are none."""
        coloured = self._by_colour()
        which = 1 if coloured else 0
        pixels: Counter[int] = Counter()
        masks: Counter[int] = Counter()
        for pair in self.pixels:
            pixels[pair[which]] += self.pixels[pair]
            masks[pair[which]] += self.masks[pair]
        kept = classes_of(pixels, masks, self.rows, coloured, self.said)
        return dataclasses.replace(
            self.answer, names=kept.names, values=kept.values, coloured=kept.coloured, ignored=kept.ignored,
            background=kept.background, told=(*kept.guesses, *([] if coloured else self._single())), rows=self.rows,
        )  # fmt: skip

    def _single(self) -> list[str]:
        """Return what is to be said where numbers seem to tell single objects apart, and no classes."""
        ends = set(self.counted) - {0}
        whole, known = sum(self.counted[end] for end in ends), sum(self.counted.values())
        if self.said.names or known < FEW or len(ends) < ENDS or max(ends) < ENDS or whole < OF_ALL * known:
            return []
        return [
            f"{whole:,} of {known:,} masks count from 1 without a gap, to 1 or up to {max(ends)}: numbers of single "
            "objects look so, and are read as classes here; data.problem_type=instances learns a mask for each object"
        ]

    def _by_colour(self) -> bool:
        """Tell whether the colour says the class: of RGB masks, and where one number has several colours."""
        if self.said.colours is not None:
            return True
        if files.COLOUR in self.codings:
            shades = all(number >= 0 for number, _ in self.pixels)
            if shades:
                return False
            if files.GREY in self.codings:
                raise UserError(
                    "masks of one kind are needed", "some hold colours, and some a number a pixel",
                    "Save all of them in one way.",
                )  # fmt: skip
            return True
        if files.PALETTE not in self.codings:
            return False
        numbers = Counter(number for number, _ in self.pixels)
        return files.GREY not in self.codings and max(numbers.values()) > 1


def grey_of(colour: int) -> int:
    """Return the shade of a colour that is grey, -1 of any other."""
    red, green, blue = colour >> 16, colour >> 8 & 255, colour & 255
    return red if red == green == blue else -1


def classes_of(pixels: Counter[int], masks: Counter[int], rows: int, coloured: bool, said: Said) -> Kept:
    """Return the classes that values stand for, by how many pixels and masks have each."""
    guesses = []
    ignored = said.ignored
    if ignored is None and said.colours is None and not coloured:
        others = set(pixels) - {USUAL_IGNORED}
        apart = min(b - a for a, b in pairwise(sorted(pixels))) if len(pixels) > 1 else 0
        shades = apart >= SHADES and min(pixels) == 0  # 0, 128 and 255: classes as shades from black to white
        if USUAL_IGNORED in pixels and others - {0} and max(others) < USUAL_IGNORED - 1 and not shades:
            ignored = USUAL_IGNORED
            share = pixels[USUAL_IGNORED] / sum(pixels.values())
            guesses.append(
                f"pixels of the value {ignored} ({share:.1%}) are neither learned nor measured (data.ignore_value; -1 "
                "makes it a class)"
            )
    present = {value: count for value, count in pixels.items() if value != ignored}
    _refuse(present, coloured, said)
    names, values = named(sorted(present), coloured, said)
    if len(names) < 2:
        raise UserError(
            "masks of two classes or more are needed", f"all pixels are {names[0] if names else 'left out'}",
            "Check the masks, data.ignore_value and data.label_names.",
        )  # fmt: skip
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"up to {MOST_CLASSES} classes are possible", f"the masks have {len(names)} (numbers of single objects?)",
            "Give masks in which a value is a class.",
        )  # fmt: skip
    background, words = surround(names, values, present, masks, rows, said)
    if background is not None and said.names is None and said.colours is None and said.background is None:
        names = tuple("background" if place == background else name for place, name in enumerate(names))
    guesses += words
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    what = "colours" if coloured else "values"
    guesses.append(f"the {what} of the masks are {len(names)} classes: {shown} (data.label_names)")
    return Kept(names, values, coloured, ignored, background, tuple(guesses))


def _refuse(present: dict[int, int], coloured: bool, said: Said) -> None:
    """Raise UserError for values that are no classes: shades of smoothed edges."""
    if len(present) <= SMOOTHED or said.names is not None or said.colours is not None:
        return
    two = sorted(present, key=lambda value: -present[value])[:2]
    share = sum(present[value] for value in two) / sum(present.values())
    if share >= OF_TWO:
        shown = " and ".join(files.written(value) if coloured else str(value) for value in two)
        raise UserError(
            "masks with one value a class are needed",
            f"these have {len(present)} values, of which {shown} make {share:.0%} of the pixels: edges were smoothed",
            "Save the masks as they were drawn, or resize them by nearest.",
        )


def named(present: Sequence[int], coloured: bool, said: Said) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of classes and the value of each; UserError where a value has none."""
    if said.colours is not None:
        known = [files.read_colour(text) for text in said.colours]
        bad = [text for text, value in zip(said.colours, known, strict=True) if value is None]
        if bad or said.names is None or len(said.names) != len(known):
            names = "none" if said.names is None else str(len(said.names))
            raise UserError(
                "data.label_colors needs a colour for each of data.label_names",
                f"{bad[0]!r} is no colour" if bad else f"there are {len(known)} colours and {names} names",
                "Write them as '#ff8000' or '255,128,0'.",
            )
        listed = tuple(value for value in known if value is not None)
        strange = [files.written(value) for value in present if value not in listed]
        if strange:
            raise UserError(
                "every colour of the masks must have a name", f"{_some(strange)} have none in data.label_colors",
                "Add them, or set data.ignore_value to the one that is no class (as a number, 0xRRGGBB).",
            )  # fmt: skip
        return said.names, listed
    if said.names is not None and not coloured:
        beyond = [str(value) for value in present if not 0 <= value < len(said.names)]
        if beyond and len(present) == len(said.names):
            return said.names, tuple(present)  # 0 and 255, say
        if beyond:
            raise UserError(
                "every value of the masks must have a name",
                f"there are {len(said.names)} names, for 0 to {len(said.names) - 1}, and pixels of {_some(beyond)}",
                "Add names to data.label_names, or set data.ignore_value.",
            )
        return said.names, tuple(range(len(said.names)))
    if said.names is not None and len(said.names) == len(present):
        return said.names, tuple(present)
    if said.names is not None:
        raise UserError(
            "data.label_names needs data.label_colors where masks are coloured",
            f"there are {len(said.names)} names and {len(present)} colours: {_some(map(files.written, present))}",
            "Set data.label_colors, the colour of each name.",
        )
    return tuple(files.written(value) if coloured else str(value) for value in present), tuple(present)


def surround(
    names: Sequence[str], values: Sequence[int], present: dict[int, int], masks: Counter[int], rows: int, said: Said
) -> tuple[int | None, list[str]]:
    """Return the class that is around the objects, by what the user says, its name, or where it stands; and why."""
    if said.background == NONE:
        return None, []
    if said.background is not None:
        if said.background not in names:
            from hftransfer.errors import unknown

            raise unknown("class in data.background_class", said.background, names)
        return list(names).index(said.background), []
    told = "data.background_class; none: it is a class like the others"
    by_name = next((place for place, name in enumerate(names) if name.lower() in SURROUND), None)
    if by_name is not None:
        return by_name, [f"{names[by_name]} is what is around the objects ({told})"]
    if said.names is not None or said.colours is not None or 0 not in values or not present.get(0):
        return None, []
    share = present[0] / sum(present.values())
    most = max(present, key=lambda value: present[value])
    if len(names) == 2 or (most == 0 and masks[0] >= EVERYWHERE * rows):
        return list(values).index(0), [f"the value 0 ({share:.0%} of the pixels) is what is around objects ({told})"]
    return None, []


def _some(found: Any, most: int = 6) -> str:
    listed = list(found)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
