"""Masks of single objects in their forms: columns, bytes of a row, what a model is trained on, JSON; and distances."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.answers import _found_boxes, _runs
from hftransfer.answers._average_precision import (
    CLASS,
    CROWD,
    CROWDED,
    DIFFICULT,
    FOUND_CLASS,
    PICTURE_WIDTH,
    SCORE,
    Pictures,
)
from hftransfer.answers._mask_files import each, resized

if TYPE_CHECKING:
    import pyarrow as pa

RUNS = "counts"  # the field of a thing's mask: COCO's runs, see `_runs`
LABEL = 2  # numbers of a label: class, whether it is difficult
COLUMNS = 8  # numbers of a thing: see `_average_precision`; of what was found the last two are the picture's size too


class Held(NamedTuple):
    """The things of one picture: their numbers (n, 8), and the runs of each."""

    table: np.ndarray
    runs: list[np.ndarray]


def packed(table: np.ndarray, runs: Sequence[np.ndarray]) -> bytes:
    """Return the things of one picture as bytes: what many pictures' are kept as.

    They are packed tight: an enlarged mask has the same runs in many columns, those of a large picture are megabytes.
    """
    ends = np.cumsum([len(one) for one in runs], dtype=np.int64)
    numbers = np.asarray(table, np.float64).reshape(-1, COLUMNS)
    whole = b"".join([
        np.int64(len(numbers)).tobytes(), numbers.tobytes(), ends.tobytes(),
        *(np.asarray(one, np.int32).tobytes() for one in runs),
    ])  # fmt: skip
    return zlib.compress(whole, 1)


def unpacked(content: bytes) -> Held:
    """Return what `packed` was given."""
    content = zlib.decompress(content)
    count = int(np.frombuffer(content, np.int64, 1)[0])
    table = np.frombuffer(content, np.float64, count * COLUMNS, 8).reshape(-1, COLUMNS)
    ends = np.frombuffer(content, np.int64, count, 8 + 8 * count * COLUMNS)
    flat = np.frombuffer(content, np.int32, -1, 8 + 8 * count * (COLUMNS + 1))
    return Held(table, np.split(flat, ends[:-1]) if count else [])


def broken(size: tuple[int, int]) -> bytes:
    """Return what a model gives that came to no numbers, of a picture of `size` (height, width)."""
    height, width = size
    return packed(np.array([[0, 0, width, height, np.nan, 0, width, height]]), [np.array([0, width * height])])


def feature(encoded: bool) -> Any:
    """Return the `datasets` feature of truth: a list of boxes as `_found_boxes` has them, with the runs of each."""
    from datasets import List, Value

    return List({**_found_boxes.feature(encoded).feature, RUNS: List(Value("int32"))})


def is_truth(found: Any) -> bool:
    """Tell whether a column is truth in its canonical form."""
    from hftransfer.column_types import element

    return _found_boxes.is_truth(found) and RUNS in element(found)


def column(rows: Sequence[Sequence[Mapping[str, Any]] | None]) -> pa.Array:
    """Return rows of things, each with its `name`, as canonical truth; None is a row of which nobody knows them."""
    import pyarrow as pa

    from hftransfer.answers import _truth

    things = [one for row in rows for one in row or ()]
    wanted = _found_boxes.arrow(feature(encoded=False)).value_type
    parts = [
        _runs_column([one[RUNS] for one in things])
        if field.name == RUNS
        else pa.array([one[field.name] for one in things], field.type)
        for field in wanted
    ]
    lengths = pa.array([len(row or ()) for row in rows], pa.int64())
    unknown = pa.array([row is None for row in rows], pa.bool_())
    return _truth.lists(lengths, pa.StructArray.from_arrays(parts, fields=list(wanted)), unknown)


def sizes_of(truth: pa.ChunkedArray) -> list[tuple[int, int] | None]:
    """Return the size of the picture of each row of canonical truth; None where it has no thing that tells it."""
    found: list[tuple[int, int] | None] = []
    for part in truth.chunks:
        flat = part.flatten()
        sides = list(zip(*(flat.field(name).to_pylist() for name in _found_boxes.SIZE), strict=True))
        ends = np.cumsum(_found_boxes.lengths(part).to_numpy())
        begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        found += [sides[begin] if end > begin else None for begin, end in zip(begins, ends, strict=True)]
    return found


def thing(inside: np.ndarray, **more: Any) -> dict[str, Any]:
    """Return a thing as truth has it, by its mask (h, w); `more` is what it is besides its place."""
    height, width = inside.shape
    runs = _runs.of_mask(inside)
    place = dict(zip(_found_boxes.PLACE, _runs.box_of(runs, height), strict=True))
    return {**more, **place, "picture_width": width, "picture_height": height, RUNS: runs}


def mask_of(one: Mapping[str, Any]) -> np.ndarray:
    """Return the mask (h, w) of a thing as truth has it."""
    return _runs.to_mask(one[RUNS], (one["picture_width"], one["picture_height"]))


def row_of(truth: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a row's encoded truth as it is scored."""
    marks = [CROWDED if one["crowd"] else DIFFICULT if one["difficult"] else 0 for one in truth]
    return _with(truth, CROWD, marks)


def as_found(truth: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a row's encoded truth as if it had been found, without a doubt."""
    return _with(truth, SCORE, 1.0)


def _with(truth: Sequence[Mapping[str, Any]], column: int, values: Any) -> bytes:
    names = (*_found_boxes.PLACE, "label", *_found_boxes.SIZE)
    table = np.array([[one[name] for name in names] for one in truth], np.float64).reshape(-1, COLUMNS - 1)
    return packed(np.insert(table, column, values, axis=1), [one[RUNS] for one in truth])


def moved(truth: Sequence[Mapping[str, Any]], change: Any) -> list[dict[str, Any]]:
    """Return the things of a row whose picture is changed: those of which something is still seen."""
    import PIL.Image

    shown = []
    for one in truth:
        inside = np.asarray(change.of_mask(PIL.Image.fromarray(mask_of(one).astype(np.uint8)))) > 0
        if inside.any():
            shown.append(thing(inside, **_beside(one)))
    return shown


def pasted(one: Mapping[str, Any], corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Return a thing whose picture became a part, at a corner (left, top), of one of `size` (width, height)."""
    part, (left, top) = mask_of(one), corner
    whole = np.zeros(size[::-1], bool)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part[: size[1] - top, : size[0] - left]
    return thing(whole, **_beside(one))


def _beside(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("label", *_found_boxes.MARKS)}


# --- a model's ---


def target(row: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> tuple[dict[str, Any], Any]:
    """Return what a model is trained on, of a picture shown at `size` (width, height), and labels (n, 2).

    Crowds are aside, and so is what is too small to be seen at that size.
    """
    import torch

    own = [one for one in row if not one["crowd"]]
    masks = [resized(mask_of(one).astype(np.uint8), size) for one in own]
    seen = [place for place, mask in enumerate(masks) if mask.any()]
    drawn = np.stack([masks[place] for place in seen]) if seen else np.zeros((0, *size[::-1]), np.uint8)
    numbers = [[own[at]["label"], int(own[at]["difficult"])] for at in seen]
    label = torch.tensor(numbers, dtype=torch.int64).reshape(-1, LABEL)
    return {"class_labels": label[:, 0].clone(), "mask_labels": torch.from_numpy(drawn)}, label


def overlaps(there: Held, found: Held) -> np.ndarray:
    """Return the overlap (d, g) of masks found in a picture with those of their class that are there; 0 of others."""
    near = np.zeros((len(found.runs), len(there.runs)))
    for kind in np.unique(found.table[:, FOUND_CLASS]):
        own, actual = (
            np.flatnonzero(one == kind) for one in (found.table[:, FOUND_CLASS], there.table[:, CLASS])
        )  # fmt: skip
        crowd = there.table[actual, CROWD] == CROWDED
        near[np.ix_(own, actual)] = _runs.overlaps(
            [found.runs[at] for at in own], [there.runs[at] for at in actual], crowd
        )
    return near


class Masks(Pictures):
    """Pictures whose things overlap by their masks: `near` (d, g) of each, and the areas of both, found first."""

    def __init__(
        self, truth: Sequence[Any], outputs: Sequence[Any], near: Sequence[np.ndarray],
        areas: Sequence[tuple[np.ndarray, np.ndarray]], classes: int, threshold: float,
    ) -> None:  # fmt: skip
        super().__init__(truth, outputs, classes, threshold)
        self.near, self.areas = near, areas

    def overlapping(
        self, place: int, own: np.ndarray, actual: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found, there = self.areas[place]
        return self.near[place][np.ix_(own, actual)], found[own], there[actual]


def of_rows(truth: Sequence[bytes], outputs: Sequence[bytes], classes: int, threshold: float) -> Masks:
    """Return rows as they are scored: the masks of few pictures are in memory at a time."""

    def looked(pair: tuple[bytes, bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
        there, found = map(unpacked, pair)
        areas = tuple(np.array([_runs.area(one) for one in part.runs], np.float64) for part in (found, there))
        return there.table, found.table[:, : FOUND_CLASS + 1], overlaps(there, found), areas

    made = list(each(zip(truth, outputs, strict=True), looked))
    actual, found, near, areas = zip(*made, strict=True) if made else ((), (), (), ())
    return Masks(actual, found, near, areas, classes, threshold)


def of_batch(labels: np.ndarray, kept: np.ndarray, classes: int, threshold: float) -> Masks:
    """Return validation rows as they are scored: what a model's own comparison kept of each; see `_single_masks`."""
    actual, outputs, near, areas = [], [], [], []
    for row, given in zip(labels.reshape(len(labels), -1, LABEL), np.asarray(kept, np.float64), strict=True):
        known = row[row[:, 0] != _found_boxes.IGNORED]
        table = np.zeros((len(known), COLUMNS))
        table[:, CLASS], table[:, CROWD] = known[:, 0], known[:, 1] * DIFFICULT
        found = np.zeros((given.shape[1], FOUND_CLASS + 1))
        found[:, SCORE], found[:, FOUND_CLASS] = given[:2]
        actual.append(table)
        outputs.append(found)
        near.append(given[2 : 2 + len(known)].T)
        areas.append((np.ones(len(found)), np.ones(len(known))))
    return Masks(actual, outputs, near, areas, classes, threshold)


def renamed(output: bytes, numbers: np.ndarray) -> bytes:
    """Return things with other numbers for their classes; those of a class that has none (-1) are left out."""
    held = unpacked(output)
    kept = np.flatnonzero(numbers[held.table[:, FOUND_CLASS].astype(np.int64)] >= 0)
    return packed(_found_boxes.renamed(held.table, numbers), [held.runs[at] for at in kept])


def grid(usual: Sequence[float], kind: int, truth: bytes) -> bytes:
    """Return the usual box, filled, side by side over a picture."""
    table = unpacked(truth).table
    size = table[0, PICTURE_WIDTH:] if len(table) else np.array(usual[2:])
    width, height = (int(side) for side in size)
    boxes = _found_boxes.grid(usual, kind, [table])[0].astype(np.float64)
    runs = [_runs.of_box(box, (width, height)) for box in boxes[:, :4]]
    return packed(np.concatenate([boxes, np.tile([width, height], (len(boxes), 1))], axis=1), runs)


# --- stored and shown ---


def columns(truth: Sequence[bytes], outputs: Sequence[bytes], names: Sequence[str]) -> dict[str, pa.Array]:
    """Return truth and outputs as columns of lists of things, each with its runs."""
    there, given = ([unpacked(one) for one in part] for part in (truth, outputs))
    flat = np.concatenate([*(one.table for one in given), np.zeros((0, COLUMNS))])
    found = [one.table[:, : FOUND_CLASS + 1].astype(np.float32) for one in given]
    runs = (_runs_column([one for row in part for one in row.runs]) for part in (there, given))
    more = {RUNS: next(runs)}, {**_found_boxes.sizes(flat), RUNS: next(runs)}
    return _found_boxes.columns([one.table for one in there], found, names, more)


def _runs_column(runs: Sequence[np.ndarray]) -> pa.Array:
    import pyarrow as pa

    ends = np.cumsum([0, *(len(one) for one in runs)])
    flat = np.concatenate([*runs, np.zeros(0, np.int32)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat, pa.int32()))


def of_columns(table: pa.Table, names: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    """Return what `columns` gave; UserError for classes that are not among `names`."""
    found = []
    for column, tables in zip(("label", "prediction"), _found_boxes.of_columns(table, names), strict=True):
        held = table[column].combine_chunks()
        flat = held.flatten()
        sides = np.column_stack([flat.field(name).to_numpy(zero_copy_only=False) for name in _found_boxes.SIZE])
        runs = np.split(
            flat.field(RUNS).flatten().to_numpy(), np.cumsum(_found_boxes.lengths(flat.field(RUNS)).to_numpy())[:-1]
        )
        rows, end = [], 0
        for numbers in tables:
            part = slice(end, end + len(numbers))
            wide = np.concatenate([numbers[:, :PICTURE_WIDTH], sides[part]], axis=1)
            rows.append(packed(wide, runs[part]))
            end += len(numbers)
        found.append(rows)
    return found[0], found[1]


def as_json(one: np.ndarray, runs: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return a thing with its box, and its mask as COCO's runs."""
    width, height = (int(side) for side in one[PICTURE_WIDTH:])
    return {**_found_boxes.as_json(one, names), "mask": {"size": [height, width], RUNS: runs.tolist()}}


def of_pipeline(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `pipeline("image-segmentation", subtask="instance")` gave in our form.

    Of things that overlap it gives the pixels of each that no later one covers: `seen`, not the whole mask.
    """
    objects = []
    for part in parts:
        inside = np.asarray(part["mask"]) > 0
        seen = {"size": list(inside.shape), RUNS: _runs.of_mask(inside).tolist()}
        objects.append({"score": part["score"], "label": part["label"], "seen": seen})
    return {"objects": objects}


def apart(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> float:
    """Return how far the things of two answers are apart: by scores, and by the share of the picture's pixels.

    Each is compared with the nearest one of its class that is left, by what is seen of both; one that has none counts
    with the pixels that it takes. Where an answer holds as many as can be, the other may hold more.
    """
    if not one or not other:
        return _taken([*one, *other])
    full, worst = min(len(one), len(other)) >= _found_boxes.MOST, 0.0
    for label in {str(thing["label"]) for thing in (*one, *other)}:
        few, more = sorted(
            ([thing for thing in part if thing["label"] == label] for part in (one, other)), key=len
        )  # fmt: skip
        between, left = _between(few, more), list(range(len(more)))
        for row in between:
            place = min(left, key=lambda at: row[at])
            left.remove(place)
            worst = float(np.maximum(worst, row[place]))
        worst = worst if full else max(worst, _taken([more[at] for at in left]))
    return float(np.maximum(worst, _uncovered(one, other)))


def _taken(things: Sequence[Mapping[str, Any]]) -> float:
    """Return the largest share of a picture that one of some things takes."""
    shares = [_runs.area(np.array(mask[RUNS])) / np.prod(mask["size"]) for mask in map(_mask, things)]
    return max(shares, default=0.0)


def _mask(one: Mapping[str, Any]) -> Mapping[str, Any]:
    return one.get("seen") or one["mask"]


def _between(few: Sequence[Mapping[str, Any]], more: Sequence[Mapping[str, Any]]) -> np.ndarray:
    own, others = ([np.array(_mask(one)[RUNS]) for one in part] for part in (few, more))
    both = _runs.shared(own, others)
    first, second = (np.array([_runs.area(one) for one in part], np.float64) for part in (own, others))
    whole_first, whole_second = (np.array(["seen" not in one for one in part]) for part in (few, more))
    # what one has and the other has not: of a whole mask beside what is seen of it that is what lies on top
    lost = np.where(whole_first[:, None] > whole_second, 0.0, first[:, None] - both)
    lost = lost + np.where(whole_first[:, None] < whole_second, 0.0, second - both)
    scores, theirs = (np.array([float(one["score"]) for one in part]) for part in (few, more))
    pixels = np.prod(_mask(more[0])["size"]) if more else 1
    return np.maximum(np.abs(scores[:, None] - theirs), lost / pixels)


def _uncovered(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of the pixels that lie in something of one answer and in nothing of the other."""
    unions = []
    for part in (one, other):
        size = tuple(_mask(part[0])["size"])[::-1]
        masks = (_runs.to_mask(np.array(_mask(thing)[RUNS]), size) for thing in part)
        unions.append(functools.reduce(np.logical_or, masks))
    return float(np.mean(unions[0] != unions[1])) if unions[0].shape == unions[1].shape else float("inf")
