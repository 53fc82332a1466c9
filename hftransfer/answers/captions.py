"""captions: the text that belongs to a picture among all texts, and the picture that belongs to a text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from hftransfer.answers import _both_ways, _ranks
from hftransfer.answers._both_ways import Ranks
from hftransfer.answers._towers import Towers
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.processors import places_of, require_tokenizer, tokenizer_of
from hftransfer.views import Plot, Ranked, View
from hftransfer.weighting import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig

MOST = 8  # captions that a picture is shown beside where nobody names others
SHARED = 3  # pictures of train that must have one: a caption of its own is a row, which is not handed on
GENERAL = ("a person", "an animal", "a plant", "food", "a vehicle", "a building", "an object", "text")


class Asked(NamedTuple):
    """The vectors of a picture and its captions, with the numbers that tell equal ones, until all rows are there."""

    seen: np.ndarray
    picture: int
    said: np.ndarray
    numbers: tuple[int, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    scores: tuple[float, ...]


class Placed(NamedTuple):
    """The labels that a picture was shown beside, with their scores; ranks, and the text that comes first.

    `text_rank` is that of its best caption among `texts`, of which `right_texts` are right; `picture_ranks` are those
    of the picture for each caption, among `pictures`, of which `right_pictures` are right.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    text_rank: int = 0
    picture_ranks: tuple[int, ...] = ()
    texts: int = 0
    pictures: int = 0
    right_texts: int = 1
    right_pictures: int = 1
    first: str = ""


@dataclass(frozen=True)
class Captions(Towers, Answer[Any]):
    """Truth is a list of the captions of each row, outputs are a list of Placed.

    `longest` is at how many tokens a text is cut, `fill` what it is filled up with, to `longest` where that is
    `fixed`; `masked` tells whether the model is told what is filling. `family` is the model's type.
    """

    choices: tuple[str, ...] = ()
    rows: int = 0
    family: str = ""
    longest: int = 0
    fill: int = 0
    fixed: bool = False
    masked: bool = True

    kind = "captions"
    needs = "string or list of strings"
    unit = "pictures"
    contradicts = False
    compares = True
    measures_untuned = True
    names = ()
    counts = ()

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.column_types import STRINGS, element, is_value

        return is_value(element(feature), *STRINGS)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named

    def feature(self, encoded: bool = True) -> Any:
        from datasets import List, Value

        return List(Value("string"))

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        import pyarrow as pa

        rows = ((one if isinstance(one, list) else [one]) if one is not None else None for one in raw.to_pylist())
        kept = [None if row is None else [text.strip() for text in row if text and text.strip()] for row in rows]
        return pa.array([row or None for row in kept], pa.list_(pa.string()))

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no caption", pc.is_null(truth)

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[Captions, list[str]]:
        return dataclasses.replace(self, longest=config.max_length or 0), []

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Common(self, column)

    # --- model ---

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Captions, Any, list[str]]:
        tokenizer = tokenizer_of(processor)
        if tokenizer is None or "image_processor" not in vars(processor):
            raise UserError(
                "a model that reads pictures and texts is needed", f"{settings.model_type} has a "
                f"{type(processor).__name__} alone", "Use a CLIP, a SigLIP or a dual encoder of both.",
            )  # fmt: skip
        tokenizer.init_kwargs.pop("backend", None)  # of what reads pictures, which was asked for together with it
        return self.of_texts(tokenizer, settings), processor, []

    def of_texts(self, tokenizer: Any, settings: Any) -> Captions:
        """Return the answer as a model of these settings reads texts."""
        text, fixed = settings.to_dict().get("text_config") or {}, "siglip" in settings.model_type
        limit = min((n for n in (tokenizer.model_max_length, places_of(text)) if n and n < 1_000_000), default=512)
        if self.longest > limit or (fixed and self.longest not in (0, limit)):
            raise UserError(
                f"data.max_length must be {'' if fixed else 'at most '}{limit} for this model",
                f"it is {self.longest}", f"Set data.max_length={limit}{'' if fixed else ' or less'}.",
            )  # fmt: skip
        return dataclasses.replace(
            self, family=settings.model_type, longest=self.longest or limit, fill=int(tokenizer.pad_token_id or 0),
            fixed=fixed, masked="attention_mask" in tokenizer.model_input_names,
        )  # fmt: skip

    def attach(self, model: Any) -> Any:
        from hftransfer.answers import _beside

        return _beside.giving_vectors(model, self.fill, self.width, self.masked)

    padding: ClassVar[Mapping[str, int]] = {"labels": -100, "parts": 0}

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        return {} if truth is None or "_numbers" not in encoded else {"labels": encoded["_numbers"]}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        from hftransfer.answers import _beside

        def loss(outputs: Any, numbers: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            count = (numbers != _beside.NONE).sum() if num_items_in_batch is None else num_items_in_batch
            bias, alone = (outputs.get(name) for name in ("bias", "alone"))
            found = _beside.contrast(outputs["vectors"], numbers, outputs["scale"], bias, alone is not None)
            return found / count

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        return (logits[0] if isinstance(logits, tuple) else logits).float()

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        known = labels != -100
        said = [row[1 : 1 + len(mask)][mask] for row, mask in zip(kept, known, strict=True)]
        numbers = [row[mask].tolist() for row, mask in zip(labels, known, strict=True)]
        ranks, others, *_ = _both_ways.ranked(kept[:, 0], range(len(kept)), said, numbers)
        sample = self.sample(Ranks(ranks, others), np.ones((len(ranks), 1)))
        return {name: float(self.METRICS[name].value(sample)[0]) for name in self.default_metrics}

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Asked]:
        from hftransfer.answers import _beside

        tokenizer = require_tokenizer(processor)
        if not self.family:  # of a model that is not ours
            return self.of_texts(tokenizer, model.config).ask(model, batch, processor)
        seen = _beside.pictures(model, batch)
        count = len(seen)
        shown = [tuple(row) for row in batch.get("_labels", [()] * count)]
        labels = [row or self.choices or GENERAL for row in shown]
        known = list(dict.fromkeys(label for row in labels for label in row))
        has, widths, said = "parts" in batch, [0] * count, np.empty((0, seen.shape[1]), np.float32)
        if has:
            widths = (batch["parts"] > 0).sum(dim=1).tolist()
            said = _beside.texts(model, _beside.texts_of(batch, self.fill, self.width, self.masked)).cpu().numpy()
        named = self._named(model, known, tokenizer, seen.device)
        places = {label: place for place, label in enumerate(known)}
        starts = np.cumsum([0, *widths])
        found = []
        for row in range(count):
            own = [places[label] for label in labels[row]]
            scores = _beside.odds(model, seen[row : row + 1], named[own])[0].cpu().tolist()
            found.append(
                Asked(
                    seen[row].cpu().numpy(), batch["_picture"][row], said[starts[row] : starts[row + 1]],
                    tuple(batch["_numbers"][row]) if has else (), tuple(batch["_texts"][row]) if has else (),
                    labels[row], tuple(scores),
                )
            )  # fmt: skip
        return found

    def _named(self, model: Any, labels: Sequence[str], tokenizer: Any, device: Any) -> torch.Tensor:
        """Return the vectors (m, d) of labels."""
        from hftransfer.answers import _beside

        padding = "max_length" if self.fixed else True
        batch = tokenizer(list(labels), padding=padding, truncation=True, max_length=self.longest, return_tensors="pt")
        names = ["input_ids", *(["attention_mask"] if self.masked else [])]
        return _beside.texts(model, {name: batch[name].to(device) for name in names})

    def gathered(self, outputs: list[Asked]) -> list[Placed]:
        plain = [Placed(row.labels, row.scores) for row in outputs]
        if not outputs or not all(row.numbers for row in outputs):
            return plain
        texts = {number: text for row in outputs for number, text in zip(row.numbers, row.texts, strict=True)}
        ranks, others, rights, firsts, (pictures, count) = _both_ways.ranked(
            np.stack([row.seen for row in outputs]), [row.picture for row in outputs],
            [row.said for row in outputs], [row.numbers for row in outputs],
        )  # fmt: skip
        return [
            row._replace(
                text_rank=rank, picture_ranks=tuple(own), texts=count, pictures=pictures, right_texts=right[0],
                right_pictures=right[1], first=texts[first],
            )
            for row, rank, own, right, first in zip(plain, ranks, others, rights, firsts, strict=True)
        ]  # fmt: skip

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        whole = ("text_rank", "texts", "pictures", "right_texts", "right_pictures")
        return {
            "label": pa.array([list(row) for row in truth], pa.list_(pa.string())),
            "prediction": pa.array([row.first for row in outputs], pa.string()),
            **{name: pa.array([getattr(row, name) for row in outputs], pa.int64()) for name in whole},
            "picture_ranks": pa.array([row.picture_ranks for row in outputs], pa.list_(pa.int64())),
            "labels": pa.array([row.labels for row in outputs], pa.list_(pa.string())),
            "scores": pa.array([row.scores for row in outputs], pa.list_(pa.float32())),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        known = ("labels", "scores", "text_rank", "picture_ranks", "texts", "pictures", "right_texts",
                 "right_pictures", "prediction")  # fmt: skip
        parts = zip(*(table[name].to_pylist() for name in known), strict=True)
        rows = [
            Placed(tuple(labels), tuple(scores), rank, tuple(ranks), *rest)
            for labels, scores, rank, ranks, *rest in parts
        ]
        return [tuple(row) for row in table["label"].to_pylist()], rows

    def truth(self, encoded: pa.Array) -> Rows:
        return [tuple(row) for row in encoded.to_pylist()]

    def is_finite(self, output: Placed) -> bool:
        return bool(np.isfinite(output.scores).all())

    def outcomes(self, truth: Rows, outputs: Rows) -> Ranks:
        return Ranks([row.text_rank for row in outputs], [row.picture_ranks for row in outputs])

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return tuple(self.METRICS)

    @property
    def main_metric(self) -> str:
        return "mean_recall_10"

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        return sum(
            (a.text_rank, a.picture_ranks) != (b.text_rank, b.picture_ranks) for a, b in zip(one, other, strict=True)
        )

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return what an order at random finds among as many texts and pictures."""
        from hftransfer.answers._nearness import number_of

        known = [[number_of(text) for text in row] for row in truth]
        texts, pictures = len({number for row in known for number in row}), len(truth)
        having = Counter(number for row in known for number in set(row))
        right = [[having[number] for number in row] for row in known]
        text_ranks = _both_ways.at_random([len(set(row)) for row in known], texts)
        flat = iter(_both_ways.at_random([one for row in right for one in row], pictures))
        outputs = [
            Placed((), (), rank, tuple(next(flat) for _ in row), texts, pictures, len(set(row)), own[0], truth[0][0])
            for rank, row, own in zip(text_ranks, known, right, strict=True)
        ]
        return Trivial("chance", f"orders {texts:,} texts and {pictures:,} pictures at random", outputs)

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        said = f"{len(outputs):,} pictures, {outputs[0].texts:,} texts"
        yield _ranks.drawn([row.text_rank for row in outputs], "Ranks of the best right text", said)

    def badness(self, truth: Any, output: Placed) -> float:
        return 1.0 - 1.0 / max(output.text_rank, 1)

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Placed, top_k: int | None = None) -> dict[str, Any]:
        found = {label: float(np.float32(score)) for label, score in zip(output.labels, output.scores, strict=True)}
        return _answered(found, top_k)

    def as_json(self, answer: Any) -> dict[str, Any]:
        return _answered({str(label): float(score) for label, score in answer.items()}, None)

    def view(self, answer: Mapping[str, Any]) -> View:
        return Ranked(tuple(answer["scores"].items()), (answer["label"],))

    def limits(self) -> list[str]:
        among = "of each text by itself" if self.fixed else "among the texts that it was asked about"
        return [
            f"A score is {among}: it is not calibrated, and no text is refused. How many pictures find their text "
            "depends on how many texts there are to choose from."
        ]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        if set(one["scores"]) != set(other["scores"]):
            return float("inf")
        return max((abs(one["scores"][label] - other["scores"][label]) for label in one["scores"]), default=0.0)

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **dataclasses.asdict(self), "choices": list(self.choices)}

    def restore(self, noted: Mapping[str, Any]) -> Captions:
        known = {field.name: noted[field.name] for field in dataclasses.fields(self)}
        return Captions(**{**known, "choices": tuple(noted["choices"])})


def _answered(scores: Mapping[str, float], top_k: int | None) -> dict[str, Any]:
    order = sorted(scores, key=lambda label: -scores[label])
    return {"label": order[0], "score": scores[order[0]], "scores": {label: scores[label] for label in order[:top_k]}}


class Common(Learner):
    """Counts rows, and finds the captions that many pictures share: names of kinds rather than of one picture."""

    def __init__(self, answer: Captions, column: str) -> None:
        self.answer, self.column, self.rows = answer, column, 0
        self.known: Counter[str] = Counter()

    def add(self, truth: pa.Array) -> None:
        self.rows += len(truth)
        for row in truth.to_pylist():
            self.known.update({" ".join(text.split()) for text in row})

    def learn(self) -> Captions:
        if self.rows and len(self.known) < 2:
            raise UserError(
                "captions that differ are needed", f"every row of `{self.column}` has {next(iter(self.known))!r}",
                "Name another column in data.columns.caption.",
            )  # fmt: skip
        shared = [text for text, count in self.known.most_common(MOST) if count >= SHARED]
        return dataclasses.replace(self.answer, rows=self.rows, choices=tuple(shared) if len(shared) > 1 else ())


Captions.METRICS = {
    "mean_recall_10": Metric("mean of text_recall_10 and picture_recall_10", _both_ways.recall(10), perfect=1.0),
    **{
        f"text_recall_{k}": Metric(
            f"share of pictures one of whose captions is among the first {k} of all texts", _both_ways.text_recall(k),
            perfect=1.0, is_share=True,
        )
        for k in _both_ways.PLACES
    },
    **{
        f"picture_recall_{k}": Metric(
            f"share of captions whose picture is among the first {k} of all pictures", _both_ways.picture_recall(k),
            perfect=1.0, closed=_both_ways.share_of_captions(k),
        )
        for k in _both_ways.PLACES
    },
    "text_median_rank": Metric("median rank of a picture's best caption", _both_ways.text_median,
                               greater_is_better=False),
    "picture_median_rank": Metric("median rank of the picture of a caption", _both_ways.picture_median,
                                  greater_is_better=False),
}  # fmt: skip
ANSWER = Captions()
