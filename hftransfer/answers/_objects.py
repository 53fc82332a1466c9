"""What kinds have in common that find things in a picture: their classes, scores and threshold, and how they look."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hftransfer.answers import _average_precision, _box_scores, _drawn_boxes, _found_boxes
from hftransfer.answers._average_precision import CLASS, CROWD, FOUND_CLASS, SCORE, Pictures, PictureSample
from hftransfer.answers.base import Answer, Learner, Loss, R, Rows
from hftransfer.errors import UserError
from hftransfer.views import Plot, Regions, View
from hftransfer.weighting import ByClass

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig

THRESHOLD = 0.5  # from which score objects are given, before validation rows say: as transformers' pipeline has it


@dataclass(frozen=True)
class Objects(Answer[R]):
    """The part of boxes and of masks of single things that is the same; `table` is a row's numbers, one a thing."""

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rows: int = 0
    usual: tuple[float, ...] = ()  # the middle size of the most common class's boxes, in shares; a picture's pixels
    threshold: float = THRESHOLD
    held: tuple[int, ...] = ()  # how many pictures have no object, one, two ...: crowds aside

    unit = "pictures"
    contradicts = False
    makes_head = True
    in_places = True
    mosaics = True
    padding: ClassVar[Mapping[str, int]] = {"labels": _found_boxes.IGNORED}
    numbers: ClassVar[int] = _found_boxes.LABEL  # of a label, which each thing has

    def table(self, row: Any) -> np.ndarray:
        """Return a row's truth (n, 8), or output (n, 6 or more), as `_average_precision` names the columns."""
        return np.asarray(row)

    def objects(self, output: Any) -> list[dict[str, Any]]:
        """Return what an output gives, from the threshold on, as JSON can hold it."""
        raise NotImplementedError

    # --- truth ---

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        return raw.cast(_found_boxes.arrow(self.feature(encoded=False)))

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no annotation", pc.is_null(truth)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return _found_boxes.Sizes(self, column)

    def encode(self, truth: pa.Array) -> pa.Array:
        return _found_boxes.encoded(truth, self.names, _found_boxes.arrow(self.feature()))

    def counted(self, encoded: pa.Array) -> Self:
        counts = _found_boxes.counts(encoded, len(self.names))
        held = np.bincount(_found_boxes.by_picture(encoded))
        return dataclasses.replace(
            self, counts=tuple(counts.tolist()), rows=len(encoded), held=tuple(held.tolist())
        )  # fmt: skip

    def less(self, encoded: pa.Array) -> Self:
        counts = np.array(self.counts) - _found_boxes.counts(encoded, len(self.names))
        gone = np.bincount(_found_boxes.by_picture(encoded), minlength=len(self.held))
        held = tuple((np.array(self.held, np.int64) - gone).tolist()) if len(gone) == len(self.held) else self.held
        return dataclasses.replace(
            self, counts=tuple(counts.tolist()), rows=self.rows - len(encoded), held=held
        )  # fmt: skip

    def missing(self, split: str, encoded: pa.Array | None = None) -> list[str]:
        from hftransfer.answers import _truth

        counts = self.counts if encoded is None else _found_boxes.counts(encoded, len(self.names))
        absent = [name for name, count in zip(self.names, counts, strict=True) if not count]
        what = "class" if len(absent) == 1 else "classes"
        return [f"{what} {_truth.some(absent)} missing from {split}"] if absent else []

    def suspicions(self, truth: pa.Array, inputs: Mapping[str, pa.Array], columns: Mapping[str, str]) -> list[str]:
        from hftransfer.answers import _truth

        return _truth.nearly_alike(self.names)

    # --- model ---

    def configure(self, settings: Any) -> None:
        settings.id2label = dict(enumerate(self.names))
        settings.label2id = {name: i for i, name in enumerate(self.names)}

    def of_config(self, settings: Any) -> Self:
        return dataclasses.replace(self, names=tuple(str(settings.id2label[i]) for i in sorted(settings.id2label)))

    def loss(self, class_weights: Any = None, smoothing: float = 0.0) -> Loss:
        if smoothing:
            raise UserError(
                "train.label_smoothing_factor needs answers of one class a row", "these are objects in a picture",
                "Drop it.",
            )  # fmt: skip

        def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            # every thing is as many numbers; a batch without one teaches that there is none
            numbers = (labels != _found_boxes.IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            found: torch.Tensor = outputs["loss"] / (numbers / self.numbers).clamp(min=1.0)
            return found

        return loss

    def measured(self, outcomes: Pictures) -> dict[str, float]:
        """Return point values on validation rows."""
        sample = self.sample(outcomes, np.ones((outcomes.n, 1)))
        found = {name: float(self.METRICS[name].value(sample)[0]) for name in self.validated}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    @property
    def validated(self) -> tuple[str, ...]:
        return self.default_metrics[:3]

    # --- scored ---

    def plain(self, truth: Rows, outputs: Rows, as_text: bool) -> tuple[list[Any], list[Any]]:
        raise UserError(
            "a metric of ours is needed", "those of the Hub take no objects in a picture",
            f"Name {self.main_metric} or another of ours.",
        )  # fmt: skip

    def sample(self, outcomes: Any, weights: np.ndarray) -> PictureSample:
        return PictureSample(outcomes, weights)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return tuple(self.METRICS)

    @property
    def main_metric(self) -> str:
        return self.default_metrics[0]

    def calibrated(self, truth: Rows, outputs: Rows) -> Self:
        best = _average_precision.best_threshold(self.outcomes(truth, outputs).by_class())
        return self if best is None else dataclasses.replace(self, threshold=best)

    @property
    def uncalibrated(self) -> Self:
        return dataclasses.replace(self, threshold=0.0)

    def by_class(self) -> ByClass:
        return ByClass(self.names, _box_scores.OF_CLASSES, "ap", lambda sample: sample.support())

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        yield from _box_scores.plots(self.outcomes(truth, outputs))

    def renamed(self, output: Any, places: np.ndarray) -> Any:
        """Return an output with other numbers for its classes; what is of a class that has none (-1) is left out."""
        raise NotImplementedError

    def translated(self, other: Answer[Any]) -> Callable[[Rows], Rows] | None:
        if type(other) is not type(self):
            return None
        known = {name.casefold(): at for at, name in enumerate(self.names)}
        places = np.array([known.get(name.casefold(), -1) for name in other.names])
        if (places < 0).all():
            return None
        return lambda outputs: [self.renamed(row, places) for row in outputs]

    def is_constant(self, outputs: Rows) -> bool:
        tables = map(self.table, outputs)
        first = next(tables)
        return len(first) > 0 and all(row.shape == first.shape and np.allclose(row, first) for row in tables)

    def never(self, truth: Rows, outputs: Rows) -> list[tuple[str, int]]:
        there = np.zeros(len(self.names), np.int64)
        given = there.copy()
        for actual, found in zip(map(self.table, truth), map(self.table, outputs), strict=True):
            np.add.at(there, actual[actual[:, CROWD] == 0, CLASS].astype(np.int64), 1)
            np.add.at(given, found[found[:, SCORE] >= self.threshold, FOUND_CLASS].astype(np.int64), 1)
        return [(name, int(n)) for name, n, m in zip(self.names, there, given, strict=True) if n and not m]

    def badness(self, truth: Any, output: Any) -> float:
        right, given, there = (float(v[0]) for v in self.outcomes([truth], [output]).decisions)
        return 1.0 - 2 * right / (given + there) if given + there else 0.0

    def sureness(self, output: Any) -> float | None:
        found = self.table(output)
        return float(found[0, SCORE]) if len(found) else None

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        objects = self.objects(output)
        picture = _drawn_boxes.drawn(next(iter(row.values()), None), objects)
        return {"objects": objects, **({} if picture is None else {"drawn": picture})}

    def plainly(self, row: Mapping[str, Any], output: Any) -> dict[str, Any]:
        return self.uncalibrated.to_json({}, output)

    def files(self, answer: Mapping[str, Any]) -> dict[str, bytes]:
        return {"drawn.png": base64.b64decode(answer["drawn"])} if answer.get("drawn") else {}

    def in_words(self, stored: Any) -> Any:
        return _drawn_boxes.in_words(stored, self.threshold) if isinstance(stored, list) else stored

    def view(self, answer: Mapping[str, Any]) -> View:
        found = []
        for one in answer["objects"]:
            left, top, right, bottom = (one["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax"))
            found.append((one["label"], one["score"], (left, top, right - left, bottom - top)))
        return Regions(tuple(found), drawn=answer.get("drawn"))

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **dataclasses.asdict(self)}

    def restore(self, noted: Mapping[str, Any]) -> Self:
        return type(self)(
            tuple(noted["names"]), tuple(noted["counts"]), int(noted["rows"]), tuple(noted["usual"]),
            float(noted["threshold"]), tuple(noted.get("held", ())),
        )  # fmt: skip
