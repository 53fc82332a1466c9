"""Annotations as YOLO has them: a text file a picture, a line a box, its numbers in shares of the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from hftransfer.data.annotations.drawn import Picture, Thing, around
from hftransfer.errors import UserError

LABELS = "labels"  # the folder that stands where that of the pictures is called images
NAMES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt", "_darknet.labels")  # a name a line


def label_of(picture: Path) -> Path | None:
    """Return the text file of a picture: in the folder `labels` for `images`, or beside it; None: there is none."""
    parts = list(picture.parts)
    for place in [at for at, part in enumerate(parts) if part.lower() == "images"][::-1]:
        text = Path(*parts[:place], LABELS, *parts[place + 1 :]).with_suffix(".txt")
        if text.is_file():
            return text
    beside = picture.with_suffix(".txt")
    return beside if beside.is_file() else None


def is_label(path: Path, beside: int = 0) -> bool:
    """Tell whether a text file holds lines of a whole number and an even number of others, four at least."""
    lines = [
        line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:20] if line.strip()
    ]
    return bool(lines) and all(_is_line(line, beside) for line in lines)


def _is_line(words: Sequence[str], beside: int = 0) -> bool:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return words[0].isdigit() and (len(numbers) in (5, 6, 5 + beside) or (len(numbers) >= 7 and len(numbers) % 2 == 1))


def of_label(path: Path, names: dict[int, str] | None, numbers: set[int] | None = None, beside: int = 0) -> Picture:
    """Return what a text file says: class, middle, width, height (and a score); or class and a polygon.

    The numbers of its classes are added to `numbers`; `beside` a box stand so many numbers of keypoints.
    """
    things = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if not _is_line(words, beside):
            raise UserError(
                "lines of a class and four numbers, or of a class and a polygon, are needed",
                f"{path.name}, line {number}: {line[:60]!r}", "Mend the line, or remove the file.",
            )  # fmt: skip
        kind = int(words[0])
        if numbers is not None:
            numbers.add(kind)
        values = [float(word) for word in words[1:]]
        if beside and len(values) == 4 + beside:
            values = values[:4]
        outline = [values] if len(values) >= 6 else None
        if outline is None:
            place: Sequence[float] | None = values[:4]
        else:
            box = around(outline)
            place = None if box is None else (box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3])
        things.append(Thing(place, str(kind) if names is None else names.get(kind), outline=outline))
    return Picture(things)


def keypoints_in(files: Sequence[Path]) -> int:
    """Return how many numbers of keypoints stand behind each box, as `kpt_shape` of a data.yaml has it; 0 for none."""
    for _, found in _settings(files):
        shape = found.get("kpt_shape")
        if isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) for n in shape):
            return int(shape[0] * shape[1])
    return 0


def _settings(files: Sequence[Path]) -> Iterator[tuple[Path, dict[Any, Any]]]:
    """Yield the YAML files that hold settings by name, as a data.yaml does."""
    for path in files:
        if path.suffix.lower() in (".yaml", ".yml"):
            try:
                found = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError):
                continue
            if isinstance(found, dict):
                yield path, found


def names_in(files: Sequence[Path], given: Sequence[str] | None) -> tuple[dict[int, str] | None, str]:
    """Return the names of classes by number, and where they were found: data.yaml, a list of lines, or as given."""
    if given:
        return dict(enumerate(given)), "data.label_names"
    for path, found in _settings(files):
        names = found.get("names")
        if isinstance(names, list):
            return {at: str(name) for at, name in enumerate(names)}, path.name
        if isinstance(names, dict):
            return {int(at): str(name) for at, name in names.items()}, path.name
    for path in files:
        if path.name.lower() in NAMES:
            lines = path.read_text(encoding="utf-8").splitlines()
            return {at: line.strip() for at, line in enumerate(lines) if line.strip()}, path.name
    return None, ""
