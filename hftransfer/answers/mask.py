"""mask: a class for every pixel of a picture."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from hftransfer.answers import _mask_classes, _mask_files, _mask_models, _mask_scores, _mask_views
from hftransfer.answers._head import IGNORED, weights_of
from hftransfer.answers._kept_masks import Kept, Lazy, keep
from hftransfer.answers._mask_files import NOTHING
from hftransfer.answers._mask_scores import MaskSample, OfMasks
from hftransfer.answers._mask_truth import GRID, MaskTruth
from hftransfer.answers.base import Answer, Loss, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Plot, View
from hftransfer.weighting import ByClass

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


SUBTASK = "semantic"  # what transformers' own pipeline calls it


class Piece(NamedTuple):
    """What was answered of a part of a picture: its classes as a PNG, and where it lies (left, top) in what size."""

    png: Kept | bytes  # bytes of a piece that another process sent
    corner: tuple[int, int] = (0, 0)
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mask(MaskTruth):
    """Truth and outputs are lists of grey PNGs: the number of a pixel's class, 255 where none counts."""

    kind = "mask"
    heeds = frozenset({"background_class", "boxes", "ignore_value", "label_colors", "label_names"})
    needs = "mask (a picture of classes)"
    unit = "pictures"
    contradicts = False
    makes_head = True
    sums = True
    in_places = True
    outlined = True
    mosaics = True
    stored_at_once = 256
    suffixes: ClassVar[frozenset[str]] = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg", ".webp"})

    # --- model ---

    def configure(self, settings: Any) -> None:
        settings.id2label = dict(enumerate(self.names))
        settings.label2id = {name: i for i, name in enumerate(self.names)}
        _mask_models.configure(settings, SUBTASK)

    def of_config(self, settings: Any) -> Mask:
        names = tuple(str(settings.id2label[i]) for i in sorted(settings.id2label))
        background = next((i for i, name in enumerate(names) if name.lower() in _mask_classes.SURROUND), None)
        queries = _mask_models.asks_queries(settings)
        return dataclasses.replace(self, names=names, background=background, queries=queries)

    def claims(self, settings: Any) -> bool:
        return getattr(settings, _mask_models.SUBTASK, SUBTASK) == SUBTASK

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Mask, Any, list[str]]:
        processor, said = _mask_models.reader(processor)
        return dataclasses.replace(self, queries=_mask_models.asks_queries(settings)), processor, said

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        import torch

        if truth is None or "pixel_values" not in encoded:
            return {}
        height, width = encoded["pixel_values"].shape[-2:]
        found = [_mask_files.resized(_mask_files.of_png(png), (width, height)) for png in truth]
        labels = torch.from_numpy(np.stack(found).astype(np.int64))
        labels[labels == NOTHING] = IGNORED
        return {"labels": labels, **({"targets": labels} if self.queries else {})}

    def attach(self, model: Any) -> Any:
        return _mask_models.attach(model) if self.queries else model

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        if self.queries and (class_weights is not None or smoothing):
            raise UserError(
                "a model that gives each pixel a class is needed for train.class_weights and label smoothing",
                "this one gives queries a mask and a class each, and has a loss of its own", "Drop them.",
            )  # fmt: skip
        return _mask_models.cross_entropy(class_weights, smoothing)

    def class_weights(self, asked: Any, rows: int) -> list[float] | None:
        return weights_of(asked, self.names, self.counts)

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        return _mask_models.confusions(logits, labels)

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return _mask_scores.measured(np.asarray(kept).sum(axis=0), self.background)

    @property
    def validated(self) -> tuple[str, ...]:
        return ("mean_iou", "mean_dice", "pixel_accuracy")

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Piece]:
        found = _mask_models.asked(model, batch, processor)
        tiles = batch.get("_tile") or [None] * len(found)
        return [
            Piece(keep(_mask_files.to_png(one)), *(() if tile is None else (tile.window[:2], tile.size)))
            for one, tile in zip(found, tiles, strict=True)
        ]

    def join(self, parts: Sequence[Piece]) -> Any:
        if len(parts) == 1:
            return parts[0].png if isinstance(parts[0].png, Kept) else keep(parts[0].png)
        whole = _mask_views.joined([(_mask_files.of_png(bytes(one.png)), *one[1:]) for one in parts])
        return keep(_mask_files.to_png(whole))

    def gathered(self, outputs: list[Any]) -> Rows:
        return Lazy(outputs)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        right = self.outcomes(truth, outputs)
        share = right.right.sum(1) / np.maximum(right.actual.sum(1), 1)
        return {
            "label": pa.array(list(truth), pa.binary()),
            "prediction": pa.array(list(outputs), pa.binary()),
            "pixel_accuracy": pa.array(share, pa.float64()),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        return table["label"].to_pylist(), table["prediction"].to_pylist()

    def plain(self, truth: Rows, outputs: Rows, as_text: bool) -> tuple[list[Any], list[Any]]:
        return [_mask_files.of_png(png) for png in truth], [_mask_files.of_png(png) for png in outputs]

    def is_finite(self, output: Any) -> bool:
        return True

    def outcomes(self, truth: Rows, outputs: Rows) -> OfMasks:
        return OfMasks(truth, outputs, len(self.names), self.background)

    def sample(self, outcomes: Any, weights: np.ndarray) -> MaskSample:
        return MaskSample(outcomes, weights)

    METRICS: ClassVar = _mask_scores.METRICS

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("mean_iou", "mean_dice", "boundary_f1", "pixel_accuracy")

    @property
    def main_metric(self) -> str:
        return "mean_iou"

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        return sum(a != b for a, b in zip(one, other, strict=True))

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return the better of two on these pictures: the commonest class everywhere, or that of each place."""
        most = int(np.argmax(self.counts))
        everywhere = Trivial(
            f"{self.names[most]} everywhere", "gives every pixel the commonest class of train",
            Lazy(range(len(truth)), lambda row: self._spread(truth[row], np.full((GRID, GRID), most))),
        )  # fmt: skip
        placed = Trivial(
            "usual class at each place", f"gives a pixel the commonest class there, on {GRID} x {GRID} places",
            Lazy(range(len(truth)), lambda row: self._spread(truth[row], np.reshape(self.usual, (GRID, GRID)))),
        )  # fmt: skip

        def score(trivial: Trivial) -> float:
            pairs = zip(truth, trivial.outputs, strict=True)
            counts = (
                _mask_scores.confusion(_mask_files.of_png(real), _mask_files.of_png(given), len(self.names))
                for real, given in pairs
            )
            pooled = sum(counts, np.zeros((len(self.names),) * 2, np.int64))
            return _mask_scores.measured(pooled, self.background).get("mean_iou", 0.0)

        return placed if score(placed) > score(everywhere) else everywhere

    def _spread(self, png: bytes, grid: np.ndarray) -> bytes:
        return _mask_files.to_png(_mask_files.resized(grid.astype(np.uint8), _mask_files.size_of(png)))

    def by_class(self) -> ByClass:
        return ByClass(
            self.names,
            {"iou": _mask_scores.iou, "dice": _mask_scores.dice, "precision": _mask_scores.precision,
             "recall": _mask_scores.recall, "boundary_f1": _mask_scores.boundary},
            "iou", lambda sample: sample.pictures,
        )  # fmt: skip

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        outcomes = self.outcomes(truth, outputs)
        value = _mask_scores.measured(outcomes.pooled, self.background).get("mean_iou", float("nan"))
        yield Plot(
            "confusion_matrix", "Confusion matrix of the test pictures' pixels", "matrix",
            {"headline": f"mean IoU {value:.3f}, {outcomes.pooled.sum():,} pixels", "labels": list(self.names),
             "rows": "true", "columns": "predicted", "counts": outcomes.pooled.tolist()},
        )  # fmt: skip

    def is_constant(self, outputs: Rows) -> bool:
        held = {int(value) for png in outputs for value in np.unique(_mask_files.of_png(png))}
        return len(held) == 1

    def never(self, truth: Rows, outputs: Rows) -> list[tuple[str, int]]:
        found = self.outcomes(truth, outputs)
        has, given = (found.actual > 0).sum(0), found.given.sum(0)
        return [(name, int(n)) for name, n, m in zip(self.names, has, given, strict=True) if n and not m]

    def badness(self, truth: Any, output: Any) -> float:
        counts = _mask_scores.confusion(_mask_files.of_png(truth), _mask_files.of_png(output), len(self.names))
        return 1.0 - _mask_scores.measured(counts, self.background).get("mean_iou", 1.0)

    # --- shown ---

    def in_words(self, stored: Any) -> Any:
        return _mask_views.in_words(stored, self.names) if isinstance(stored, bytes) else stored

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        picture = next(iter(row.values()), None)
        return _mask_views.answer(output, self.names, self.background, picture)

    def drawn(self, picture: Any, truth: Any, largest: int) -> str | None:
        found = _mask_views.drawn(_mask_files.of_png(truth), self.background, picture, largest)
        return None if found is None else base64.b64encode(found).decode()

    def view(self, answer: Mapping[str, Any]) -> View:
        return _mask_views.view(answer)

    def files(self, answer: Mapping[str, Any]) -> dict[str, bytes]:
        if "mask" not in answer:  # of a row that holds nothing to ask with
            return {}
        found = {"classes.png": base64.b64decode(answer["mask"])}
        return found | ({"drawn.png": base64.b64decode(answer["drawn"])} if answer.get("drawn") else {})

    def limits(self) -> list[str]:
        found = [
            "It gives every pixel one class: objects of one class that touch are one region, and are not counted."
        ]
        if self.ignored is not None:
            found.append(
                "Pixels that the masks leave out were neither learned nor measured; it gives them a class too."
            )
        return found

    @property
    def in_pipeline(self) -> str:
        return f', subtask="{SUBTASK}"'

    @property
    def adds(self) -> str:
        return ", which gives one mask of class numbers"

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        left, right = (_mask_files.of_png(base64.b64decode(answer["mask"])) for answer in (one, other))
        return float(np.mean(left != right)) if left.shape == right.shape else float("inf")

    may_differ = 0.05  # pictures of which more pixels than rounding moves lie between two classes

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        noted = ("values", "coloured", "ignored", "background", "counts", "pictures", "usual", "rows", "queries")
        return {**super().to_dict(), **{name: _plain(getattr(self, name)) for name in noted}}

    def restore(self, noted: Mapping[str, Any]) -> Mask:
        lists = {name: tuple(noted.get(name, ())) for name in ("names", "values", "counts", "pictures", "usual")}
        return dataclasses.replace(
            Mask(**lists),  # type: ignore[arg-type]
            coloured=bool(noted["coloured"]), ignored=noted["ignored"], background=noted["background"],
            rows=int(noted["rows"]), queries=bool(noted["queries"]),
        )  # fmt: skip


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


ANSWER = Mask()
