"""What the four kinds have in common that one linear head gives: probabilities of logits, by a temperature."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hftransfer.answers import _operating, _scores
from hftransfer.answers._linear import LinearTarget
from hftransfer.answers._scores import ClassSample, rate
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.errors import unknown
from hftransfer.views import Plot
from hftransfer.weighting import ByClass

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

IGNORED = -100  # the label that torch's cross entropy leaves out: later pieces of a word, special tokens, padding
BY_ANSWERS = (
    "accuracy",
    "mcc",
    "hamming_loss",
    *_operating.METRICS,
)  # metrics that read answers alone
FEW = {  # rows of a class below which it is said that there are few, by split
    "train": (10, "little can be learned of them"),
    "test": (5, "their own scores say nothing"),
}
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
SAME = 1e-6  # probabilities of all rows that differ less are one
FEWEST = 20  # decisions; a temperature fitted on less says more about chance than about the model
SEARCH = (np.log(0.05), np.log(20.0))
EXCLUSIVE = (  # a limit of answers that must choose, for the card
    "It gives one of its labels also where none fits, and its probabilities can be believed on rows like those above, "
    "if at all."
)


@dataclass(frozen=True)
class Head(Answer[Any]):
    """Outputs are probabilities (k,) of a row: those of the model's logits, or a number."""

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()  # rows (tags: words) of the training split with each name
    rows: int = 0  # of the training split
    temperature: float = 1.0  # that logits are divided by where an answer is given

    makes_head: ClassVar[bool] = True
    linear: ClassVar[LinearTarget]
    problem: ClassVar[str | None] = None  # what transformers calls it in `problem_type`

    @property
    def outputs(self) -> int:
        return max(len(self.names), 1)

    # --- truth ---

    def refuse_unseen(self, truth: pa.Array, row_ids: pa.Array, split: str) -> None:
        from hftransfer.answers import _truth

        _truth.refuse_unseen(truth, row_ids, self.names, split)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        from hftransfer.answers._truth import Tally

        return Tally(column, features, self._learnt)

    def _learnt(self, names: tuple[str, ...], counts: tuple[int, ...], rows: int) -> Head:
        return dataclasses.replace(self, names=names, counts=counts, rows=rows)

    def counted(self, encoded: pa.Array) -> Head:
        from hftransfer.answers import _truth

        counts = tuple(int(n) for n in _truth.counts(encoded, len(self.names)))
        return dataclasses.replace(self, counts=counts, rows=len(encoded))

    def is_constant(self, outputs: Rows) -> bool:
        flat = np.concatenate(list(outputs)) if isinstance(outputs, list) else np.asarray(outputs)
        return bool(np.ptp(flat, axis=0).max() < SAME)

    def never(self, truth: Rows, outputs: Rows) -> list[tuple[str, int]]:
        if self.by_class() is None:
            return []
        counts = self.outcomes(truth, outputs).counts
        actual, given = (np.asarray(table.sum(axis=1)).ravel() for table in (counts.actual, counts.predicted))
        return [(name, int(n)) for name, n, m in zip(self.names, actual, given, strict=True) if n and not m]

    def suspicions(self, truth: pa.Array, inputs: Mapping[str, pa.Array], columns: Mapping[str, str]) -> list[str]:
        from hftransfer.answers import _truth

        return _truth.nearly_alike(self.names)

    def less(self, encoded: pa.Array) -> Head:
        from hftransfer.answers import _truth

        counts = np.array(self.counts) - _truth.counts(encoded, len(self.names))
        return dataclasses.replace(self, counts=tuple(counts.tolist()), rows=self.rows - len(encoded))

    def missing(self, split: str, encoded: pa.Array | None = None) -> list[str]:
        from hftransfer.answers import _truth

        counts = self.counts if encoded is None else _truth.counts(encoded, len(self.names))
        absent = [name for name, count in zip(self.names, counts, strict=True) if not count]
        what = "class" if len(absent) == 1 else "classes"
        found = [f"{what} {_truth.some(absent)} missing from {split}"] if absent else []
        least, so = FEW.get(split, (0, ""))
        few = [f"{name} ({count})" for name, count in zip(self.names, counts, strict=True) if 0 < count < least]
        return [*found, *([f"{split} has few of {_truth.some(few)}: {so}"] if few else [])]

    def guessed(self) -> list[str]:
        from hftransfer.answers import _truth

        return _truth.like_missing(self.names, self.counts)

    # --- model ---

    def configure(self, settings: Any) -> None:
        settings.id2label = dict(enumerate(self.names))
        settings.label2id = {name: i for i, name in enumerate(self.names)}
        settings.problem_type = self.problem

    def of_config(self, settings: Any) -> Head:
        return dataclasses.replace(self, names=tuple(str(settings.id2label[i]) for i in sorted(settings.id2label)))

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        return {} if truth is None else {"labels": list(truth)}

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Any]:
        return list(self.of_logits(logits_of(model, batch)))

    def of_logits(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities, shaped as logits (..., k); a regression's numbers as (n,)."""
        return self.linear.probabilities(logits)

    def of_entries(self, targets: np.ndarray, logits: np.ndarray, rows: np.ndarray) -> tuple[Rows, Rows]:
        return self.as_truth(targets), self.of_logits(logits)

    def as_truth(self, labels: np.ndarray) -> Rows:
        """Return what the model is trained on as truth, (n,) or (n, k)."""
        return np.asarray(labels).astype(np.int64)

    def gathered(self, outputs: list[Any]) -> Rows:
        return np.stack(outputs) if outputs else np.empty((0, self.outputs))

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return self.measured(self.as_truth(labels), self.of_logits(kept))

    def measured(self, truth: Rows, outputs: Rows) -> dict[str, float]:
        """Return the default metrics on all rows."""
        sample = self.sample(self.outcomes(truth, outputs), np.ones((len(truth), 1)))
        found = {name: float(self.metrics[name].value(sample)[0]) for name in self.default_metrics}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    # --- stored and scored ---

    def sample(self, outcomes: Any, weights: np.ndarray) -> ClassSample:
        return ClassSample(outcomes, weights)

    def predicted(self, outputs: Rows) -> Rows:
        """Return the answers, shaped as truth."""
        raise NotImplementedError

    named: ClassVar[bool] = True  # whether an answer is a name, or names in an order, for metrics that take text

    def plain(self, truth: Rows, outputs: Rows, as_text: bool) -> tuple[list[Any], list[Any]]:
        if as_text and self.named:
            return super().plain(truth, outputs, as_text)
        found = ([np.asarray(value).tolist() for value in values] for values in (truth, self.predicted(outputs)))
        return next(found), next(found)

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        by_answers = metric in BY_ANSWERS or metric.startswith(("precision_", "recall_", "f1_"))
        if by_answers:  # of which each has its own threshold, where there is one
            second = theirs if isinstance(theirs, type(self)) else self
            one, other = self.predicted(one), second.predicted(other)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            return int((one != other).reshape(len(one), -1).any(axis=1).sum())
        return super().differing(one, other, metric)

    def frequencies(self) -> np.ndarray:
        """Return how often train has each name, (k,), as shares; ValueError where nobody counted."""
        counts = np.array(self.counts, np.float64)
        if len(counts) != len(self.names) or not counts.any():
            raise ValueError(
                f"the baseline needs the training counts of {len(self.names)} labels; found {self.counts}"
            )
        return np.asarray(counts / counts.sum())

    def calibrated(self, truth: Rows, outputs: Rows) -> Head:
        return dataclasses.replace(self, temperature=self.fitted_temperature(truth, outputs))

    def fitted_temperature(self, truth: Rows, outputs: Rows) -> float:
        """Return the temperature that minimises the negative log likelihood of outputs (Guo et al. 2017).

        1.0 for fewer than 20 decisions, and where the likelihood has no optimum within 0.05 to 20, as when every
        answer is right.
        """
        from scipy.optimize import minimize_scalar

        logits, targets = self.decided(truth, outputs)
        if targets.size < FEWEST:
            return 1.0

        def loss(log_temperature: float) -> float:
            return self.linear.loss(logits / np.exp(log_temperature), targets)

        found = minimize_scalar(loss, bounds=SEARCH, method="bounded", options={"xatol": 1e-4})
        on_edge = min(found.x - SEARCH[0], SEARCH[1] - found.x) < 0.01
        return 1.0 if on_edge or found.fun >= loss(0.0) else float(np.exp(found.x))

    def unlikelihood(self, truth: Rows, outputs: Rows) -> tuple[str, float]:
        """Return the mean negative log likelihood of all decisions, in nats, at the best temperature."""
        logits, targets = self.decided(truth, outputs)
        return "log loss", self.linear.loss(logits / self.fitted_temperature(truth, outputs), targets)

    def unlikelihoods(self, truth: Rows, outputs: Rows) -> tuple[np.ndarray, np.ndarray]:
        found, counts = np.zeros(len(truth)), np.zeros(len(truth))
        best = self.fitted_temperature(truth, outputs)
        for row in range(len(truth)):
            logits, targets = self.decided(truth[row : row + 1], outputs[row : row + 1])
            if len(targets):
                found[row], counts[row] = self.linear.loss(logits / best, targets) * len(targets), len(targets)
        return found, counts

    def decided(self, truth: Rows, outputs: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (m, k) and targets of all decisions."""
        return self.logits(outputs), np.asarray(truth)

    def logits(self, outputs: Rows) -> np.ndarray:
        """Return logits that give these probabilities."""
        with np.errstate(divide="ignore"):
            return np.log(np.asarray(outputs, np.float64))

    def calibrate(self, outputs: Rows) -> Rows:
        return outputs if self.temperature == 1.0 else self.of_logits(self.logits(outputs) / self.temperature)

    def calibration(self, truth: Rows, outputs: Rows) -> dict[str, Any] | None:
        def error(found: Rows) -> float:
            sample = self.sample(self.outcomes(truth, found), np.ones((len(truth), 1)))
            return float(_scores.calibration_error(sample)[0])

        return {
            "temperature": self.temperature,
            "calibration_error": error(outputs),
            "calibration_error_calibrated": error(self.calibrate(outputs)),
        }

    def by_class(self) -> ByClass | None:
        return ByClass(
            self.names,
            {quality: _rate_of(quality) for quality in ("precision", "recall", "f1")},
            "f1",
            lambda sample: sample.classes.actual,
        )

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        outcomes = self.outcomes(truth, outputs)
        sample = self.sample(outcomes, np.ones((outcomes.n, 1)))
        share = float(_scores.accuracy(sample)[0])
        yield self.confusions(outcomes, f"accuracy {share:.3f}")
        error, curve = float(_scores.calibration_error(sample)[0]), _scores.reliability(outcomes)
        yield Plot(
            "reliability", "Reliability diagram of the test rows", "reliability",
            {"calibration_error": error, "several": not self.linear.exclusive, "bins": curve},
        )  # fmt: skip

    def confusions(self, outcomes: Any, headline: str) -> Plot:
        """Return the plot of what is taken for what."""
        raise NotImplementedError

    def average(self, several: Sequence[Rows]) -> Rows | None:
        return np.mean([np.asarray(one, np.float64) for one in several], axis=0)

    def translated(self, other: Answer[Any]) -> Callable[[Rows], Rows] | None:
        if type(other) is not type(self) or len(other.names) != len(self.names):
            return None
        order = matching(other.names, self.names)
        return None if order is None else lambda outputs: self.reordered(outputs, order)

    def reordered(self, outputs: Rows, order: Sequence[int]) -> Rows:
        """Return outputs in another order of the names."""
        return np.asarray(outputs)[:, list(order)]

    def class_weights(self, asked: Any, rows: int) -> list[float] | None:
        return weights_of(asked, self.names, self.counts)

    @property
    def uncalibrated(self) -> Head:
        return dataclasses.replace(self.unplaced, temperature=1.0)

    # --- shown ---

    def shares(self, output: Any, top_k: int | None) -> dict[str, float]:
        """Return the probability of each name, most likely first."""
        ranked = sorted(zip(self.names, output.tolist(), strict=True), key=lambda pair: -pair[1])
        return dict(ranked[:top_k])

    @property
    def adds(self) -> str:
        calibrated = ", calibrated" if self.temperature != 1 else ""
        placed = ", and from the threshold" if self.points else ""
        return f", which answers with the probability of every label{calibrated}{placed}"

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        left, right = one["scores"], other["scores"]
        if set(left) != set(right):
            return float("inf")
        return float(np.max([abs(left[name] - right[name]) for name in left]))  # NaN where any is, unlike max()

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "counts": list(self.counts), "rows": self.rows, "temperature": self.temperature}

    def restore(self, noted: Mapping[str, Any]) -> Head:
        return dataclasses.replace(
            self,
            names=tuple(noted["names"]),
            counts=tuple(noted.get("counts", ())),
            rows=int(noted.get("rows", 0)),
            temperature=float(noted.get("temperature", 1.0)),
        )


def logits_of(model: Any, batch: Mapping[str, Any]) -> np.ndarray:
    """Return a model's logits of a batch, float32 on the CPU."""
    inputs = {name: value for name, value in batch.items() if name != "labels" and not name.startswith("_")}
    return np.asarray(model(**inputs)["logits"].float().cpu().numpy())


def cross_entropy(class_weights: Sequence[float] | None, smoothing: float) -> Loss:
    """Return the loss of one class a decision: logits (..., k), labels (...) with IGNORED where nothing is decided."""
    import torch
    from torch.nn import functional

    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits, flat = outputs["logits"].float(), targets.view(-1)
        total = functional.cross_entropy(
            logits.view(-1, logits.shape[-1]), flat, None if weight is None else weight.to(logits.device),
            reduction="sum", label_smoothing=smoothing, ignore_index=IGNORED,
        )  # fmt: skip
        return total / ((flat != IGNORED).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

    return loss


def balanced(counts: Sequence[int]) -> list[float]:
    """Return weights n / (k * n_class), 1 on average over the rows (King and Zeng 2001; scikit-learn's "balanced")."""
    present = [max(count, 1) for count in counts]
    return [sum(counts) / (len(counts) * count) for count in present]


def matching(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Return which output of a head stands for each name, without case and blanks (`plain`); None when one lacks."""
    known, sought = [plain(name) for name in names], [plain(name) for name in wanted]
    if len(set(sought)) < len(sought) or any(known.count(name) != 1 for name in sought):
        return None
    return [known.index(name) for name in sought]


def plain(name: str) -> str:
    """Return a name without case and punctuation, but for signs that tell names apart: -1, 1.5, C++ and C#."""
    if NUMBER.fullmatch(name.strip()):
        return f"{float(name):.15g}"  # 1 and 1.0 are one
    return re.sub(r"[^\w+#]|_", "", name.casefold()) or name.casefold()


def constant(name: str, outputs: Rows) -> Trivial:
    """Return a trivial answer that is the same whatever the input."""
    return Trivial(name, "answers the same whatever the input", outputs)


def _rate_of(quality: str) -> Callable[[ClassSample], np.ndarray]:
    return lambda sample: rate(quality, sample.classes, np.nan)


def weights_of(asked: Any, names: Sequence[str], counts: Sequence[int]) -> list[float] | None:
    """Return the weight of each class that `train.class_weights` asks for, or raise UserError."""
    if asked is None:
        return None
    if asked == "balanced":
        return balanced(counts)
    weights = dict(asked)
    for name in weights:
        if name not in names:
            raise unknown("label in train.class_weights", name, names)
    return [float(weights.get(name, 1.0)) for name in names]
