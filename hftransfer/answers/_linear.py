"""What a linear head on frozen features is fitted to, for each kind of answer that one can give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]  # logits (n, k) -> mean loss, its gradient by the logits
TINY = 1e-4  # a share of neighbours of 0 or 1 as a probability


class LinearTarget(ABC):
    """What probing, curves, ranking, hygiene of labels and LP-FT ask of an answer.

    Entries are what is answered by itself: rows, or the parts of a row (`by_part`). Targets are (n,) class numbers or
    numbers, or (n, k) of 0 and 1.
    """

    exclusive: ClassVar[bool] = False  # one of the classes
    numeric: ClassVar[bool] = False  # a number: solved in one step
    curvature: ClassVar[float] = 0.25  # of the loss, at probabilities of one half

    def __init__(self, by_part: bool = False) -> None:
        self.by_part = by_part

    @property
    def stratified(self) -> bool:
        """Whether folds keep the shares of the classes."""
        return self.exclusive and not self.by_part

    @abstractmethod
    def objective(self, targets: np.ndarray, outputs: int, class_weights: Sequence[float] | None) -> Objective:
        """Return the mean loss of logits (n, k), with its gradient."""

    @abstractmethod
    def loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the mean negative log likelihood of logits (n, k) in nats a decision, or the mean squared error."""

    @abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (n, k) of logits; numbers (n,) pass unchanged."""

    @abstractmethod
    def aims(self, targets: np.ndarray, outputs: int) -> np.ndarray:
        """Return targets as what each output should be, (n, k) floats."""

    def as_logits(self, shares: np.ndarray) -> np.ndarray:
        """Return logits that give these probabilities (n, k) again."""
        return shares


class Classes(LinearTarget):
    """One of k classes: softmax."""

    exclusive = True

    def objective(self, targets: np.ndarray, outputs: int, class_weights: Sequence[float] | None) -> Objective:
        rows = np.arange(len(targets))
        weights = None if class_weights is None else np.asarray(class_weights, np.float64)
        share = (np.ones(len(targets)) if weights is None else weights[targets]) / len(targets)

        def mean(logits: np.ndarray) -> tuple[float, np.ndarray]:
            shifted = logits - logits.max(axis=1, keepdims=True)
            powers = np.exp(shifted)
            sums = powers.sum(axis=1, keepdims=True)
            loss = float(share @ (np.log(sums[:, 0]) - shifted[rows, targets]))
            errors = powers / sums
            errors[rows, targets] -= 1
            return loss, errors * share[:, None]

        return mean

    def loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        shifted = logits - logits.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return softmax(np.asarray(logits, np.float64))

    def aims(self, targets: np.ndarray, outputs: int) -> np.ndarray:
        return np.eye(outputs)[targets]

    def as_logits(self, shares: np.ndarray) -> np.ndarray:
        return np.log(np.clip(shares, TINY, 1 - TINY))


class Labels(LinearTarget):
    """Any number of k labels: each a question of its own."""

    def objective(self, targets: np.ndarray, outputs: int, class_weights: Sequence[float] | None) -> Objective:
        aims = np.asarray(targets, np.float64)
        positive = 1.0 if class_weights is None else np.asarray(class_weights, np.float64)
        parts = np.where(aims > 0, positive, 1.0) / aims.size

        def mean(logits: np.ndarray) -> tuple[float, np.ndarray]:
            loss = float((parts * (np.logaddexp(0, logits) - logits * aims)).sum())
            return loss, parts * (logistic(logits) - aims)

        return mean

    def loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, logits) - logits * targets))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return logistic(np.asarray(logits, np.float64))

    def aims(self, targets: np.ndarray, outputs: int) -> np.ndarray:
        return np.asarray(targets, np.float64).reshape(len(targets), -1)

    def as_logits(self, shares: np.ndarray) -> np.ndarray:
        shares = np.clip(shares, TINY, 1 - TINY)
        return np.log(shares) - np.log1p(-shares)


class Numbers(LinearTarget):
    """A number: least squares."""

    numeric = True
    curvature = 1.0

    def objective(self, targets: np.ndarray, outputs: int, class_weights: Sequence[float] | None) -> Objective:
        return lambda logits: (0.0, logits)  # never asked: solved in one step

    def loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        return float(np.mean((logits[:, 0] - targets) ** 2))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits, np.float64).reshape(len(logits))

    def aims(self, targets: np.ndarray, outputs: int) -> np.ndarray:
        return np.asarray(targets, np.float64).reshape(len(targets), -1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def logistic(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of log odds, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
