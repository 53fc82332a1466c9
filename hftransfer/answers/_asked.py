"""What an evaluation may ask of answers beside their metrics: which class is looked for, and where a yes begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hftransfer.answers import _operating
from hftransfer.answers._catalogue import OfCatalogue

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from hftransfer.answers._operating import Point, Yes
    from hftransfer.config import EvaluationConfig

Rows = Any


class Asked(OfCatalogue):
    """The part of an answer that kinds with labels fill in; others refuse what they cannot give."""

    heeds: ClassVar[frozenset[str]] = frozenset()  # settings that are for it: see `data.unheeded`
    has_points: ClassVar[bool] = False  # whether thresholds can be chosen for such answers
    points: tuple[Point, ...] = ()  # where a yes begins, of each label that has such a point
    why_positive: str = ""  # why one class of two is the one that is looked for
    called: Any
    judged_by: Any
    metrics: Any
    outcomes: Any
    sample: Any

    def unlikelihood(self, truth: Rows, outputs: Rows) -> tuple[str, float]:
        """Return what tells models apart on few rows, by name, and its value, less being better."""
        import numpy as np

        name, weights = self.judged_by, np.ones((len(truth), 1))
        value = float(self.metrics[name].value(self.sample(self.outcomes(truth, outputs), weights))[0])
        return name, -value if self.metrics[name].greater_is_better else value

    def unlikelihoods(self, truth: Rows, outputs: Rows) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what each row adds to `unlikelihood` (n,), and for how many decisions (n,); None: it is no mean."""
        return None

    def asked(self, evaluation: EvaluationConfig, validation: pa.Array) -> tuple[Self, list[str]]:
        """Return the answer with what an evaluation asks of it, and what is to be said; UserError for what cannot be.

        `validation` is the encoded truth of the rows that a threshold is going to be chosen on.
        """
        _operating.refuse(evaluation, f"these are {self.called}")
        return self, []

    def sureness(self, output: Any) -> float | None:
        """Return how sure a single answer is; None where it says nothing of that."""
        return None

    def guessed(self) -> list[str]:
        """Return what the labels were taken for that nobody said: names for a missing one, numbers with an order."""
        return []

    def uneven(self) -> list[str]:
        """Return what is to be said of classes of which one has many times the rows of another."""
        return []

    def placed(self, truth: Rows, outputs: Rows) -> Self:
        """Return the answer with the thresholds that validation rows give, where some are asked for."""
        return self

    @property
    def unplaced(self) -> Self:
        """The answer without any threshold: what the weights alone say."""
        return self

    def measured_as(self, other: Any) -> Self:
        """Return the answer with the same class looked for as another's, so that their scores compare."""
        return self

    def decisions_of(self, truth: Rows, outputs: Rows, plain: bool = False) -> Iterator[tuple[Point, Yes]]:
        """Yield each point with the rows that have its label and those given it; `plain`: without thresholds."""
        yield from ()

    def shown_threshold(self, point: Point) -> float:
        """Return a point's threshold among the probabilities that the Predictor shows."""
        return point.threshold or 0.0

    def decided_in(self, scores: str) -> Sequence[str]:
        """Return the lines of Python that make `answer` of `scores`, a dict by label, as a placed answer does."""
        return ()
