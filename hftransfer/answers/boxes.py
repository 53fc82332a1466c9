"""boxes: where things are in a picture, and what they are."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hftransfer.answers import _average_precision, _box_scores, _drawn_boxes, _found_boxes
from hftransfer.answers._average_precision import CLASS, CROWD, FOUND_CLASS, SCORE, Pictures, PictureSample
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Plot, Regions, View
from hftransfer.weighting import ByClass, Metric

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig

THRESHOLD = 0.5  # from which score boxes are given, before validation rows say: as transformers' pipeline has it


@dataclass(frozen=True)
class Boxes(Answer[np.ndarray]):
    """Truth is a list of (n, 8), outputs are a list of (n, 6), as `_average_precision` names their columns."""

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rows: int = 0
    usual: tuple[float, ...] = ()  # the middle size of the most common class's boxes, in shares; a picture's pixels
    threshold: float = THRESHOLD

    kind = "boxes"
    needs = "list of boxes with their classes"
    unit = "pictures"
    contradicts = False
    makes_head = True
    in_places = True
    annotated = True
    mosaics = True
    padding: ClassVar[Mapping[str, int]] = {"labels": -100}
    backbone_rate = 0.1
    METRICS: ClassVar[Mapping[str, Metric]] = _box_scores.METRICS

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        return _found_boxes.is_truth(feature)

    def feature(self, encoded: bool = True) -> Any:
        return _found_boxes.feature(encoded)

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        return raw.cast(_found_boxes.arrow(encoded=False))

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no annotation", pc.is_null(truth)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return _found_boxes.Sizes(self, column)

    def encode(self, truth: pa.Array) -> pa.Array:
        return _found_boxes.encoded(truth, self.names)

    def counted(self, encoded: pa.Array) -> Boxes:
        counts = _found_boxes.counts(encoded, len(self.names))
        return dataclasses.replace(self, counts=tuple(counts.tolist()), rows=len(encoded))

    def less(self, encoded: pa.Array) -> Boxes:
        counts = np.array(self.counts) - _found_boxes.counts(encoded, len(self.names))
        return dataclasses.replace(self, counts=tuple(counts.tolist()), rows=self.rows - len(encoded))

    def missing(self, split: str, encoded: pa.Array | None = None) -> list[str]:
        from hftransfer.answers import _truth

        counts = self.counts if encoded is None else _found_boxes.counts(encoded, len(self.names))
        absent = [name for name, count in zip(self.names, counts, strict=True) if not count]
        what = "class" if len(absent) == 1 else "classes"
        return [f"{what} {_truth.some(absent)} missing from {split}"] if absent else []

    def suspicions(self, truth: pa.Array, inputs: Mapping[str, pa.Array], columns: Mapping[str, str]) -> list[str]:
        from hftransfer.answers import _truth

        return _truth.nearly_alike(self.names)

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

    def configure(self, settings: Any) -> None:
        settings.id2label = dict(enumerate(self.names))
        settings.label2id = {name: i for i, name in enumerate(self.names)}

    def of_config(self, settings: Any) -> Boxes:
        return dataclasses.replace(self, names=tuple(str(settings.id2label[i]) for i in sorted(settings.id2label)))

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

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        if smoothing:
            raise UserError(
                "train.label_smoothing_factor needs answers of one class a row", "these are boxes", "Drop it."
            )

        def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            # every box is as many numbers; a batch without one teaches that there is none
            numbers = (labels != _found_boxes.IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            found: torch.Tensor = outputs["loss"] / (numbers / _found_boxes.LABEL).clamp(min=1.0)
            return found

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        from hftransfer.answers import _detector

        return _detector.best_of(logits, len(self.names))

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        truth, outputs = _found_boxes.of_batch(labels, np.asarray(kept, np.float64))
        sample = self.sample(self.outcomes(truth, outputs), np.ones((len(truth), 1)))
        found = {name: float(self.METRICS[name].value(sample)[0]) for name in self.validated}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    @property
    def validated(self) -> tuple[str, ...]:
        return ("map", "map_50", "map_75")

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

    def plain(self, truth: Rows, outputs: Rows, as_text: bool) -> tuple[list[Any], list[Any]]:
        raise UserError("a metric of ours is needed", "those of the Hub take no boxes", "Name map or another of ours.")

    def outcomes(self, truth: Rows, outputs: Rows) -> Pictures:
        return Pictures(truth, outputs, len(self.names), self.threshold)

    def sample(self, outcomes: Any, weights: np.ndarray) -> PictureSample:
        return PictureSample(outcomes, weights)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return tuple(self.METRICS)

    @property
    def main_metric(self) -> str:
        return "map"

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return the usual box of the commonest class, side by side all over the picture."""
        boxes = _found_boxes.grid(self.usual, int(np.argmax(self.counts)), truth)
        about = f"puts the usual box of `{self.names[int(np.argmax(self.counts))]}` side by side over every picture"
        return Trivial("usual box on a grid", about, boxes)

    def calibrated(self, truth: Rows, outputs: Rows) -> Boxes:
        found = self.outcomes(truth, outputs).by_class()
        best = _average_precision.best_threshold(found)
        return self if best is None else dataclasses.replace(self, threshold=best)

    @property
    def uncalibrated(self) -> Boxes:
        return dataclasses.replace(self, threshold=0.0)

    def by_class(self) -> ByClass:
        return ByClass(self.names, _box_scores.OF_CLASSES, "ap", lambda sample: sample.support())

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        yield from _box_scores.plots(self.outcomes(truth, outputs))

    def translated(self, other: Answer[Any]) -> Callable[[Rows], Rows] | None:
        if not isinstance(other, Boxes):
            return None
        known = {name.casefold(): at for at, name in enumerate(self.names)}
        places = np.array([known.get(name.casefold(), -1) for name in other.names])
        if (places < 0).all():
            return None
        return lambda outputs: [_found_boxes.renamed(row, places) for row in outputs]

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        return sum(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    def is_constant(self, outputs: Rows) -> bool:
        first = outputs[0]
        return len(first) > 0 and all(row.shape == first.shape and np.allclose(row, first) for row in outputs[1:])

    def never(self, truth: Rows, outputs: Rows) -> list[tuple[str, int]]:
        there = np.zeros(len(self.names), np.int64)
        given = there.copy()
        for actual, found in zip(truth, outputs, strict=True):
            np.add.at(there, actual[actual[:, CROWD] == 0, CLASS].astype(np.int64), 1)
            np.add.at(given, found[found[:, SCORE] >= self.threshold, FOUND_CLASS].astype(np.int64), 1)
        return [(name, int(n)) for name, n, m in zip(self.names, there, given, strict=True) if n and not m]

    def badness(self, truth: Any, output: np.ndarray) -> float:
        right, given, there = (float(v[0]) for v in self.outcomes([truth], [output]).decisions)
        return 1.0 - 2 * right / (given + there) if given + there else 0.0

    def sureness(self, output: np.ndarray) -> float | None:
        return float(output[0, SCORE]) if len(output) else None

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: np.ndarray, top_k: int | None = None) -> dict[str, Any]:
        given = output[output[:, SCORE] >= self.threshold]
        objects = [_found_boxes.as_json(one, self.names) for one in given]
        picture = _drawn_boxes.drawn(next(iter(row.values()), None), objects)
        return {"objects": objects, **({} if picture is None else {"drawn": picture})}

    def drawn(self, picture: Any, truth: Any, largest: int) -> str | None:
        found = [[*(one[name] for name in _found_boxes.PLACE), 1.0, one["label"]] for one in truth]
        objects = [_found_boxes.as_json(np.array(one), self.names) for one in found]
        return _drawn_boxes.drawn(picture, objects, largest)

    def plainly(self, row: Mapping[str, Any], output: np.ndarray) -> dict[str, Any]:
        return self.uncalibrated.to_json({}, output)

    def files(self, answer: Mapping[str, Any]) -> dict[str, bytes]:
        return {"drawn.png": base64.b64decode(answer["drawn"])} if answer.get("drawn") else {}

    def in_words(self, stored: Any) -> Any:
        return _drawn_boxes.in_words(stored, self.threshold) if isinstance(stored, list) else stored

    def as_json(self, answer: Any) -> dict[str, Any]:
        return {"objects": list(answer)}

    def view(self, answer: Mapping[str, Any]) -> View:
        found = []
        for one in answer["objects"]:
            left, top, right, bottom = (one["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax"))
            found.append((one["label"], one["score"], (left, top, right - left, bottom - top)))
        return Regions(tuple(found), drawn=answer.get("drawn"))

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

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **dataclasses.asdict(self)}

    def restore(self, noted: Mapping[str, Any]) -> Boxes:
        return Boxes(
            tuple(noted["names"]), tuple(noted["counts"]), int(noted["rows"]), tuple(noted["usual"]),
            float(noted["threshold"]),
        )  # fmt: skip


ANSWER = Boxes()
