"""What the truth of masks is: files of values or colours become classes, told by train, kept as small PNGs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hftransfer.answers import _mask_classes, _mask_files
from hftransfer.answers._kept_masks import Lazy
from hftransfer.answers._mask_files import NOTHING
from hftransfer.answers.base import Answer, Learner
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig

GRID = 16  # places a side, for what is usual at each
SIZE = "a mask of another size than its picture"


@dataclass(frozen=True)
class MaskTruth(Answer[Any]):
    """The part of masks that is about truth: a list of grey PNGs of class numbers."""

    names: tuple[str, ...] = ()
    values: tuple[int, ...] = ()  # what each class is in the masks: a number, or a colour as 0xRRGGBB
    coloured: bool = False
    ignored: int | None = None  # what pixels have that are neither learned nor measured
    background: int | None = None  # the class that is around the objects
    counts: tuple[int, ...] = ()  # pixels of each class in train
    pictures: tuple[int, ...] = ()  # and pictures that have it
    usual: tuple[int, ...] = ()  # the commonest class at each place of a grid
    rows: int = 0
    queries: bool = False  # whether the model gives queries a mask and a class each
    said: _mask_classes.Said | None = None
    told: tuple[str, ...] = ()

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        return _mask_files.may_hold(feature)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named

    def formed(self, values: pa.Array | None, feature: Any, column: str, config: DataConfig) -> tuple[Self, list[str]]:
        said = _mask_classes.Said(
            config.label_names, config.label_colors, config.ignore_value, config.background_class
        )
        return dataclasses.replace(self, said=said), []

    def feature(self, encoded: bool = True) -> Any:
        from datasets import Value

        return Value("binary")

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        values = _mask_files.entries(raw)
        looks = _mask_files.over(values, _mask_files.look)
        _refuse(looks, values)
        return _mask_files.table(looks)

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield _mask_files.NO_MASK, pc.is_null(truth)
        found = truth.to_pylist()
        reasons = [None if row is None else row["reason"] for row in found]
        for reason in dict.fromkeys(filter(None, reasons)):
            yield reason, [one == reason for one in reasons]
        sizes = [
            (row["width"], row["height"]) if row is not None and row["png"] is not None else None for row in found
        ]
        yield SIZE, _mask_files.other_sizes(sizes, inputs)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return _mask_classes.Values(self, self.said or _mask_classes.Said())

    def guessed(self) -> list[str]:
        return list(self.told)

    def refuse_unseen(self, truth: pa.Array, row_ids: pa.Array, split: str) -> None:
        known = {*self.values, self.ignored}
        strange: dict[int, list[str]] = {}
        for row, name in zip(truth.to_pylist(), row_ids.to_pylist(), strict=True):
            for value in [] if row is None else self._values(row):
                if value not in known:
                    strange.setdefault(value, []).append(name)
        if strange:
            values = ", ".join(_mask_files.written(v) if self.coloured else str(v) for v in sorted(strange)[:6])
            where = ", ".join(next(iter(strange.values()))[:3])
            raise UserError(
                f"the classes of {split} must be among those of train ({', '.join(self.names[:10])})",
                f"{split} also has pixels of {values} ({where})",
                "Mend the masks, name all classes in data.label_names, or set data.ignore_value.",
            )

    def _values(self, row: Mapping[str, Any]) -> list[int]:
        """Return the values of a mask that was looked at, in the way in which these masks are read."""
        if self.coloured:
            return list(row["colours"])
        if row["coding"] == _mask_files.COLOUR:
            return [_mask_classes.grey_of(colour) for colour in row["colours"]]
        return list(row["values"])

    def encode(self, truth: pa.Array) -> pa.Array:
        import pyarrow as pa

        place = {value: number for number, value in enumerate(self.values)}

        def classes(row: Mapping[str, Any] | None) -> bytes | None:
            if row is None or row["png"] is None:
                return None
            into = np.array([place.get(value, NOTHING) for value in self._values(row)], np.uint8)
            return _mask_files.to_png(into[_mask_files.of_png(row["png"])])

        return pa.array(_mask_files.over(truth.to_pylist(), classes), pa.binary())

    def truth(self, encoded: pa.Array) -> Lazy:
        return Lazy(range(len(encoded)), lambda row: encoded[row].as_py())

    def counted(self, encoded: pa.Array) -> Self:
        size = len(self.names)

        def looked(png: bytes | None) -> tuple[np.ndarray, np.ndarray]:
            classes = np.full((1, 1), NOTHING, np.uint8) if png is None else _mask_files.of_png(png)
            small = _mask_files.resized(classes, (GRID, GRID))
            return np.bincount(classes.ravel(), minlength=256)[:size], small

        pixels, pictures = np.zeros(size, np.int64), np.zeros(size, np.int64)
        at = np.zeros((GRID * GRID, size), np.int64)
        places = np.arange(GRID * GRID)
        for counts, small in _mask_files.over(encoded.to_pylist(), looked):
            pixels += counts
            pictures += counts > 0
            known = small.ravel() < size
            np.add.at(at, (places[known], small.ravel()[known]), 1)
        at = at + (pixels / max(pixels.sum(), 1) * 0.5)  # of equals the commonest
        return dataclasses.replace(
            self, counts=tuple(pixels.tolist()), pictures=tuple(pictures.tolist()),
            usual=tuple(at.argmax(1).tolist()), rows=len(encoded),
        )  # fmt: skip

    def missing(self, split: str, encoded: pa.Array | None = None) -> list[str]:
        if encoded is None:
            found = np.array(self.counts)
        else:
            parts = _mask_files.over(encoded.drop_null().to_pylist(), lambda png: np.unique(_mask_files.of_png(png)))
            found = np.isin(np.arange(len(self.names)), np.concatenate(parts) if parts else [])
        absent = [name for name, there in zip(self.names, found, strict=True) if not there]
        shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
        return [f"{'class' if len(absent) == 1 else 'classes'} {shown} missing from {split}"] if absent else []

    def changed(self, truth: Any, change: Any) -> Any:
        import PIL.Image

        moved = change.of_mask(PIL.Image.fromarray(_mask_files.of_png(truth)))
        return _mask_files.to_png(np.asarray(moved))

    def together(self, truths: Sequence[Any], mosaic: Any) -> Any:
        width, height = mosaic.size
        whole = np.full((height, width), NOTHING, np.uint8)
        for truth, (change, (left, top)) in zip(truths, mosaic.pieces, strict=True):
            part = _mask_files.of_png(self.changed(truth, change))
            whole[top : top + part.shape[0], left : left + part.shape[1]] = part[: height - top, : width - left]
        return _mask_files.to_png(whole)

    def suits(self, truth: Any, change: Any) -> bool:
        if self.ignored is None:
            return True
        import PIL.Image

        moved = change.of_mask(PIL.Image.fromarray(_mask_files.of_png(truth)))
        return bool((np.asarray(moved) != NOTHING).any())


def _refuse(looks: Sequence[_mask_files.Look], values: Sequence[Any]) -> None:
    """Raise UserError where most masks hold so many values that they are none of classes."""
    many = [place for place, one in enumerate(looks) if one.reason in (_mask_files.MANY, _mask_files.SMEARED)]
    known = sum(one.reason != _mask_files.NO_MASK for one in looks)
    if 2 * len(many) <= known:
        return
    first = looks[many[0]]
    what = "colours" if first.coding == _mask_files.COLOUR else "values"
    named = str(values[many[0]].get("path") or "the first").rpartition("/")[2]
    jpeg = first.reason == _mask_files.SMEARED
    raise UserError(
        "masks with one value or colour a class are needed",
        f"{len(many):,} of {known:,} are not so: {named} has {first.found:,} {what}"
        + (" (a JPEG, which changes values along every edge)" if jpeg else ""),
        "Save the masks as PNG from where they were drawn, resized by nearest; or name another column.",
    )
