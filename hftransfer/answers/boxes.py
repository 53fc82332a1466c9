"""boxes: where things are in a picture, and what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hftransfer.answers import _box_scores, _drawn_boxes, _found_boxes
from hftransfer.answers._average_precision import SCORE, Pictures
from hftransfer.answers._objects import Objects
from hftransfer.answers.base import Rows, Trivial
from hftransfer.weighting import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


@dataclass(frozen=True)
class Boxes(Objects[np.ndarray]):
    """Truth is a list of (n, 8), outputs are a list of (n, 6), as `_average_precision` names their columns."""

    kind = "boxes"
    heeds = frozenset({"boxes", "label_names"})
    needs = "list of boxes with their classes"
    annotated = True
    backbone_rate = 0.1
    METRICS: ClassVar[Mapping[str, Metric]] = _box_scores.METRICS

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        return _found_boxes.is_truth(feature)

    def feature(self, encoded: bool = True) -> Any:
        return _found_boxes.feature(encoded)

    def truth(self, encoded: pa.Array) -> list[np.ndarray]:
        return _found_boxes.tables(encoded)

    def changed(self, truth: Any, change: Any) -> Any:
        boxes, kept = change.of_boxes(_found_boxes.places(truth))
        width, height = change.shown
        left = [one for one, stays in zip(truth, kept, strict=True) if stays]
        return [
            {**one, "x": x, "y": y, "width": w, "height": h, "picture_width": width, "picture_height": height}
            for one, (x, y, w, h) in zip(left, boxes.tolist(), strict=True)
        ]

    def together(self, truths: Sequence[Any], mosaic: Any) -> Any:
        sides = {"picture_width": mosaic.size[0], "picture_height": mosaic.size[1]}
        return [
            {**one, "x": one["x"] + left, "y": one["y"] + top, **sides}
            for truth, (change, (left, top)) in zip(truths, mosaic.pieces, strict=True)
            for one in self.changed(truth, change)
        ]

    def suits(self, truth: Any, change: Any) -> bool:
        seen = [one for one in truth if not one["crowd"]]
        return not seen or bool(change.of_boxes(_found_boxes.places(seen))[1].any())

    # --- model ---

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Self, Any, list[str]]:
        """Give pictures one size where a model is told of no padding: it would take that for picture."""
        from hftransfer.answers import _detector

        size = _detector.one_size(processor, settings)
        if size is None:
            return self, processor, []
        processor.size = type(processor.size)(height=size[0], width=size[1])
        told = f"every picture is made {size[1]} x {size[0]}: {settings.model_type} is told of no padding"
        return self, processor, [told]

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        if truth is None or "_size" not in encoded:  # asked for its length alone: pictures are not opened for that
            return {}
        made = [
            _found_boxes.target(truth[row], size) for row, size in zip(encoded["_row"], encoded["_size"], strict=True)
        ]
        return {"targets": [one for one, _ in made], "labels": [label for _, label in made]}

    def attach(self, model: Any) -> Any:
        from hftransfer.answers import _detector

        return _detector.ready(model, self.rows, sum(self.counts))

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        from hftransfer.answers import _detector

        return _detector.best_of(logits, len(self.names))

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        truth, outputs = _found_boxes.of_batch(labels, np.asarray(kept, np.float64))
        return self.measured(self.outcomes(truth, outputs))

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[np.ndarray]:
        given = {name: batch[name] for name in ("pixel_values", "pixel_mask") if name in batch}
        sizes = [(height, width) for width, height in batch["_size"]]
        found = processor.post_process_object_detection(model(**given), threshold=0.0, target_sizes=sizes)
        return [_found_boxes.output(one) for one in found]

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        return _found_boxes.columns(truth, outputs, self.names)

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        return _found_boxes.of_columns(table, self.names)

    def outcomes(self, truth: Rows, outputs: Rows) -> Pictures:
        return Pictures(truth, outputs, len(self.names), self.threshold)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return the usual box of the commonest class, side by side all over the picture."""
        boxes = _found_boxes.grid(self.usual, int(np.argmax(self.counts)), truth)
        about = f"puts the usual box of `{self.names[int(np.argmax(self.counts))]}` side by side over every picture"
        return Trivial("usual box on a grid", about, boxes)

    def renamed(self, output: np.ndarray, places: np.ndarray) -> np.ndarray:
        return _found_boxes.renamed(output, places)

    # --- shown ---

    def objects(self, output: np.ndarray) -> list[dict[str, Any]]:
        return [_found_boxes.as_json(one, self.names) for one in output[output[:, SCORE] >= self.threshold]]

    def drawn(self, picture: Any, truth: Any, largest: int) -> str | None:
        found = [[*(one[name] for name in _found_boxes.PLACE), 1.0, one["label"]] for one in truth]
        objects = [_found_boxes.as_json(np.array(one), self.names) for one in found]
        return _drawn_boxes.drawn(picture, objects, largest)

    def as_json(self, answer: Any) -> dict[str, Any]:
        return {"objects": list(answer)}

    @property
    def adds(self) -> str:
        return f", which gives boxes from a score of {self.threshold:.3f}, chosen on validation rows"

    def limits(self) -> list[str]:
        return [
            f"Boxes are given from a score of {self.threshold:.3f} on, all classes alike; a score is no probability.",
            f"It gives at most {_found_boxes.MOST} boxes a picture, and cannot count more.",
        ]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        return _found_boxes.apart(one["objects"], other["objects"])


ANSWER = Boxes()
