"""What an answer is: how truth is read, what is lost, how outputs become answers, how they are scored and shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from hftransfer.answers._asked import Asked
from hftransfer.answers._fitted import Fitted
from hftransfer.answers._learner import Learner, Loss, Rows, Told, Trivial
from hftransfer.answers._placed import Placed
from hftransfer.errors import UserError
from hftransfer.weighting import ByClass, Metric, Sample

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.answers._linear import LinearTarget
    from hftransfer.config import DataConfig, EvaluationConfig
    from hftransfer.views import Plot, View

R = TypeVar("R")  # one row's output: numpy or a NamedTuple, on the CPU


class Answer(Asked, Fitted, Placed, ABC, Generic[R]):
    """One kind of answer: the options of a task, and what the training rows taught. Frozen: `learner` gives another.

    Truth has three forms: a column, canonical (names, numbers, texts; nulls kept) and encoded (what is stored in the
    rows and trained on). An output is what one row is answered with, before any calibration.
    """

    kind: ClassVar[str]  # the file's name, and what hftransfer.json holds
    needs: ClassVar[str]  # what a column of truth holds, in messages
    unit: ClassVar[str] = "rows"  # what a row is called
    contradicts: ClassVar[bool] = True  # whether two rows of one input with different truths are an error
    linear: ClassVar[LinearTarget | None] = None  # what a linear head on frozen features gives; None: it cannot
    reads_numbers: ClassVar[bool] = False  # whether numbers that are written as texts are its truth, and no text's
    told_by_values: ClassVar[bool] = False  # whether a column is told by how many distinct values it has
    makes_head: ClassVar[bool] = False  # whether a model needs a head of its own for these answers
    typed: ClassVar[type | None] = None  # what a person types to say a row's truth; None: more than a line
    several: ClassVar[bool] = False  # whether a row may have any number of labels: a column may tell of one each
    generates: ClassVar[bool] = False  # whether answers are written token by token
    compares: ClassVar[bool] = False  # whether the loss of a row depends on the others of its batch

    names: tuple[str, ...]  # the classes, of kinds that have some
    counts: tuple[int, ...]  # what train holds of each

    # --- truth: from a column to what is stored and trained on ---

    @abstractmethod
    def fits(self, feature: Any) -> bool:
        """Tell whether a column of this type can be the truth."""

    def check_feature(self, feature: Any) -> None:
        """Raise UserError for a column that the user chose and that cannot be this truth."""

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[Answer[R], list[str]]:
        """Return the answer as a column is to be read, from its first values, and what was guessed of that."""
        return self, []

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        """Tell whether so many distinct values among so many rows may be guessed to be one."""
        return True

    @abstractmethod
    def feature(self, encoded: bool = True) -> Any:
        """Return the `datasets` feature of the truth's column."""

    @abstractmethod
    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        """Return a raw column in its one form, nulls kept."""

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        """Yield (reason, mask) of rows without a truth to learn from."""
        import pyarrow.compute as pc

        yield "no label", pc.is_null(truth)

    @abstractmethod
    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        """Return what learns from train's canonical truth, which came from `column`."""

    def refuse_unseen(self, truth: pa.Array, row_ids: pa.Array, split: str) -> None:
        """Raise UserError for canonical truth of a split that train does not know."""

    def encode(self, truth: pa.Array) -> pa.Array:
        """Return canonical truth as it is stored and trained on."""
        return truth

    def counted(self, encoded: pa.Array) -> Answer[R]:
        """Return the answer with what the final training split holds."""
        return self

    def suspicions(self, truth: pa.Array, inputs: Mapping[str, pa.Array], columns: Mapping[str, str]) -> list[str]:
        """Return warnings of train's usable truth beside inputs of its type; UserError where it is not meant so."""
        return []

    def less(self, encoded: pa.Array) -> Answer[R]:
        """Return the answer without what rows hold that were cut out of train."""
        return self

    def strata(self, encoded: pa.Array) -> np.ndarray | None:
        """Return what rows are stratified by, (n,) integers."""
        return None

    def missing(self, split: str, encoded: pa.Array | None = None) -> list[str]:
        """Return warnings of what a split lacks; without its truth, what train lacks by the counts."""
        return []

    def truth(self, encoded: pa.Array) -> Rows:
        """Return encoded truth as metrics take it."""
        return encoded.to_pylist()

    def told_by_items(self, items: Iterable[Mapping[str, Any]]) -> Told | None:
        """Return what adds to truth what train's prepared items tell of it without a model; None: nothing."""
        return None

    # --- model ---

    def configure(self, settings: Any) -> None:
        """Write what a model must know into its config."""

    def of_config(self, settings: Any) -> Answer[R]:
        """Return the answer of a model that is not ours, from its config."""
        return self

    def claims(self, settings: Any) -> bool:
        """Tell whether a model that is not ours answers like this, of several that its task may have."""
        return True

    def limited(self, evaluation: EvaluationConfig, lengths: np.ndarray | None, settings: Any) -> Answer[R]:
        """Return the answer within a model's limits, by the lengths (tokens) of train's targets; UserError beyond."""
        return self

    @abstractmethod
    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return what the model is trained on beside its inputs, a list an item by name.

        `truth` are encoded values of the rows of a batch, None where nobody knows them; `encoded` are its inputs.
        """

    def at_once(self, longest: int) -> int | None:
        """Return of how many items of `longest` tokens a model's outputs fit into memory; None: of any number."""
        return None

    padding: ClassVar[Mapping[str, int]] = {}  # what targets are filled up with, by name
    aligned: ClassVar[bool] = False  # whether targets lie along the tokens of the input

    def attach(self, model: Any) -> Any:
        """Return the model ready to be trained with `loss`."""
        return model

    def beside(self, model: Any, preparation: Any) -> Mapping[str, str]:
        """Return what other libraries read beside a saved model: the content of each file by its name."""
        return {}

    def finish(self, model: Any, processor: Any) -> None:
        """Write into a model that is going to be saved what a stranger needs to have it answer alike."""

    @abstractmethod
    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        """Return Trainer's `compute_loss_func`: a sum over the batch, divided by `num_items_in_batch`.

        That counts the whole accumulated batch over all processes: without it, Trainer multiplies the loss of many
        heads by accumulation steps and world size (https://github.com/huggingface/transformers/issues/47688).
        """

    def class_weights(self, asked: Any, rows: int) -> list[float] | None:
        """Return the weight of each class that `train.class_weights` asks for, or raise UserError."""
        if asked is None:
            return None
        raise UserError("train.class_weights needs classes", f"these are {self.kind}", "Drop train.class_weights.")

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        """Return what is kept of a validation batch while training: the logits, or less."""
        return logits[0] if isinstance(logits, tuple) else logits  # some models also return hidden states

    @abstractmethod
    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return point values on what `reduce` kept of all items, while training."""

    @abstractmethod
    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[R]:
        """Return an output for each item of a batch, by a forward pass or by `generate`."""

    def judge(self, model: Any, batch: dict[str, Any], processor: Any) -> list[R]:
        """Return outputs that hold what `judged_by` is measured of, where whole answers cost much more."""
        return self.ask(model, batch, processor)

    def join(self, parts: Sequence[R]) -> R:
        """Return the output of a row from those of its items (windows, chunks), in order."""
        return parts[0]

    def gathered(self, outputs: list[R]) -> Rows:
        """Return outputs of all rows in the form that metrics take."""
        return outputs

    # --- under a linear head on frozen features, where `linear` says that one gives the answer ---

    @property
    def outputs(self) -> int:
        """The number of outputs that a head needs."""
        return 0

    def entries(self, truth: Rows) -> np.ndarray:
        """Return what a linear head is fitted to: a target for each row, or each part of one."""
        raise NotImplementedError

    def of_logits(self, logits: np.ndarray) -> Rows:
        """Return outputs of a head's logits (n, k)."""
        raise NotImplementedError

    def of_entries(self, targets: np.ndarray, logits: np.ndarray, rows: np.ndarray) -> tuple[Rows, Rows]:
        """Return (truth, outputs) by row of what a linear head gave to entries, `rows` (n,) telling whose they are."""
        raise NotImplementedError

    # --- stored and scored ---

    @abstractmethod
    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        """Return the columns of predictions/*.parquet: label and prediction first, then the kind's own."""

    @abstractmethod
    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        """Return (truth, outputs) of what `columns` gave; UserError for answers of another vocabulary."""

    def plain(self, truth: Rows, outputs: Rows, as_text: bool) -> tuple[list[Any], list[Any]]:
        """Return truth and answers as a metric of the Hub takes them: as names or texts, or as numbers."""
        stored = self.columns(truth, outputs)
        return stored["label"].to_pylist(), stored["prediction"].to_pylist()

    def is_finite(self, output: R) -> bool:
        """Tell whether an output is made of numbers."""
        return bool(np.isfinite(np.asarray(output)).all())

    @abstractmethod
    def outcomes(self, truth: Rows, outputs: Rows) -> Any:
        """Return what each row contributes to each metric, worked out once."""

    def sample(self, outcomes: Any, weights: np.ndarray) -> Sample:
        """Return outcomes under weights (n, b)."""
        return Sample(outcomes, weights)

    METRICS: ClassVar[Mapping[str, Metric]]  # every metric of the kind

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Those that fit these answers."""
        return self.METRICS

    @property
    @abstractmethod
    def default_metrics(self) -> tuple[str, ...]:
        """The names of the metrics that are always measured."""

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The one that a model is judged by."""

    @property
    def selects_by(self) -> str:
        """What checkpoints are chosen by on validation rows while training: a name that `validation` gives."""
        return self.main_metric

    @property
    def validated(self) -> tuple[str, ...]:
        """The names that `validation` gives."""
        return self.default_metrics

    @property
    def judged_by(self) -> str:
        """The metric by which one of many models is chosen on validation rows."""
        return self.main_metric

    selects_higher: ClassVar[bool | None] = None  # whether more of it is better; None: as the metric says

    def signatures(self) -> dict[str, str]:
        """Return what metrics are that have more than one definition, as their makers write it down."""
        return {}

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[R] | None = None) -> int:
        """Return how many rows two models' outputs count differently in a metric; `theirs` is the other's answer."""
        return sum(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    @abstractmethod
    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return the trivial answer to rows whose inputs are `rows`, a list a role in order (None: not at hand)."""

    def calibrated(self, truth: Rows, outputs: Rows) -> Answer[R]:
        """Return the answer with what validation rows say of its probabilities: a temperature, a threshold."""
        return self

    def calibrate(self, outputs: Rows) -> Rows:
        """Return outputs as a calibrated answer gives them."""
        return outputs

    def calibration(self, truth: Rows, outputs: Rows) -> dict[str, Any] | None:
        """Return what calibrating came to on test rows; None where there is nothing to calibrate."""
        return None

    def by_class(self) -> ByClass | None:
        """Return the scores of each class; None for kinds without classes."""
        return None

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        """Yield the plots that fit."""
        yield from ()

    def average(self, several: Sequence[Rows]) -> Rows | None:
        """Return the outputs of an ensemble; None: such outputs cannot be averaged."""
        return None

    def translated(self, other: Answer[Any]) -> Callable[[Rows], Rows] | None:
        """Return what turns another model's outputs into ones of this answer; None where they do not correspond."""
        return (lambda outputs: outputs) if type(other) is type(self) else None

    def is_constant(self, outputs: Rows) -> bool:
        """Tell whether every row is answered alike."""
        return False

    def never(self, truth: Rows, outputs: Rows) -> list[tuple[str, int]]:
        """Return the classes that are never answered, with how often they are the truth, of kinds that have some."""
        return []

    def badness(self, truth: Any, output: R) -> float:
        """Return how wrong an output is, for the order of a list of mistakes; 0 for a right one."""
        return float(not np.array_equal(truth, np.asarray(output)))

    # --- shown ---

    @abstractmethod
    def to_json(self, row: Mapping[str, Any], output: R, top_k: int | None = None) -> dict[str, Any]:
        """Return an answer of the Predictor, in transformers' own form where it has one."""

    def plainly(self, row: Mapping[str, Any], output: R) -> dict[str, Any]:
        """Return the same without any calibration: what the weights alone say."""
        return self.uncalibrated.to_json(row, output)

    @property
    def uncalibrated(self) -> Answer[R]:
        """The answer without what validation rows said of its probabilities."""
        return self

    def as_json(self, answer: Any) -> dict[str, Any]:
        """Return what the card's lines gave as an answer in our form."""
        return answer

    @abstractmethod
    def view(self, answer: Mapping[str, Any]) -> View:
        """Return how such an answer is shown."""

    @property
    def called(self) -> str:
        """The kind as messages name it."""
        return self.kind

    @property
    def described(self) -> str:
        """What the answers are, in a few words."""
        return ", ".join(self.names[:8]) or self.kind

    def limits(self) -> list[str]:
        """Return what the answers are not, for the card."""
        return []

    @property
    def adds(self) -> str:
        """What our answer holds over that of pipeline(), as the end of a sentence on the card."""
        return ""

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        """Return how far two answers to one row are apart: ours and a stranger's."""
        return float(one != other)

    may_differ: ClassVar[float] = 0.0  # the share of rows on which they may be, by rounding alone

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        """Return what hftransfer.json and result.json hold."""
        return {"kind": self.kind, "names": list(self.names)}

    @abstractmethod
    def restore(self, noted: Mapping[str, Any]) -> Answer[R]:
        """Return the answer that `to_dict` noted."""

    def same_as(self, other: Answer[Any]) -> bool:
        """Tell whether two answers have one vocabulary."""
        return self.kind == other.kind and self.names == other.names
