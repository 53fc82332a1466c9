"""From a model's outputs to the loss and to probabilities, by the kind of label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hftransfer.tasks.base import LabelKind, Labels

IGNORED = -100


def loss_function(
    labels: Labels, class_weights: Sequence[float] | None = None, smoothing: float = 0.0
) -> Callable[..., torch.Tensor]:
    """Return the `compute_loss_func` of a Trainer for this kind of label.

    The sum over the batch is divided by `num_items_in_batch`, which counts the whole accumulated batch over all
    processes: without it, Trainer multiplies the loss of most classification heads by accumulation steps and world
    size (https://github.com/huggingface/transformers/issues/47688).
    """
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        scale = None if weight is None else weight.to(logits.device)
        if labels.kind == "multi_label":
            aims = targets.float() * (1 - smoothing) + smoothing / 2
            total = functional.binary_cross_entropy_with_logits(logits, aims, pos_weight=scale, reduction="sum")
            count: Any = targets.numel()
        elif labels.kind == "regression":
            total = functional.mse_loss(logits.view(-1), targets.float().view(-1), reduction="sum")
            count = targets.numel()
        else:
            flat = targets.view(-1)
            total = functional.cross_entropy(
                logits.view(-1, logits.shape[-1]), flat, scale, reduction="sum", label_smoothing=smoothing,
                ignore_index=IGNORED,
            )  # fmt: skip
            count = (flat != IGNORED).sum().clamp(min=1)
        return total / (count if num_items_in_batch is None else num_items_in_batch)

    return loss


def balanced(counts: Sequence[int]) -> list[float]:
    """Return weights n / (k * n_class), 1 on average over the rows (King and Zeng 2001; scikit-learn's "balanced")."""
    present = [max(count, 1) for count in counts]
    return [sum(counts) / (len(counts) * count) for count in present]


def probabilities(kind: LabelKind, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities for logits of shape (..., k); a regression's numbers, shape (n,), pass unchanged."""
    logits = np.asarray(logits, dtype=np.float64)
    if kind == "regression":
        return logits.reshape(len(logits))
    logits = logits / temperature
    if kind == "multi_label":
        return 0.5 * (1 + np.tanh(logits / 2))  # the logistic function without overflow
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
