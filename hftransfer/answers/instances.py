"""instances: a mask for each single object in a picture, and what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hftransfer.answers import (
    _box_scores,
    _drawn_boxes,
    _found_boxes,
    _found_masks,
    _mask_files,
    _mask_models,
    _numbered_masks,
)
from hftransfer.answers._average_precision import SCORE
from hftransfer.answers._kept_masks import Kept, Lazy, keep
from hftransfer.answers._mask_truth import SIZE
from hftransfer.answers._objects import Objects
from hftransfer.answers.base import Answer, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.weighting import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig

SUBTASK = "instance"  # what transformers' own pipeline calls it


@dataclass(frozen=True)
class Instances(Objects[Any]):
    """Truth and outputs are lists of bytes, the things of a picture as `_found_masks.packed` has them."""

    kind = "instances"
    heeds = frozenset({"boxes", "ignore_value", "label_names"})
    needs = "list of objects with their masks"
    outlined = True
    apart = True
    stored_at_once = 16  # of a picture of 12 megapixels the runs of 100 masks can be 16 MB
    numbers = _found_masks.LABEL
    METRICS: ClassVar[Mapping[str, Metric]] = _box_scores.MASKS

    def table(self, row: Any) -> np.ndarray:
        return _found_masks.unpacked(bytes(row)).table

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        return _found_masks.is_truth(feature)

    def check_feature(self, feature: Any) -> None:
        if not (self.fits(feature) or _mask_files.may_hold(feature)):
            raise UserError(
                "outlines or masks of single objects are needed to tell them apart", "the source has neither",
                "Give polygons or runs (COCO, labelme, Label Studio, CVAT, YOLO), or masks with a number an object.",
            )  # fmt: skip

    def formed(self, values: pa.Array | None, feature: Any, column: str, config: DataConfig) -> tuple[Self, list[str]]:
        if config.tile is not None:
            raise UserError(
                "whole pictures are needed where single objects are told apart", f"data.tile is {config.tile}: tiles "
                "would cut objects in two", "Drop data.tile, or give pictures that are cut already.",
            )  # fmt: skip
        if self.fits(feature):
            return self, []
        return self, [_numbered_masks.said(config)]

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        if self.fits(feature):
            return super().canonical(raw, feature, config)
        return _found_masks.column(_numbered_masks.things(_mask_files.entries(raw), config))

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        yield from super().unusable(truth, inputs)
        yield SIZE, _mask_files.other_sizes(_found_masks.sizes_of(truth), inputs)

    def feature(self, encoded: bool = True) -> Any:
        return _found_masks.feature(encoded)

    def truth(self, encoded: pa.Array) -> Lazy:
        return Lazy(range(len(encoded)), lambda row: _found_masks.row_of(encoded[row].as_py()))

    def changed(self, truth: Any, change: Any) -> Any:
        return _found_masks.moved(truth, change)

    def together(self, truths: Sequence[Any], mosaic: Any) -> Any:
        return [
            _found_masks.pasted(one, corner, mosaic.size)
            for truth, (change, corner) in zip(truths, mosaic.pieces, strict=True)
            for one in self.changed(truth, change)
        ]

    def suits(self, truth: Any, change: Any) -> bool:
        seen = [one for one in truth if not one["crowd"]]
        return not seen or bool(self.changed(seen, change))

    # --- model ---

    def configure(self, settings: Any) -> None:
        super().configure(settings)
        _mask_models.configure(settings, SUBTASK)

    def claims(self, settings: Any) -> bool:
        return getattr(settings, _mask_models.SUBTASK, None) == SUBTASK

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        shown = encoded.get("pixel_values")
        if truth is None or shown is None:
            return {}
        made = [_found_masks.target(truth[row], (shown.shape[-1], shown.shape[-2])) for row in encoded["_row"]]
        return {"targets": [one for one, _ in made], "labels": [label for _, label in made]}

    def attach(self, model: Any) -> Any:
        from hftransfer.answers import _single_masks

        return _single_masks.attach(model, self.rows, sum(self.counts))

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Self, Any, list[str]]:
        if not _mask_models.asks_queries(settings):
            raise UserError(
                "a MaskFormer or Mask2Former is needed to tell single objects apart", f"this one is of type "
                f"{settings.model_type!r}, which gives each pixel a class",
                "Choose such a model (facebook/mask2former-swin-tiny-coco-instance), or drop data.problem_type.",
            )  # fmt: skip
        processor, said = _mask_models.reader(processor)
        most = min(_mask_models.queries(settings), _found_boxes.MOST)
        more = sum(self.held[most + 1 :])
        if more:
            said.append(
                f"{more:,} of {self.rows:,} pictures of train hold more than {most} objects, which is as many as this "
                "model finds in one: the rest stays unfound; cut such pictures into parts"
            )
        return self, processor, said

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        return logits[-1]  # what the model was compared by: see `_single_masks`

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return self.measured(_found_masks.of_batch(labels, kept, len(self.names), self.threshold))

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Any]:
        from hftransfer.answers import _single_masks

        return [keep(one) for one in _single_masks.asked(model, batch, processor)]

    def join(self, parts: Sequence[Any]) -> Any:
        return parts[0] if isinstance(parts[0], Kept) else keep(parts[0])

    def gathered(self, outputs: list[Any]) -> Rows:
        return Lazy(outputs)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        return _found_masks.columns(truth, outputs, self.names)

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        return _found_masks.of_columns(table, self.names)

    def is_finite(self, output: Any) -> bool:
        return bool(np.isfinite(self.table(output)).all())

    def outcomes(self, truth: Rows, outputs: Rows) -> _found_masks.Masks:
        return _found_masks.of_rows(truth, outputs, len(self.names), self.threshold)

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        return sum(a != b for a, b in zip(one, other, strict=True))

    def renamed(self, output: Any, places: np.ndarray) -> bytes:
        return _found_masks.renamed(bytes(output), places)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return the usual box of the commonest class, filled, side by side all over the picture."""
        most = int(np.argmax(self.counts))
        return Trivial(
            "usual box on a grid, filled",
            f"puts the usual box of `{self.names[most]}`, filled, side by side over every picture",
            Lazy(range(len(truth)), lambda row: _found_masks.grid(self.usual, most, truth[row])),
        )

    # --- shown ---

    def objects(self, output: Any) -> list[dict[str, Any]]:
        held = _found_masks.unpacked(bytes(output))
        return [
            _found_masks.as_json(one, runs, self.names)
            for one, runs in zip(held.table, held.runs, strict=True)
            if one[SCORE] >= self.threshold
        ]

    def drawn(self, picture: Any, truth: Any, largest: int) -> str | None:
        sure = dataclasses.replace(self, threshold=0.0)
        return _drawn_boxes.drawn(picture, sure.objects(_found_masks.as_found(truth)), largest)

    def as_json(self, answer: Any) -> dict[str, Any]:
        return _found_masks.of_pipeline(answer)

    @property
    def in_pipeline(self) -> str:
        return f', subtask="{SUBTASK}", threshold={self.threshold:.6f}'

    @property
    def adds(self) -> str:
        return (
            f", which gives whole masks, also of what others lie on, from a score of {self.threshold:.3f}, chosen on "
            "validation rows"
        )

    def limits(self) -> list[str]:
        return [
            f"Masks are given from a score of {self.threshold:.3f} on, all classes alike; a score is no probability.",
            f"It gives at most {_found_boxes.MOST} objects a picture, and no more than it has queries.",
        ]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        return _found_masks.apart(one["objects"], other["objects"])

    may_differ = 0.05  # pictures of which more pixels than rounding moves lie on an edge


ANSWER = Instances()
