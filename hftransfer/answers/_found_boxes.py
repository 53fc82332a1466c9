"""Boxes in their forms: columns, tables of numbers, what a model is trained on, JSON; and the usual one."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.answers._average_precision import (
    CLASS,
    CROWD,
    CROWDED,
    DIFFICULT,
    FOUND_CLASS,
    HEIGHT,
    PICTURE_WIDTH,
    SCORE,
    WIDTH,
)
from hftransfer.answers.base import Answer, Learner
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

PLACE = ("x", "y", "width", "height")  # left, top: pixels of the upright picture
SIZE = ("picture_width", "picture_height")
MARKS = {"crowd": CROWDED, "difficult": DIFFICULT}
MOST = 100  # boxes of a picture that are kept, from the most certain down: as COCO's results hold
LABEL = 6  # numbers of a label: class, the box as centre and size in shares of the picture, whether it is difficult
IGNORED = -100  # what labels are filled up with
MOST_NAMES = 1_000
ROUNDED = 1.0  # pixels that a box may be off which transformers' pipeline rounded


def feature(encoded: bool) -> Any:
    """Return the `datasets` feature of truth: a list of boxes, each of a class by its number, or by its name."""
    from datasets import List, Value

    kind = {"label": Value("int64")} if encoded else {"name": Value("string")}
    sizes = {name: Value("int64") for name in SIZE}
    return List(
        {**{name: Value("float64") for name in PLACE}, **kind, **{name: Value("bool") for name in MARKS}, **sizes}
    )


def arrow(found: Any) -> Any:
    """Return the type of a column of such a feature."""
    from datasets.features.features import get_nested_type

    return get_nested_type(found)


def is_truth(found: Any) -> bool:
    """Tell whether a column is truth in its canonical form."""
    from hftransfer.column_types import element, is_list

    inner = element(found)
    return is_list(found) and isinstance(inner, dict) and {*PLACE, "name", *MARKS, *SIZE} <= set(inner)


def encoded(truth: pa.Array, names: Sequence[str], wanted: pa.DataType) -> pa.Array:
    """Return truth with the number of each class, in the type that is `wanted`."""
    import pyarrow as pa

    from hftransfer.answers import _truth

    flat = truth.flatten()
    parts = [
        _truth.indexes(flat.field("name"), names) if field.name == "label" else flat.field(field.name)
        for field in wanted.value_type
    ]
    made = pa.StructArray.from_arrays(parts, fields=list(wanted.value_type))
    return _truth.lists(lengths(truth), made, truth.is_null() if truth.null_count else None).cast(wanted)


def lengths(truth: pa.Array) -> pa.Array:
    """Return how many boxes each picture has, 0 where nobody knows."""
    import pyarrow.compute as pc

    return pc.fill_null(pc.list_value_length(truth), 0)


def counts(found: pa.Array, classes: int) -> np.ndarray:
    """Return how many boxes of each class encoded truth holds (classes,); crowds aside."""
    import pyarrow.compute as pc

    flat = found.flatten()
    own = flat.filter(pc.invert(flat.field("crowd")))
    return np.bincount(own.field("label").to_numpy(), minlength=classes)


def by_picture(found: pa.Array) -> np.ndarray:
    """Return how many boxes each picture of truth has (rows,); crowds aside."""
    crowd = found.flatten().field("crowd").to_numpy(zero_copy_only=False).astype(bool)
    owners = np.repeat(np.arange(len(found)), lengths(found).to_numpy())
    return np.bincount(owners[~crowd], minlength=len(found))


def tables(found: pa.Array) -> list[np.ndarray]:
    """Return encoded truth as (n, 8) a picture."""
    flat = found.flatten()
    columns = [flat.field(name).cast("float64").to_numpy() for name in (*PLACE, "label", *SIZE)]
    columns.insert(CROWD, _marked(flat))
    return np.split(np.column_stack(columns), np.cumsum(lengths(found).to_numpy())[:-1])


def _marked(flat: pa.StructArray) -> np.ndarray:
    """Return what boxes are besides their place (n,): CROWDED, DIFFICULT or 0; a crowd is that in any case."""
    held = {flat.type.field(at).name for at in range(flat.type.num_fields)}  # runs of before know no difficult ones
    marks = {name: flat.field(name).to_numpy(zero_copy_only=False).astype(bool) for name in MARKS if name in held}
    return np.select(list(marks.values()), [MARKS[name] for name in marks], 0).astype(np.float64)


def places(truth: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the boxes (n, 4) of a row."""
    return np.array([[one[name] for name in PLACE] for one in truth], np.float64).reshape(-1, 4)


class Sizes(Learner):
    """Learns which classes there are, how often, and how large the boxes of each are."""

    def __init__(self, answer: Any, column: str) -> None:
        self.answer, self.column, self.rows = answer, column, 0
        self.shares: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.pictures: list[tuple[int, int]] = []
        self.held: Counter[int] = Counter()

    def add(self, truth: pa.Array) -> None:
        """Look at the boxes of a batch of pictures."""
        self.rows += len(truth)
        self.held.update(by_picture(truth).tolist())
        flat = truth.flatten()
        columns = [flat.field(name).to_pylist() for name in ("name", "crowd", "width", "height", *SIZE)]
        for name, crowd, across, down, width, height in zip(*columns, strict=True):
            if not crowd:
                self.shares[name].append((across / width, down / height))
                self.pictures.append((width, height))
        if len(self.shares) > MOST_NAMES:
            raise UserError(
                "boxes of classes are needed", f"`{self.column}` has more than {MOST_NAMES} names",
                "Name another column in data.columns.",
            )  # fmt: skip

    def learn(self) -> Answer[Any]:
        """Return the answer with the classes and the usual box."""
        from hftransfer.answers._truth import by_size

        if not self.shares:
            raise UserError(
                "boxes are needed", f"no picture of train has one (`{self.column}`)", "Check data.source and "
                "data.columns.",
            )  # fmt: skip
        names = tuple(by_size(list(self.shares)))
        known = tuple(len(self.shares[name]) for name in names)
        box = np.median(np.array(self.shares[names[int(np.argmax(known))]]), axis=0)
        usual = (*box.tolist(), *np.median(np.array(self.pictures), axis=0).tolist())
        held = tuple(self.held[number] for number in range(max(self.held) + 1))
        return dataclasses.replace(self.answer, names=names, counts=known, rows=self.rows, usual=usual, held=held)


def grid(usual: Sequence[float], kind: int, truth: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the usual box side by side over pictures, at most MOST of them, each (n, 6)."""
    across, down = (max(1, min(10, int(1 / max(share, 1e-3)))) for share in usual[:2])
    width, height = min(usual[0], 1.0), min(usual[1], 1.0)
    x = (np.arange(across) + 0.5) / across - width / 2
    y = (np.arange(down) + 0.5) / down - height / 2
    corners = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, np.tile([width, height], (len(corners), 1))], 1)
    rest = np.tile([1.0, float(kind)], (len(boxes), 1))
    found = []
    for row in truth:
        size = row[0, PICTURE_WIDTH:] if len(row) else np.array(usual[2:])
        found.append(np.concatenate([boxes * np.tile(size, 2), rest], 1).astype(np.float32))
    return found


# --- a model's ---


def target(row: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> tuple[dict[str, Any], Any]:
    """Return what a detector is trained on, of a picture of `size`, and the same as a label (n, 6); crowds aside."""
    import torch

    own = [one for one in row if not one["crowd"]]
    boxes = places(own)
    boxes[:, :2] += boxes[:, 2:] / 2
    centres = torch.tensor(boxes / np.tile(size, 2), dtype=torch.float32)
    classes = torch.tensor([one["label"] for one in own], dtype=torch.int64)
    difficult = torch.tensor([[float(one["difficult"])] for one in own]).reshape(-1, 1)
    label = torch.cat([classes[:, None].float(), centres, difficult], 1)
    return {"class_labels": classes, "boxes": centres}, label


def of_batch(labels: np.ndarray, kept: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return truth and outputs of validation rows, in pictures of side 1, where overlaps are the same."""
    truth = []
    for row in labels.reshape(len(labels), -1, LABEL):
        known = row[row[:, 0] != IGNORED].astype(np.float64)
        ones = np.ones((len(known), 2))
        corners, sides, marks = known[:, 1:3] - known[:, 3:5] / 2, known[:, 3:5], known[:, 5:] * DIFFICULT
        truth.append(np.concatenate([corners, sides, known[:, :1], marks, ones], 1))
    corners = kept[..., :2] - kept[..., 2:4] / 2
    return truth, list(np.concatenate([corners, kept[..., 2:]], -1))


def output(found: Mapping[str, Any]) -> np.ndarray:
    """Return what a processor made of a picture's outputs as (n, 6), the most certain first."""
    corners = found["boxes"].float().cpu().numpy().reshape(-1, 4)
    scores, classes = (found[name].float().cpu().numpy() for name in ("scores", "labels"))
    table = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], scores, classes]).astype(np.float32)
    return table[np.argsort(-table[:, SCORE], kind="stable")[:MOST]]


def renamed(found: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return boxes with other numbers for their classes; those of a class that has none (-1) are left out."""
    made = found.copy()
    made[:, FOUND_CLASS] = numbers[found[:, FOUND_CLASS].astype(np.int64)]
    return made[made[:, FOUND_CLASS] >= 0]


# --- stored and shown ---


def columns(
    truth: Sequence[np.ndarray], outputs: Sequence[np.ndarray], names: Sequence[str],
    more: tuple[Mapping[str, pa.Array], Mapping[str, pa.Array]] = ({}, {}),
) -> dict[str, pa.Array]:  # fmt: skip
    """Return truth and outputs as columns of lists of boxes; `more` is what each box of both has besides."""
    import pyarrow as pa

    flat, found = np.concatenate([*truth, np.zeros((0, 8))]), np.concatenate([*outputs, np.zeros((0, 6), np.float32)])
    kinds = pa.array(list(names), pa.string())
    place = {name: pa.array(flat[:, at], pa.float64()) for at, name in enumerate(PLACE)}
    own = {
        "name": kinds.take(pa.array(flat[:, CLASS].astype(np.int64))), **place,
        **{name: pa.array(flat[:, CROWD] == mark) for name, mark in MARKS.items()},
        **sizes(flat),
    }  # fmt: skip
    given = {
        "name": kinds.take(pa.array(found[:, FOUND_CLASS].astype(np.int64))),
        "score": pa.array(found[:, SCORE], pa.float32()),
        **{name: pa.array(found[:, at], pa.float32()) for at, name in enumerate(PLACE)},
    }
    return {"label": _listed({**own, **more[0]}, truth), "prediction": _listed({**given, **more[1]}, outputs)}


def sizes(flat: np.ndarray) -> dict[str, pa.Array]:
    """Return how large the picture of each object is, of tables (n, 8), as fields."""
    import pyarrow as pa

    return {name: pa.array(flat[:, PICTURE_WIDTH + at].astype(np.int64)) for at, name in enumerate(SIZE)}


def _listed(fields: Mapping[str, pa.Array], rows: Sequence[np.ndarray]) -> pa.Array:
    import pyarrow as pa

    from hftransfer.answers import _truth

    flat = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return _truth.lists(pa.array([len(row) for row in rows], pa.int64()), flat)


def of_columns(table: pa.Table, names: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what `columns` gave; UserError for classes that are not among `names`."""
    from hftransfer.answers import _truth

    found = []
    for column, wanted, kind in (
        ("label", (*PLACE, "name", "marks", *SIZE), np.float64), ("prediction", (*PLACE, "score", "name"), np.float32)
    ):  # fmt: skip
        held = table[column].combine_chunks()
        flat = held.flatten()
        parts = [
            _truth.codes(flat.field(name), names)
            if name == "name"
            else _marked(flat)
            if name == "marks"
            else flat.field(name).to_numpy(zero_copy_only=False)
            for name in wanted
        ]
        whole = np.column_stack([np.asarray(part, kind) for part in parts])
        found.append(np.split(whole, np.cumsum(lengths(held).to_numpy())[:-1]))
    return found[0], found[1]


def as_json(one: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return a box as transformers' pipeline gives it, with its edges not rounded."""
    left, top = float(one[0]), float(one[1])
    right, bottom = left + float(one[WIDTH]), top + float(one[HEIGHT])
    edges = {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}
    return {"score": float(one[SCORE]), "label": names[int(one[FOUND_CLASS])], "box": edges}


def apart(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> float:
    """Return how far boxes of two answers are apart, of scores and of pixels beyond what rounding makes.

    Each is compared with the nearest one of its class that is left; infinite where a class has fewer.
    """
    if len(one) != len(other) and min(len(one), len(other)) < MOST:
        return float("inf")
    few, left = (one, list(other)) if len(one) <= len(other) else (other, list(one))
    worst = 0.0
    for box in few:
        alike = [(_between(box, there), at) for at, there in enumerate(left) if there["label"] == box["label"]]
        if not alike:
            return float("inf")
        distance, at = min(alike)
        worst = float(np.maximum(worst, distance))
        left.pop(at)
    return worst


def _between(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    edges = [abs(one["box"][edge] - other["box"][edge]) - ROUNDED for edge in one["box"]]
    return float(np.max([abs(one["score"] - other["score"]), *edges, 0.0]))  # NaN where any is, unlike max()
