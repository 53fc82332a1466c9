"""A dense layer and the output layer behind it, trained together on features, where no mean of the tokens can be had.

The dense layer starts as the identity where its activation is nearly straight, and the penalty pulls it back there:
with a strong one the whole is the linear head that it competes with on validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hftransfer.answers.base import Answer
from hftransfer.frozen.probing import Head

NAME = "dense"  # as a pooling
STRENGTHS = (0.1, 0.02, 4e-3, 1e-3)
STEPS = 200  # of L-BFGS for one strength, where it has not converged before
# by activation: the slope that features come in with, and what is added to them
START = {"tanh": (0.3, 0.0), "gelu": (1.0, 1.0), "relu": (1.0, 1.0)}
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "relu": torch.relu,
}


@dataclass(frozen=True)
class Dense:
    """A dense layer, act(features @ weight.T + bias) with `weight` (d, d) and `bias` (d,), and the head behind it."""

    weight: np.ndarray
    bias: np.ndarray
    activation: str
    head: Head

    def shown(self, features: np.ndarray) -> np.ndarray:
        """Return what the head is shown of features (n, d)."""
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        inner = torch.from_numpy(features) @ weight.T + bias
        return np.asarray(ACTIVATIONS[self.activation](inner).numpy())


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    answer: Answer[Any],
    activation: str,
    validation: tuple[np.ndarray, np.ndarray],
    class_weights: Sequence[float] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    intercept: bool = True,
) -> Dense:
    """Train dense and output layer on features (n, d) with L-BFGS, and return those that validate best.

    `targets`, `class_weights` and `intercept` are as in `probing.fit`. The penalty, half of the strength times the
    squared weights of the output layer and the squared changes of the dense layer, both for standardised features, is
    added to the mean loss. Weaker ones are tried until one validates worse.
    """
    linear = answer.linear
    assert linear is not None
    center, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-6 * max(spread.max(), 1e-30), spread, np.inf)
    middle, unit = (targets.mean(), targets.std() or 1.0) if linear.numeric else (0.0, 1.0)

    def standard(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((values - center) / spread).astype(np.float32))

    inputs, held_out = standard(features), standard(validation[0])
    aims = torch.from_numpy((targets - middle) / unit if linear.numeric else targets)
    measure = answer.loss(class_weights)
    slope, lift = START[activation]
    width = features.shape[1]
    generator = torch.Generator().manual_seed(0)
    change = torch.zeros(width, width, requires_grad=True)
    bias = torch.full((width,), lift, requires_grad=True)
    # not from nothing: there the dense layer has no gradient
    output = (0.01 * torch.randn(answer.outputs, width, generator=generator)).requires_grad_()
    constant = torch.zeros(answer.outputs, requires_grad=intercept)
    unknowns = [change, bias, output, *([constant] if intercept else [])]

    def logits(values: torch.Tensor) -> torch.Tensor:
        inner = slope * (values + values @ change.T) + bias
        return ACTIVATIONS[activation](inner) @ output.T / slope + constant

    best: Dense | None = None
    tried: dict[tuple[str, float], float] = {}
    for strength in sorted(strengths, reverse=True):
        _minimise(unknowns, lambda: measure({"logits": logits(inputs)}, aims), (change, output), strength)
        with torch.no_grad():
            answers = logits(held_out).double().numpy() * unit + middle
        loss = tried[NAME, strength] = linear.loss(answers, validation[1])
        if best is not None and loss >= best.head.loss:
            break
        weight = slope * (np.eye(width) + change.detach().numpy()) / spread
        head = Head(
            output.detach().double().numpy() * unit / slope,
            constant.detach().double().numpy() * unit + middle,
            strength, NAME, loss, tried,
        )  # fmt: skip
        shift = bias.detach().numpy() - weight @ center
        best = Dense(weight.astype(np.float32), shift.astype(np.float32), activation, head)
    assert best is not None
    return best


def _minimise(
    unknowns: list[torch.Tensor], loss: Callable[[], torch.Tensor], penalised: Sequence[torch.Tensor], strength: float
) -> None:
    """Bring the unknowns to the optimum of loss and penalty, from where they are."""
    optimizer = torch.optim.LBFGS(
        unknowns, max_iter=STEPS, history_size=20, tolerance_grad=1e-5, tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total: torch.Tensor = loss() + 0.5 * strength * sum((part**2).sum() for part in penalised)
        total.backward()
        return total

    optimizer.step(closure)
